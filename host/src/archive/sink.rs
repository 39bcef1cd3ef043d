//! Makes the files of an unpacked archive, and counts them against the limits.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use crate::archive::error::ArchiveError;
use crate::archive::error::MemberProblem;
use crate::archive::members::Member;
use crate::archive::members::member_name;
use crate::ids::Digest;

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files and folders; the default is 100,000.
    pub members: usize,
    /// Bytes of one file; the default is 16 GiB.
    pub member_bytes: u64,
    /// Bytes of all files together; the default is 64 GiB.
    pub total_bytes: u64,
    /// How many bytes one packed byte may become; the default is 200. Weights shrink
    /// by a third at best, text by 10; deflate's most is 1,032.
    pub ratio: u64,
    /// Below this many bytes the ratio isn't looked at; the default is 64 MiB.
    pub ratio_from: u64,
}

/// What is unpacked, counted and written at a time.
pub(super) const CHUNK: usize = 128 * 1024;

/// Makes files and folders, and counts.
pub(super) struct Sink<'a> {
    archive: &'a Path,
    folder: &'a Path,
    limits: &'a Limits,
    members: Vec<Member>,
    made: usize,
    total: u64,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { members: 100_000, member_bytes: 16 << 30, total_bytes: 64 << 30, ratio: 200, ratio_from: 64 << 20 }
    }
}

impl Limits {
    /// Whether so many bytes can't honestly have come from so few.
    pub(super) fn is_bomb(&self, unpacked: u64, packed: u64) -> bool {
        unpacked > self.ratio_from && unpacked > packed.saturating_mul(self.ratio)
    }
}

// === impl Sink ===

impl<'a> Sink<'a> {
    pub(super) fn new(archive: &'a Path, folder: &'a Path, limits: &'a Limits) -> Self {
        Self { archive, folder, limits, members: Vec::new(), made: 0, total: 0 }
    }

    pub(super) fn folder(&mut self, raw: &str) -> Result<(), ArchiveError> {
        let name = match member_name(raw) {
            Ok(name) => name,
            // "./", the folder itself.
            Err(MemberProblem::Nameless) => return Ok(()),
            Err(problem) => return Err(self.refused(raw, problem)),
        };
        self.count_one()?;
        self.make_folder(raw, &self.folder.join(name))
    }

    /// Writes one file; `is_bomb` is asked with the bytes of this file and of all so far.
    pub(super) fn file(
        &mut self,
        raw: &str,
        content: &mut dyn Read,
        is_bomb: &dyn Fn(u64, u64) -> bool,
    ) -> Result<(), ArchiveError> {
        let name = member_name(raw).map_err(|problem| self.refused(raw, problem))?;
        self.count_one()?;
        let path = self.folder.join(&name);
        if let Some(parent) = path.parent() {
            self.make_folder(raw, parent)?;
        }
        // `create_new` refuses a second file of that name, on any file system's terms.
        let mut file = File::create_new(&path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => self.refused(raw, MemberProblem::Duplicate),
            _ => self.io("write", &path, e),
        })?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = Vec::with_capacity(CHUNK);
        let mut size = 0;
        loop {
            buffer.clear();
            // Whole chunks, though a decoder gives what it has: large pieces are hashed several times as fast.
            let read = content.take(CHUNK as u64).read_to_end(&mut buffer).map_err(|e| {
                let detail = e.to_string();
                self.refused(raw, MemberProblem::Broken { detail })
            })?;
            if read == 0 {
                break;
            }
            size += read as u64;
            self.total += read as u64;
            if size > self.limits.member_bytes {
                let limit = self.limits.member_bytes;
                return Err(self.refused(raw, MemberProblem::TooLarge { limit }));
            }
            if self.total > self.limits.total_bytes {
                return Err(ArchiveError::TotalTooLarge {
                    archive: self.archive.to_owned(),
                    limit: self.limits.total_bytes,
                });
            }
            if is_bomb(size, self.total) {
                let ratio = self.limits.ratio;
                return Err(self.refused(raw, MemberProblem::Bomb { ratio }));
            }
            hasher.update(&buffer);
            file.write_all(&buffer).map_err(|e| self.io("write", &path, e))?;
        }
        self.members.push(Member { name, size, digest: Digest(*hasher.finalize().as_bytes()) });
        Ok(())
    }

    pub(super) fn finish(mut self) -> Vec<Member> {
        self.members.sort_by(|a, b| a.name.cmp(&b.name));
        self.members
    }

    fn make_folder(&self, raw: &str, path: &Path) -> Result<(), ArchiveError> {
        fs::create_dir_all(path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => self.refused(raw, MemberProblem::Duplicate),
            _ => self.io("make", path, e),
        })
    }

    fn count_one(&mut self) -> Result<(), ArchiveError> {
        self.made += 1;
        if self.made > self.limits.members {
            return Err(self.too_many());
        }
        Ok(())
    }

    pub(super) fn refused(&self, member: &str, problem: MemberProblem) -> ArchiveError {
        ArchiveError::Member { archive: self.archive.to_owned(), member: member.to_owned(), problem }
    }

    pub(super) fn broken(&self, detail: String) -> ArchiveError {
        ArchiveError::Broken { archive: self.archive.to_owned(), detail }
    }

    pub(super) fn too_many(&self) -> ArchiveError {
        ArchiveError::TooManyMembers { archive: self.archive.to_owned(), limit: self.limits.members }
    }

    pub(super) fn io(&self, doing: &'static str, path: &Path, source: io::Error) -> ArchiveError {
        ArchiveError::Io { doing, path: path.to_owned(), cause: source }
    }
}
