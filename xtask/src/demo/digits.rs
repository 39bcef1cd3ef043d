//! Ten pictures, two models, and what they answered.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::picture;
use crate::http::Client;

/// The model as TorchScript.
pub(crate) const SCRIPTED: &str = "mnist";
/// The same weights, in an architecture that the handler builds.
pub(crate) const STATE_DICT: &str = "mnist_state_dict";
/// The digit that is drawn in the terminal.
pub(crate) const SHOWN: u8 = 7;

/// What one model said, and how long it took over HTTP.
#[derive(Debug)]
struct Reply {
    said: String,
    took: Duration,
}

/// One picture and both replies.
#[derive(Debug)]
struct Row {
    digit: u8,
    scripted: Reply,
    state_dict: Reply,
}

/// Posts every digit to both models, shows the answers, and counts the wrong ones.
pub(crate) fn ask(address: &str, folder: &Path) -> Result<usize> {
    let client = Client::new();
    let mut rows = Vec::new();
    for digit in 0..10 {
        let file = folder.join(format!("{digit}.png"));
        let picture = fs::read(&file).with_context(|| format!("{} can't be read", file.display()))?;
        rows.push(Row {
            digit,
            scripted: predict(&client, address, SCRIPTED, &picture)?,
            state_dict: predict(&client, address, STATE_DICT, &picture)?,
        });
    }
    if let Some(row) = rows.iter().find(|row| row.digit == SHOWN) {
        let drawn = picture::lines(&folder.join(format!("{SHOWN}.png")))?;
        println!("{}\n", beside(&drawn, row));
    }
    println!("{}", table(&rows));
    Ok(rows.iter().map(Row::wrong).sum())
}

// === impl Reply, Row ===

impl Reply {
    fn milliseconds(&self) -> f64 {
        self.took.as_secs_f64() * 1e3
    }
}

impl Row {
    fn is_right(&self, reply: &Reply) -> bool {
        reply.said == self.digit.to_string()
    }

    fn wrong(&self) -> usize {
        [&self.scripted, &self.state_dict].into_iter().filter(|reply| !self.is_right(reply)).count()
    }
}

fn predict(client: &Client, address: &str, model: &str, picture: &[u8]) -> Result<Reply> {
    let url = format!("{address}/predictions/{model}");
    let started = Instant::now();
    let answer = client.post(&url, "image/png", picture)?;
    let took = started.elapsed();
    if answer.status != 200 {
        bail!("POST {url} answered {}: {}", answer.status, answer.body.trim());
    }
    Ok(Reply { said: answer.body.trim().to_owned(), took })
}

/// The drawn digit, with the request and its answer at its right side.
fn beside(drawn: &[String], row: &Row) -> String {
    let texts = [
        format!("POST /predictions/{SCRIPTED}   ({SHOWN}.png)"),
        format!("answer: {}   ({:.1} ms)", row.scripted.said, row.scripted.milliseconds()),
    ];
    let first = drawn.len().saturating_sub(texts.len()) / 2;
    drawn
        .iter()
        .enumerate()
        .map(|(index, line)| {
            let text = index.checked_sub(first).and_then(|index| texts.get(index));
            let line = format!("  {line}   {}", text.map_or("", String::as_str));
            line.trim_end().to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn table(rows: &[Row]) -> String {
    let cell = |row: &Row, reply: &Reply| {
        let mark = if row.is_right(reply) { "" } else { " wrong" };
        format!("{:10} {:7.1} ms", format!("{}{mark}", reply.said), reply.milliseconds())
    };
    let mut lines = vec![format!("  {:6}   {:21}   {}", "file", "TorchScript", "state dict")];
    lines.extend(rows.iter().map(|row| {
        format!("  {:6}   {}   {}", format!("{}.png", row.digit), cell(row, &row.scripted), cell(row, &row.state_dict))
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::stand_in;

    fn row(digit: u8, scripted: &str) -> Row {
        let reply = |said: &str| Reply { said: said.to_owned(), took: Duration::from_micros(1_250) };
        Row { digit, scripted: reply(scripted), state_dict: reply(&digit.to_string()) }
    }

    #[test]
    fn wrong_answers_are_marked_and_counted() {
        let rows = [row(3, "3"), row(4, "9")];
        let wrong: usize = rows.iter().map(Row::wrong).sum();
        assert_eq!(wrong, 1);
        assert_eq!(
            table(&rows),
            "  file     TorchScript             state dict\n  \
             3.png    3              1.2 ms   3              1.2 ms\n  \
             4.png    9 wrong        1.2 ms   4              1.2 ms"
        );
    }

    #[test]
    fn the_answer_stands_beside_the_picture() {
        let drawn = ["█  ", " ▀ ", "  ▄", "   "].map(String::from);
        assert_eq!(
            beside(&drawn, &row(7, "7")),
            "  █\n   ▀    POST /predictions/mnist   (7.png)\n    ▄   answer: 7   (1.2 ms)\n"
        );
    }

    #[test]
    fn digits_are_posted_to_both_models() {
        let folder = tempfile::tempdir().unwrap();
        for digit in 0..10_u8 {
            // The stand-in answers with the last digit of the file's length.
            let file = fs::File::create(folder.path().join(format!("{digit}.png"))).unwrap();
            let mut encoder = png::Encoder::new(&file, 1, 1);
            encoder.set_color(png::ColorType::Grayscale);
            let mut writer = encoder.write_header().unwrap();
            writer.write_image_data(&[digit]).unwrap();
            writer.finish().unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length + (10 + u64::from(digit) - length % 10) % 10).unwrap();
        }
        assert_eq!(ask(&stand_in(), folder.path()).unwrap(), 0);

        fs::rename(folder.path().join("1.png"), folder.path().join("2.png")).unwrap();
        let message = ask(&stand_in(), folder.path()).unwrap_err();
        assert!(format!("{message:#}").contains("1.png can't be read"));
    }
}
