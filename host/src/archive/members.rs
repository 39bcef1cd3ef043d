//! The files of a package: their names, their order and what identifies them.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::archive::error::ArchiveError;
use crate::archive::error::MemberProblem;
use crate::ids::Digest;

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Relative to the package's root, with `/` between folders.
    pub name: String,
    /// In bytes, unpacked.
    pub size: u64,
    pub digest: Digest,
}

/// A file found below a folder.
#[derive(Debug, Clone)]
pub struct Found {
    /// As a [`Member`] has it.
    pub name: String,
    pub path: PathBuf,
}

/// Deeper than any model's folder; what goes deeper goes in circles.
const DEEPEST: usize = 32;

/// The digest of a package: of all names and contents, whatever order or form they were stored in.
pub fn digest_of(members: &[Member]) -> Digest {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hasher = blake3::Hasher::new();
    for member in sorted {
        // The length first, so that no two lists of members read the same.
        hasher.update(&(member.name.len() as u64).to_le_bytes());
        hasher.update(member.name.as_bytes());
        hasher.update(&member.digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// All files below a folder, sorted by name, without the folders no model needs:
/// hidden ones, `__pycache__` and `__MACOSX`, as TorchServe's archiver leaves them out.
/// Symbolic links are followed: a folder is its operator's, and weights are often links.
pub(super) fn walk(folder: &Path) -> Result<Vec<Found>, ArchiveError> {
    let mut found = Vec::new();
    walk_into(folder, "", 0, &mut found)?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn walk_into(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<Found>) -> Result<(), ArchiveError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ArchiveError::Io { doing: "read", path, cause: source }
    };
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let file_name = path.file_name().unwrap_or_default().to_owned();
        let refused = |problem| ArchiveError::Member {
            archive: folder.to_owned(),
            member: file_name.to_string_lossy().into_owned(),
            problem,
        };
        let name = file_name.to_str().ok_or_else(|| refused(MemberProblem::NotUtf8))?;
        let kind = fs::metadata(&path).map_err(failed(&path))?;
        if kind.is_dir() {
            if is_unwanted_folder(name) {
                continue;
            }
            if depth == DEEPEST {
                return Err(refused(MemberProblem::TooDeep));
            }
            walk_into(&path, &format!("{prefix}{name}/"), depth + 1, found)?;
        } else if kind.is_file() {
            let name = member_name(&format!("{prefix}{name}")).map_err(refused)?;
            found.push(Found { name, path });
        } else {
            return Err(ArchiveError::NotAFile { path });
        }
    }
    Ok(())
}

pub(super) fn is_unwanted_folder(name: &str) -> bool {
    name.starts_with('.') || name == "__pycache__" || name == "__MACOSX"
}

/// Takes a name from outside as the name of a member, in one spelling, or says
/// why it can't be one. The result always stays below the folder it is joined to.
pub(super) fn member_name(raw: &str) -> Result<String, MemberProblem> {
    if raw.contains('\\') {
        return Err(MemberProblem::Backslash);
    }
    if raw.chars().any(char::is_control) {
        return Err(MemberProblem::ControlCharacter);
    }
    let mut chars = raw.chars();
    let drive = chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':');
    if raw.starts_with('/') || drive {
        return Err(MemberProblem::Absolute);
    }
    let parts: Vec<&str> = raw.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(MemberProblem::Escapes);
    }
    if parts.is_empty() {
        return Err(MemberProblem::Nameless);
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (raw, expected) in [
            ("m.pt", Ok("m.pt")),
            ("./a//b/./c", Ok("a/b/c")),
            ("..a/b..", Ok("..a/b..")),
            ("a b/ü.txt", Ok("a b/ü.txt")),
            ("../x", Err(MemberProblem::Escapes)),
            ("a/../../x", Err(MemberProblem::Escapes)),
            ("a/..", Err(MemberProblem::Escapes)),
            ("/etc/passwd", Err(MemberProblem::Absolute)),
            ("C:/x", Err(MemberProblem::Absolute)),
            ("..\\x", Err(MemberProblem::Backslash)),
            ("a\0b", Err(MemberProblem::ControlCharacter)),
            ("a\nb", Err(MemberProblem::ControlCharacter)),
            ("", Err(MemberProblem::Nameless)),
            ("./", Err(MemberProblem::Nameless)),
        ] {
            assert_eq!(member_name(raw), expected.map(str::to_owned), "{raw:?}");
        }
    }

    #[test]
    fn the_digest_is_of_names_and_contents_not_of_their_order() {
        let member = |name: &str, content: &[u8]| Member {
            name: name.to_owned(),
            size: content.len() as u64,
            digest: Digest(*blake3::hash(content).as_bytes()),
        };
        let (a, b) = (member("a", b"1"), member("b", b"2"));
        let both = digest_of(&[a.clone(), b.clone()]);
        assert_eq!(both, digest_of(&[b.clone(), a.clone()]));
        assert_ne!(both, digest_of(&[a]));
        assert_ne!(both, digest_of(&[member("a", b"2"), member("b", b"1")]));
    }
}
