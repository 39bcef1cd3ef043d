//! What a client that asks for a model is told of an archive: which kind of error it is, and a text without our paths.
//!
//! The first words of each text are TorchServe's, which clients know; ours explain them.

use std::path::Path;

use crate::archive::error::ArchiveError;

/// The kinds of error that the management API tells apart, by the exceptions of TorchServe that stand for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFault {
    /// `ModelNotFoundException`, 404: there is no such archive, or none that may be named.
    NotFound,
    /// `InvalidModelException`, 400: the archive can't be served as it is.
    Invalid,
    /// `DownloadArchiveException`, 400: it couldn't be fetched.
    Download,
    /// `InternalServerException`, 500: it can't be put where archives go, or be unpacked from there.
    Internal,
}

// === impl ArchiveError ===

impl ArchiveError {
    /// Which kind of error it is to a client of the management API.
    pub fn fault(&self) -> ArchiveFault {
        match self {
            Self::EmptyUrl | Self::RelativePath { .. } | Self::UrlNotAllowed { .. } | Self::ModelNotFound { .. } => {
                ArchiveFault::NotFound
            }
            Self::DownloadFailed { .. } => ArchiveFault::Download,
            Self::BadManifest { .. }
            | Self::BadRuntime { .. }
            | Self::NoModelEntry { .. }
            | Self::NoModelName { .. }
            | Self::ModelName(_)
            | Self::BadModelConfig { .. }
            | Self::BadHandler { .. }
            | Self::MissingMember { .. } => ArchiveFault::Invalid,
            // TorchServe finds no manifest in a zip that is none, and asks for the model's name.
            Self::NotAnArchive { path: archive } | Self::Broken { archive, .. } if is_mar(archive) => {
                ArchiveFault::Invalid
            }
            Self::NotAnArchive { .. }
            | Self::Broken { .. }
            | Self::Member { .. }
            | Self::TotalTooLarge { .. }
            | Self::TooManyMembers { .. }
            | Self::FileExists { .. }
            | Self::Io { .. }
            | Self::SourceNotFound { .. }
            | Self::NotAFile { .. }
            | Self::LibraryNotFound { .. }
            | Self::Collision { .. }
            | Self::BadPattern { .. }
            | Self::AlreadyExists { .. }
            | Self::NotReplaceable { .. }
            | Self::ExportPathNotAFolder { .. }
            | Self::SourceChanged { .. }
            | Self::Write { .. } => ArchiveFault::Internal,
        }
    }

    /// The text for the client that asked for `url`; the log gets the error itself, which says where the file lies.
    pub fn client_text(&self, url: &str) -> String {
        let unsaved = |why: &str| format!("Failed to save model: {url}. {why}");
        let broken = |path: &Path, why: String| match is_mar(path) {
            true => format!("{url} can't be opened: {why}"),
            false => unsaved(&format!("The archive can't be opened: {why}")),
        };
        match self {
            Self::BadManifest { detail, .. } => {
                format!(
                    "Failed to parse signature.json. MAR-INF/MANIFEST.json of {url} can't be read: {detail}. Correct it, or build the archive again."
                )
            }
            Self::BadRuntime { runtime, .. } => {
                format!(
                    "Runtime is not defined or invalid. The manifest of {url} names {runtime:?}: use python, python3 or LSP."
                )
            }
            Self::NoModelEntry { .. } => {
                format!(
                    "Missing Model entry in manifest file. Its \"model\" is not a JSON object: build the archive {url} again."
                )
            }
            Self::NoModelName { .. } => {
                "Model name is not defined. Give model_name, or pack the archive again with --model-name.".to_owned()
            }
            Self::MissingMember { role, member, present, .. } => {
                format!("{url} names {member:?} as its {role}, but has no such member; it has: {present}")
            }
            Self::BadModelConfig { line, column, detail, .. } => {
                let place = match (line, column) {
                    (Some(line), Some(column)) => format!(", line {line}, column {column},"),
                    _ => String::new(),
                };
                format!("The model config of {url}{place} can't be read: {detail}")
            }
            Self::NotAnArchive { path } => {
                broken(path, "it is neither a zip nor a gzipped tar; build it again with `sconce archive`.".to_owned())
            }
            Self::Broken { archive, detail } => {
                broken(archive, format!("it is broken or cut short ({detail}); copy it or build it again."))
            }
            Self::Member { member, problem, .. } => unsaved(&format!("Its member {member:?} {problem}.")),
            Self::TotalTooLarge { limit, .. } => {
                unsaved(&format!("It unpacks to more than the {limit} bytes allowed for one archive."))
            }
            Self::TooManyMembers { limit, .. } => unsaved(&format!("It has more than the {limit} members allowed.")),
            Self::EmptyUrl
            | Self::RelativePath { .. }
            | Self::UrlNotAllowed { .. }
            | Self::ModelNotFound { .. }
            | Self::DownloadFailed { .. }
            | Self::FileExists { .. }
            | Self::ModelName(_)
            | Self::BadHandler { .. } => self.to_string(),
            Self::Io { doing, cause, .. } => unsaved(&format!("The server can't {doing} its files: {cause}.")),
            Self::SourceNotFound { .. }
            | Self::NotAFile { .. }
            | Self::LibraryNotFound { .. }
            | Self::Collision { .. }
            | Self::BadPattern { .. }
            | Self::AlreadyExists { .. }
            | Self::NotReplaceable { .. }
            | Self::ExportPathNotAFolder { .. }
            | Self::SourceChanged { .. }
            | Self::Write { .. } => unsaved("The log says why."),
        }
    }
}

