//! Writes an archive in each of its forms, under a hidden name first.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;
use time::OffsetDateTime;
use time::UtcOffset;
use zip::CompressionMethod;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::archive::error::ArchiveError;
use crate::archive::leftovers;
use crate::archive::manifest::MANIFEST_MEMBER;
use crate::archive::members::Member;
use crate::ids::Digest;
use crate::ids::ModelName;

/// The forms that an archive can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// `<name>.mar`, a compressed zip.
    #[default]
    Mar,
    /// `<name>.mar`, a zip that isn't compressed: quicker to open.
    ZipStore,
    /// `<name>.tar.gz`, all members below `<name>/`.
    Tgz,
    /// The folder `<name>`.
    Folder,
}

/// What to do if there is an archive of that name already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    #[default]
    Refuse,
    Replace,
}

/// All that the writer needs to know.
pub(super) struct Job<'a> {
    pub(super) target: &'a Path,
    pub(super) name: &'a ModelName,
    pub(super) format: ArchiveFormat,
    pub(super) existing: Existing,
    pub(super) created_on: OffsetDateTime,
    pub(super) manifest: &'a str,
    pub(super) sources: &'a BTreeMap<String, PathBuf>,
}

pub(super) struct Written {
    pub(super) size: u64,
    pub(super) members: Vec<Member>,
}

/// Hidden, so that neither a server nor its watcher takes a half-written archive for one.
const HIDDEN: &str = ".sconce-archive-";

/// Where the archive will be.
pub(super) fn target(export_path: &Path, name: &ModelName, format: ArchiveFormat) -> PathBuf {
    export_path.join(match format {
        ArchiveFormat::Mar | ArchiveFormat::ZipStore => format!("{name}.mar"),
        ArchiveFormat::Tgz => format!("{name}.tar.gz"),
        ArchiveFormat::Folder => name.to_string(),
    })
}

pub(super) fn write(job: &Job<'_>) -> Result<Written, ArchiveError> {
    if job.existing == Existing::Refuse && fs::symlink_metadata(job.target).is_ok() {
        return Err(job.already_exists());
    }
    leftovers::sweep(job.export_path(), HIDDEN);
    match job.format {
        ArchiveFormat::Mar => job.write_file(|file| job.zip(file, CompressionMethod::Deflated)),
        ArchiveFormat::ZipStore => job.write_file(|file| job.zip(file, CompressionMethod::Stored)),
        ArchiveFormat::Tgz => job.write_file(|file| job.tgz(file)),
        ArchiveFormat::Folder => job.write_folder(),
    }
}

// === impl Job ===

