//! How far a long step is: a bar for a person at a terminal, a line now and then for a log.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Progress of one step that is measured in bytes.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    total: Option<u64>,
    done: u64,
    started: Instant,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// A step whose total may come later.
    pub(crate) fn start(label: impl Into<String>, total: Option<u64>) -> Self {
        let label = label.into();
        let started = Instant::now();
        let form = if std::io::stdout().is_terminal() {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stdout());
            bar.set_style(style(total));
            bar.set_message(label.clone());
            Form::Bar(bar)
        } else {
            println!("  {label} …");
            Form::Lines { last: started }
        };
        Self { label, total, done: 0, started, form }
    }

    pub(crate) fn set_total(&mut self, total: u64) {
        self.total = Some(total);
        if let Form::Bar(bar) = &self.form {
            bar.set_length(total);
            bar.set_style(style(self.total));
        }
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.set(self.done + bytes);
    }

    pub(crate) fn set(&mut self, done: u64) {
        self.done = done;
        match &mut self.form {
            Form::Bar(bar) => bar.set_position(done),
            Form::Lines { last } if last.elapsed() >= BETWEEN_LINES => {
                *last = Instant::now();
                println!("  {}: {}", self.label, amount(done, self.total));
            }
            Form::Lines { .. } => {}
        }
    }

    /// Replaces the bar by one line that says what was done and how long it took.
    pub(crate) fn finish(self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
        println!(
            "  {}: {} in {:.1} s",
            self.label,
            amount(self.total.unwrap_or(self.done), None),
            self.started.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // After a failure the message shall not share its line with half a bar.
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

fn style(total: Option<u64>) -> ProgressStyle {
    let template = match total {
        Some(_) => "  {msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
        None => "  {msg} … {decimal_bytes}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Megabytes as package tools count them, in tens to the sixth.
fn amount(done: u64, total: Option<u64>) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    match total {
        Some(total) => format!("{:.0} of {:.0} MB", megabytes(done), megabytes(total)),
        None => format!("{:.1} MB", megabytes(done)),
    }
}