/// What TorchServe unpacks as a zip; all else it takes for a gzipped tar.
fn is_mar(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "mar")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::archive::MemberProblem;

    #[test]
    fn each_error_has_its_kind_and_its_first_words() {
        let at = |name: &str| PathBuf::from("/srv/secret").join(name);
        let (url, archive) = (|| "m.mar".to_owned(), || at("m.mar"));
        let detail = || "EOF".to_owned();
        let escapes =
            ArchiveError::Member { archive: archive(), member: "../x".to_owned(), problem: MemberProblem::Escapes };
        for (error, fault, text) in [
            (ArchiveError::EmptyUrl, ArchiveFault::NotFound, "empty url"),
            (
                ArchiveError::RelativePath { url: url() },
                ArchiveFault::NotFound,
                "Relative path is not allowed in url: m.mar",
            ),
            (
                ArchiveError::UrlNotAllowed { url: url() },
                ArchiveFault::NotFound,
                "Given URL m.mar does not match any allowed URL(s)",
            ),
            (ArchiveError::ModelNotFound { url: url() }, ArchiveFault::NotFound, "Model not found at: m.mar"),
            (
                ArchiveError::DownloadFailed { url: url(), cause: "no route".to_owned() },
                ArchiveFault::Download,
                "Failed to download archive from: m.mar (no route)",
            ),
            (ArchiveError::FileExists { file: url() }, ArchiveFault::Internal, "Model file already exists m.mar"),
            (
                ArchiveError::BadManifest { archive: archive(), detail: detail() },
                ArchiveFault::Invalid,
                "Failed to parse signature.json. MAR-INF/MANIFEST.json of m.mar can't be read: EOF.",
            ),
            (
                ArchiveError::BadRuntime { archive: archive(), runtime: "java".to_owned() },
                ArchiveFault::Invalid,
                "Runtime is not defined or invalid. The manifest of m.mar names \"java\"",
            ),
            (
                ArchiveError::NoModelEntry { archive: archive() },
                ArchiveFault::Invalid,
                "Missing Model entry in manifest file.",
            ),
            (
                ArchiveError::NoModelName { archive: archive() },
                ArchiveFault::Invalid,
                "Model name is not defined. Give model_name",
            ),
            (escapes, ArchiveFault::Internal, "Failed to save model: m.mar. Its member \"../x\" would land outside"),
            (
                ArchiveError::Broken { archive: archive(), detail: detail() },
                ArchiveFault::Invalid,
                "m.mar can't be opened: it is broken or cut short (EOF)",
            ),
            (
                ArchiveError::Broken { archive: at("m.tar.gz"), detail: detail() },
                ArchiveFault::Internal,
                "Failed to save model: m.mar. The archive can't be opened: it is broken or cut short (EOF)",
            ),
            (
                ArchiveError::NotAnArchive { path: at("m.model") },
                ArchiveFault::Internal,
                "Failed to save model: m.mar. The archive can't be opened: it is neither",
            ),
            (
                ArchiveError::TooManyMembers { archive: archive(), limit: 7 },
                ArchiveFault::Internal,
                "Failed to save model: m.mar. It has more than the 7 members allowed.",
            ),
        ] {
            assert_eq!(error.fault(), fault, "{error}");
            let told = error.client_text("m.mar");
            assert!(told.starts_with(text), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