impl Job<'_> {
    fn write_file(
        &self,
        fill: impl FnOnce(&mut File) -> Result<Vec<Member>, ArchiveError>,
    ) -> Result<Written, ArchiveError> {
        if self.target.is_dir() {
            return Err(self.failed(&"a folder of that name is in the way"));
        }
        let mut file = tempfile::Builder::new()
            .prefix(HIDDEN)
            // What a file made by anyone gets; the default is for its owner only.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(self.export_path())
            .map_err(|e| self.failed(&e))?;
        let _held = leftovers::hold(file.path());
        let members = fill(file.as_file_mut())?;
        file.as_file().sync_all().map_err(|e| self.failed(&e))?;
        let size = file.as_file().metadata().map_err(|e| self.failed(&e))?.len();
        self.publish(file)?;
        Ok(Written { size, members })
    }

    fn publish(&self, file: NamedTempFile) -> Result<(), ArchiveError> {
        let published = match self.existing {
            Existing::Replace => file.persist(self.target),
            Existing::Refuse => file.persist_noclobber(self.target),
        };
        match published {
            Ok(_) => Ok(()),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(self.already_exists()),
            Err(e) => Err(self.failed(&e.error)),
        }
    }

    fn zip(&self, file: &mut File, method: CompressionMethod) -> Result<Vec<Member>, ArchiveError> {
        let mut zip = ZipWriter::new(BufWriter::new(file));
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(zip_time(self.created_on))
            .unix_permissions(0o644);
        let members = self.each_member(|name, size, content| {
            zip.start_file(name, options.large_file(size >= u64::from(u32::MAX))).map_err(|e| self.failed(&e))?;
            io::copy(content, &mut zip).map_err(|e| self.failed(&e))?;
            Ok(())
        })?;
        let mut rest = zip.finish().map_err(|e| self.failed(&e))?;
        rest.flush().map_err(|e| self.failed(&e))?;
        Ok(members)
    }

    fn tgz(&self, file: &mut File) -> Result<Vec<Member>, ArchiveError> {
        let gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
        let mut tar = tar::Builder::new(gzip);
        let seconds = u64::try_from(self.created_on.unix_timestamp()).unwrap_or(0);
        let members = self.each_member(|name, size, content| {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            header.set_mtime(seconds);
            tar.append_data(&mut header, format!("{}/{name}", self.name), content).map_err(|e| self.failed(&e))
        })?;
        let gzip = tar.into_inner().map_err(|e| self.failed(&e))?;
        let mut rest = gzip.finish().map_err(|e| self.failed(&e))?;
        rest.flush().map_err(|e| self.failed(&e))?;
        Ok(members)
    }

    /// Writes a folder beside its target and moves it there whole. A package of that
    /// name is moved away first, and back again if the second move fails.
    fn write_folder(&self) -> Result<Written, ArchiveError> {
        let replaced = fs::symlink_metadata(self.target).is_ok();
        if replaced && !self.target.join(MANIFEST_MEMBER).is_file() {
            return Err(ArchiveError::NotReplaceable { path: self.target.to_owned() });
        }
        let private =
            tempfile::Builder::new().prefix(HIDDEN).tempdir_in(self.export_path()).map_err(|e| self.failed(&e))?;
        let _held = leftovers::hold(private.path());
        let new = private.path().join("new");
        let old = private.path().join("old");
        let members = self.each_member(|name, _, content| {
            let path = new.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|e| self.failed(&e))?;
            }
            let mut file = File::create_new(&path).map_err(|e| self.failed(&e))?;
            io::copy(content, &mut file).map_err(|e| self.failed(&e))?;
            Ok(())
        })?;
        if replaced {
            fs::rename(self.target, &old).map_err(|e| self.failed(&e))?;
        }
        if let Err(e) = fs::rename(&new, self.target) {
            if replaced {
                fs::rename(&old, self.target).map_err(|e| {
                    // Better a hidden folder left behind than the user's files gone.
                    let kept = private.keep().join("old");
                    self.failed(&format!("{e}; the old folder is now {}", kept.display()))
                })?;
            }
            return Err(self.failed(&e));
        }
        let size = members.iter().map(|member| member.size).sum();
        Ok(Written { size, members })
    }

    /// Hands out each member with its size and content, the manifest first, then by name.
    fn each_member(
        &self,
        mut put: impl FnMut(&str, u64, &mut dyn Read) -> Result<(), ArchiveError>,
    ) -> Result<Vec<Member>, ArchiveError> {
        let mut members = Vec::with_capacity(self.sources.len() + 1);
        let text = self.manifest.as_bytes();
        let mut content = Hashed::new(text, text.len() as u64);
        put(MANIFEST_MEMBER, text.len() as u64, &mut content)?;
        members.push(content.member(MANIFEST_MEMBER));
        for (name, path) in self.sources {
            let failed = |source| ArchiveError::Io { doing: "read", path: path.clone(), cause: source };
            let file = File::open(path).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            let mut content = Hashed::new(file, size);
            let put = put(name, size, &mut content);
            // A tar whose member is shorter than its header says is broken.
            if content.inner.limit() > 0 && put.is_ok() {
                return Err(ArchiveError::SourceChanged { path: path.clone() });
            }
            put?;
            members.push(content.member(name));
        }
        Ok(members)
    }

    /// The folder that the target lies in; an empty one means the current folder.
    fn export_path(&self) -> &Path {
        match self.target.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }

    fn already_exists(&self) -> ArchiveError {
        ArchiveError::AlreadyExists { path: self.target.to_owned() }
    }

    fn failed(&self, detail: &dyn fmt::Display) -> ArchiveError {
        ArchiveError::Write { path: self.target.to_owned(), detail: detail.to_string() }
    }
}

/// Reads as many bytes as a file had when it was opened, and takes their digest on the way.
struct Hashed<R> {
    inner: io::Take<R>,
    size: u64,
    hasher: blake3::Hasher,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R, size: u64) -> Self {
        Self { inner: inner.take(size), size, hasher: blake3::Hasher::new() }
    }

    fn member(&self, name: &str) -> Member {
        Member { name: name.to_owned(), size: self.size, digest: Digest(*self.hasher.finalize().as_bytes()) }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A zip knows the years 1980 to 2107; what lies outside is dated 1980.
fn zip_time(time: OffsetDateTime) -> zip::DateTime {
    let time = time.to_offset(UtcOffset::UTC);
    u16::try_from(time.year())
        .ok()
        .and_then(|year| {
            let (month, day) = (u8::from(time.month()), time.day());
            let (hour, minute, second) = time.to_hms();
            zip::DateTime::from_date_and_time(year, month, day, hour, minute, second).ok()
        })
        .unwrap_or_default()
}
