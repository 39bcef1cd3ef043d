//! What can be wrong with an archive, each in one sentence: where, what, what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::ids::BadModelName;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("can't {doing} {}: {cause}", path.display())]
    Io { doing: &'static str, path: PathBuf, cause: io::Error },

    // --- opening ---
    #[error(
        "{} is neither a zip nor a gzipped tar nor a folder; build it again with `sconce archive`",
        path.display()
    )]
    NotAnArchive { path: PathBuf },
    #[error("{} is broken or cut short ({detail}); copy it or build it again", archive.display())]
    Broken { archive: PathBuf, detail: String },
    #[error("{}: member {member:?} {problem}", archive.display())]
    Member { archive: PathBuf, member: String, problem: MemberProblem },
    #[error(
        "{} unpacks to more than the {limit} bytes allowed for one archive; serve it from a folder instead",
        archive.display()
    )]
    TotalTooLarge { archive: PathBuf, limit: u64 },
    #[error(
        "{} has more than the {limit} members allowed; leave out what the handler doesn't read",
        archive.display()
    )]
    TooManyMembers { archive: PathBuf, limit: usize },

    // --- reading what is inside ---
    #[error(
        "the manifest of {} can't be read ({detail}); correct MAR-INF/MANIFEST.json or build the archive again",
        archive.display()
    )]
    BadManifest { archive: PathBuf, detail: String },
    #[error(
        "the manifest of {} can't be read (\"model\" is not a JSON object); correct MAR-INF/MANIFEST.json or build the archive again",
        archive.display()
    )]
    NoModelEntry { archive: PathBuf },
    #[error(
        "the manifest of {} has no model name; name the model when it is registered, or pack the archive again with --model-name",
        archive.display()
    )]
    NoModelName { archive: PathBuf },
    #[error(
        "the manifest of {} names the runtime {runtime:?}; use python, python3 or LSP",
        archive.display()
    )]
    BadRuntime { archive: PathBuf, runtime: String },
    #[error(
        "the model config {}{} can't be read: {detail}",
        file.display(),
        place(*line, *column)
    )]
    BadModelConfig { file: PathBuf, line: Option<u64>, column: Option<u64>, detail: String },
    #[error("{handler:?} can't be a handler: {detail}")]
    BadHandler { handler: String, detail: String },
    #[error(
        "{} names {member:?} as its {role}, but has no such member; it has: {present}",
        archive.display()
    )]
    MissingMember { archive: PathBuf, role: &'static str, member: String, present: String },

    // --- packing ---
    #[error(transparent)]
    ModelName(#[from] BadModelName),
    #[error("no such file for {role}: {}", path.display())]
    SourceNotFound { role: &'static str, path: PathBuf },
    #[error("{} is not a regular file, so it can't be packed; leave it out", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "no library for the handler {handler:?}; looked for {tried}; build it with `cargo build --release` and give its path"
    )]
    LibraryNotFound { handler: String, tried: String },
    #[error(
        "two files would become the member {member:?}: {} and {}; rename one of them",
        first.display(),
        second.display()
    )]
    Collision { member: String, first: PathBuf, second: PathBuf },
    #[error("{pattern:?} is not a file pattern: {detail}")]
    BadPattern { pattern: String, detail: String },
    #[error("{} already exists; give --force to overwrite it", path.display())]
    AlreadyExists { path: PathBuf },
    #[error(
        "{} is not a package made by an archiver (it has no MAR-INF/MANIFEST.json), so --force doesn't replace it; remove it or choose another --export-path",
        path.display()
    )]
    NotReplaceable { path: PathBuf },
    #[error("the export path {} is not a folder", path.display())]
    ExportPathNotAFolder { path: PathBuf },
    #[error("{} changed while it was being packed; try again when nothing writes to it", path.display())]
    SourceChanged { path: PathBuf },
    #[error("can't write {}: {detail}", path.display())]
    Write { path: PathBuf, detail: String },

    // --- the model store; the texts are the ones clients of TorchServe know ---
    #[error("empty url")]
    EmptyUrl,
    #[error("Relative path is not allowed in url: {url}")]
    RelativePath { url: String },
    #[error("Given URL {url} does not match any allowed URL(s)")]
    UrlNotAllowed { url: String },
    #[error("Model not found at: {url}")]
    ModelNotFound { url: String },
    #[error("Failed to download archive from: {url} ({cause})")]
    DownloadFailed { url: String, cause: String },
    #[error("Model file already exists {file}; remove it from the model store, or register {file} itself")]
    FileExists { file: String },
}

/// What is wrong with one member, and what to do; the end of a sentence that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberProblem {
    Escapes,
    Absolute,
    Backslash,
    ControlCharacter,
    NotUtf8,
    Nameless,
    Link,
    Special,
    Sparse,
    Encrypted,
    UnknownCompression,
    Duplicate,
    TooLarge { limit: u64 },
    Bomb { ratio: u64 },
    TooDeep,
    Broken { detail: String },
}

// === impl MemberProblem ===

impl fmt::Display for MemberProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escapes => f.write_str(
                "would land outside the package; build the archive again from inside the model's folder",
            ),
            Self::Absolute => {
                f.write_str("has an absolute path; build the archive again with relative paths")
            }
            Self::Backslash => f.write_str(
                "has a backslash in its name, which some systems read as a folder; rename it",
            ),
            Self::ControlCharacter => {
                f.write_str("has a control character in its name; rename it")
            }
            Self::NotUtf8 => f.write_str("has a name that is not UTF-8; rename it"),
            Self::Nameless => f.write_str("has no name; build the archive again"),
            Self::Link => f.write_str("is a link; pack the file it points to instead"),
            Self::Special => {
                f.write_str("is neither a file nor a folder; build the archive again without it")
            }
            Self::Sparse => f.write_str(
                "is stored as a sparse file; build the archive again without tar's --sparse",
            ),
            Self::Encrypted => {
                f.write_str("is encrypted; build the archive again without a password")
            }
            Self::UnknownCompression => f.write_str(
                "is compressed in a way that is neither deflate nor stored; build the archive again with `sconce archive`",
            ),
            Self::Duplicate => {
                f.write_str("is there twice, or is a file and a folder at once; rename one")
            }
            Self::TooLarge { limit } => write!(
                f,
                "is larger than the {limit} bytes allowed in an archive; serve it from a folder instead"
            ),
            Self::Bomb { ratio } => write!(
                f,
                "unpacks to more than {ratio} times its size, as zip bombs do; if it is meant, use --archive-format zip-store or no-archive"
            ),
            Self::TooDeep => f.write_str(
                "lies too many folders deep (a symbolic link to its own parent?); remove it",
            ),
            Self::Broken { detail } => {
                write!(f, "is broken ({detail}); copy the archive or build it again")
            }
        }
    }
}

fn place(line: Option<u64>, column: Option<u64>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(", line {line}, column {column},"),
        (Some(line), None) => format!(", line {line},"),
        _ => String::new(),
    }
}
