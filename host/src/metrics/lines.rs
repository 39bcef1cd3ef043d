//! Metrics as lines, in the form and in the files in which TorchServe writes them.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::error::MetricsError;

/// The two files of the mode `log`.
#[derive(Debug)]
pub(super) struct LineFiles {
    pub(super) host: LineFile,
    pub(super) model: LineFile,
}

/// A file that lines are added to; when it gets too large, another takes its name.
#[derive(Debug)]
pub(super) struct LineFile {
    whose: Whose,
    path: PathBuf,
    largest: u64,
    open: Mutex<Open>,
}

/// Whom the metrics of a file are about; each has a target of its own in the log, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Host,
    Model,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Whether it has been told that lines are lost.
    has_failed: bool,
}

/// As TorchServe's.
const LARGEST: u64 = 100 << 20;
const KEPT: u32 = 5;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second],[subsecond digits:3]");

// === impl LineFiles ===

impl LineFiles {
    /// Makes the folder and the files, where they aren't there.
    pub(super) fn open(folder: &Path) -> Result<Self, MetricsError> {
        let unwritable = |cause| MetricsError::Unwritable { path: folder.to_owned(), cause };
        fs::create_dir_all(folder).map_err(unwritable)?;
        let open = |whose, name: &str| LineFile::open(whose, folder.join(name), LARGEST).map_err(unwritable);
        Ok(Self { host: open(Whose::Host, "ts_metrics.log")?, model: open(Whose::Model, "model_metrics.log")? })
    }
}

// === impl LineFile ===

impl LineFile {
    fn open(whose: Whose, path: PathBuf, largest: u64) -> std::io::Result<Self> {
        let open = Mutex::new(Open::new(&path)?);
        Ok(Self { whose, path, largest, open })
    }

    /// `before` ends with the unit, `after` begins with the labels and ends with the host's name; `requests` are ids with commas between them.
    pub(super) fn write(&self, before: &str, value: f64, after: &str, requests: &str) {
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ids = if requests.is_empty() { String::new() } else { format!("requestID:{requests},") };
        // A value has a decimal point, whether or not it has decimals: it was a Java double.
        let message = format!("{before}:{value:?}{after},{ids}timestamp:{seconds}");
        match self.whose {
            Whose::Host => tracing::info!(target: "ts_metrics", "{message}"),
            Whose::Model => tracing::info!(target: "model_metrics", "{message}"),
        }
        let time = OffsetDateTime::from(now).format(TIME).unwrap_or_default();
        self.append(&format!("{time} - {message}\n"));
    }

    fn append(&self, line: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = open.append(line, &self.path, self.largest) {
            // Once: a full disk would else fill the log, too.
            if !open.has_failed {
                tracing::error!(file = %self.path.display(), %error, "metrics are lost");
            }
            open.has_failed = true;
        }
    }
}

// === impl Open ===

impl Open {
    fn new(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size, has_failed: false })
    }

    fn append(&mut self, line: &str, path: &Path, largest: u64) -> std::io::Result<()> {
        if self.size > 0 && self.size + line.len() as u64 > largest {
            for number in (1..KEPT).rev() {
                // One that isn't there yet needn't move.
                let _ = fs::rename(numbered(path, number), numbered(path, number + 1));
            }
            fs::rename(path, numbered(path, 1))?;
            *self = Self::new(path)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.size += line.len() as u64;
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_torchserve_s_form() {
        let folder = tempfile::tempdir().unwrap();
        let files = LineFiles::open(&folder.path().join("made")).unwrap();
        files.host.write("Requests2XX.Count", 1.0, "|#Level:Host|#hostname:h", "");
        files.model.write("HandlerTime.ms", 12.3, "|#ModelName:m,Level:Model|#hostname:h", "a,b");
        for (name, before) in [
            ("ts_metrics.log", " - Requests2XX.Count:1.0|#Level:Host|#hostname:h,timestamp:"),
            (
                "model_metrics.log",
                " - HandlerTime.ms:12.3|#ModelName:m,Level:Model|#hostname:h,requestID:a,b,timestamp:",
            ),
        ] {
            let text = fs::read_to_string(folder.path().join("made").join(name)).unwrap();
            let (time, rest) = text.split_at("2026-01-01T00:00:00,000".len());
            assert_eq!((&time[10..11], &time[19..20]), ("T", ","), "{text}");
            let seconds = rest.trim_end().strip_prefix(before).unwrap_or_else(|| panic!("{text}"));
            assert!(seconds.parse::<u64>().unwrap() > 0, "{text}");
        }
    }

    #[test]
    fn a_full_file_gives_way_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let file = LineFile::open(Whose::Host, path.clone(), 8).unwrap();
        for number in 0..9 {
            file.append(&format!("line {number}\n"));
        }
        let kept: Vec<String> = (1..=KEPT).map(|n| fs::read_to_string(numbered(&path, n)).unwrap()).collect();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 8\n");
        assert_eq!(kept, ["line 7\n", "line 6\n", "line 5\n", "line 4\n", "line 3\n"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
    }
}
