//! Looks at what lies there again and again, and takes only what has settled.
//!
//! Bytes are read once: a digest holds for as long as the file's metadata stays the same and no event names it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use super::complete::looks_complete;
use super::listing::Item;
use super::listing::ItemFile;
use super::listing::Listing;
use super::listing::Mark;
use super::listing::Stamp;
use super::watcher::Hint;
use crate::archive::Member;
use crate::archive::digest_of;
use crate::ids::Digest;

/// What is known of the files so far.
#[derive(Debug)]
pub(super) struct Survey {
    /// For so long an item must have stayed as it is.
    settle: Duration,
    items: HashMap<PathBuf, Mark>,
    moving: HashMap<PathBuf, Moving>,
    files: HashMap<PathBuf, Known>,
    /// Set by another thread to end the reading of a long file.
    stop: Arc<AtomicBool>,
}

/// What a look has shown.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) listing: Listing,
    /// When to look again even without a hint: something will have settled then.
    pub(super) next: Option<Instant>,
}

/// An item that changed a moment ago.
#[derive(Debug)]
struct Moving {
    stamps: Vec<Stamp>,
    since: Instant,
}

/// The digest of a file.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    digest: Digest,
    /// The file was old when it was read, so that a write since shows in its stamp.
    firm: bool,
}

/// An item can't be taken yet; when to try again without a hint.
struct NotYet(Option<Instant>);

/// So much longer an item is waited for that looks incomplete. Then it is taken as it is, so that somebody says what is wrong with it.
const COMPLETION: Duration = Duration::from_secs(2);

/// No file system's clock is coarser.
const CLOCK_TICK: Duration = Duration::from_secs(2);

const BUFFER: usize = 128 * 1024;

// === impl Survey ===

impl Survey {
    pub(super) fn new(settle: Duration, stop: Arc<AtomicBool>) -> Self {
        Self { settle, items: HashMap::new(), moving: HashMap::new(), files: HashMap::new(), stop }
    }

    /// Looks at all items; those that are `wanted` are read where their bytes may have changed.
    pub(super) fn look(&mut self, items: Vec<Item>, wanted: impl Fn(&Item) -> bool, hint: &Hint, now: Instant) -> Look {
        let mut look = Look { listing: Listing::default(), next: None };
        let mut here = HashSet::new();
        let mut files_here = HashSet::new();
        for item in items {
            here.insert(item.path.clone());
            // What can't be looked at went a moment ago, or will be made readable; both are events.
            let found = item.files().unwrap_or_default();
            files_here.extend(found.iter().map(|file| file.path.clone()));
            match self.take(&item, &found, wanted(&item), hint, now) {
                Ok(mark) => look.listing.insert(item, mark),
                Err(NotYet(next)) => {
                    look.listing.unsettled.insert(item.path);
                    look.next = look.next.into_iter().chain(next).min();
                }
            }
        }
        self.items.retain(|path, _| here.contains(path));
        self.moving.retain(|path, _| here.contains(path));
        self.files.retain(|path, _| files_here.contains(path));
        look
    }

    fn take(
        &mut self,
        item: &Item,
        found: &[ItemFile],
        wanted: bool,
        hint: &Hint,
        now: Instant,
    ) -> Result<Mark, NotYet> {
        if found.is_empty() {
            return Err(NotYet(None));
        }
        let stamps = stamps(found);
        let doubted = self.doubt(item, found, hint);
        if let Some(mark) = self.items.get(&item.path)
            && mark.stamps == stamps
            && (mark.digest.is_some() || !wanted)
        {
            self.moving.remove(&item.path);
            return Ok(mark.clone());
        }
        let begin = || Moving { stamps: stamps.clone(), since: now };
        let moving = self.moving.entry(item.path.clone()).or_insert_with(begin);
        if doubted || moving.stamps != stamps {
            *moving = begin();
        }
        let settled = moving.since + self.settle;
        if now < settled {
            return Err(NotYet(Some(settled)));
        }
        let given_up = settled + COMPLETION;
        if wanted && now < given_up && !found.iter().all(|file| is_complete(item, file)) {
            return Err(NotYet(Some(given_up)));
        }
        let digest = wanted.then(|| self.digest(item, found)).transpose().map_err(|_| NotYet(None))?;
        if item.files().map(|files| self::stamps(&files)).ok().as_ref() != Some(&stamps) {
            // It was written to while it was read. The next look sees other stamps, and waits anew.
            return Err(NotYet(Some(now + self.settle)));
        }
        self.moving.remove(&item.path);
        let mark = Mark { stamps, digest };
        self.items.insert(item.path.clone(), mark.clone());
        Ok(mark)
    }

    /// Forgets the bytes of files that a hint names: they may be others though the metadata is the same. Says whether there is one.
    fn doubt(&mut self, item: &Item, found: &[ItemFile], hint: &Hint) -> bool {
        let mut doubted = false;
        for file in found {
            let named = match hint {
                Hint::Look(paths) if paths.is_empty() => false,
                Hint::Look(paths) => {
                    let real = file.path.canonicalize();
                    real.is_ok_and(|real| paths.iter().any(|path| real.starts_with(path)))
                }
                Hint::Rescan => self.files.get(&file.path).is_some_and(|known| !known.firm),
            };
            if named {
                self.files.remove(&file.path);
                doubted = true;
            }
        }
        if doubted {
            self.items.remove(&item.path);
        }
        doubted
    }

    fn digest(&mut self, item: &Item, found: &[ItemFile]) -> io::Result<Digest> {
        let mut members = Vec::new();
        for file in found {
            let known = self.files.get(&file.path).filter(|known| known.stamp == file.stamp);
            let digest = match known {
                Some(known) => known.digest,
                None => {
                    let firm = is_old(&file.stamp);
                    let digest = read(&file.path, &self.stop)?;
                    self.files.insert(file.path.clone(), Known { stamp: file.stamp.clone(), digest, firm });
                    digest
                }
            };
            members.push(Member { name: file.stamp.name.clone(), size: file.stamp.size, digest });
        }
        match members.as_slice() {
            [only] if !item.path.is_dir() => Ok(only.digest),
            members => Ok(digest_of(members)),
        }
    }
}

fn stamps(files: &[ItemFile]) -> Vec<Stamp> {
    files.iter().map(|file| file.stamp.clone()).collect()
}

/// In a folder, an empty file is one that is meant to be empty.
fn is_complete(item: &Item, file: &ItemFile) -> bool {
    let meant = file.stamp.size == 0 && file.path != item.path;
    meant || looks_complete(&file.path).unwrap_or(false)
}

/// Whether the file has been left alone for longer than a clock's tick, by the clock of this machine or, where that differs much, of another.
fn is_old(stamp: &Stamp) -> bool {
    let changed = Duration::from_secs(u64::try_from(stamp.changed.0).unwrap_or(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.abs_diff(changed) > CLOCK_TICK
}

fn read(path: &Path, stop: &AtomicBool) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    while !stop.load(Ordering::Relaxed) {
        let size = file.read(&mut buffer)?;
        if size == 0 {
            return Ok(Digest(*hasher.finalize().as_bytes()));
        }
        hasher.update(&buffer[..size]);
    }
    Err(io::Error::other("nobody waits for it any more"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::listing::ItemKind;
    use super::*;

    const SETTLE: Duration = Duration::from_millis(100);

    /// One file, looked at by a clock of its own.
    struct Bench {
        _folder: tempfile::TempDir,
        path: PathBuf,
        survey: Survey,
        start: Instant,
    }

    impl Bench {
        fn new(bytes: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().canonicalize().unwrap().join("a.so");
            fs::write(&path, bytes).unwrap();
            let survey = Survey::new(SETTLE, Arc::default());
            Self { _folder: folder, path, survey, start: Instant::now() }
        }

        fn named(&self) -> Hint {
            Hint::Look(vec![self.path.clone()])
        }

        /// The digest it is taken with so many milliseconds after the start, or when to look again.
        fn look(&mut self, hint: &Hint, millis: u64) -> Result<Digest, Option<u64>> {
            let item = Item { path: self.path.clone(), kind: ItemKind::Library };
            let look = self.survey.look(vec![item], |_| true, hint, self.start + Duration::from_millis(millis));
            let next = look.next.map(|next| u64::try_from((next - self.start).as_millis()).unwrap());
            match look.listing.libraries.get(&self.path) {
                Some(mark) => Ok(mark.digest.unwrap()),
                None => Err(next),
            }
        }
    }

    fn digest(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    fn nothing() -> Hint {
        Hint::Look(Vec::new())
    }

    #[test]
    fn a_file_counts_once_it_has_been_left_alone() {
        let mut bench = Bench::new(b"one");
        assert_eq!(bench.look(&Hint::Rescan, 0), Err(Some(100)));
        assert_eq!(bench.look(&nothing(), 99), Err(Some(100)));
        fs::write(&bench.path, b"three").unwrap();
        assert_eq!(bench.look(&bench.named(), 99), Err(Some(199)));
        // A hint alone makes it wait: the bytes may be others in the same tick of the clock.
        assert_eq!(bench.look(&bench.named(), 150), Err(Some(250)));
        assert_eq!(bench.look(&nothing(), 250), Ok(digest(b"three")));
        assert_eq!(bench.look(&nothing(), 251), Ok(digest(b"three")));
    }

    #[test]
    fn bytes_that_change_behind_the_same_metadata_are_seen_where_a_hint_names_the_file() {
        let mut bench = Bench::new(b"one");
        bench.look(&nothing(), 0).unwrap_err();
        assert_eq!(bench.look(&nothing(), 100), Ok(digest(b"one")));
        // As if it had been read before a write within one tick of the clock.
        let known = bench.survey.files.get_mut(&bench.path).unwrap();
        known.digest = digest(b"two");
        known.firm = true;
        bench.survey.items.get_mut(&bench.path).unwrap().digest = Some(digest(b"two"));
        assert_eq!(bench.look(&Hint::Rescan, 200), Ok(digest(b"two")), "an old file is not read again");
        assert_eq!(bench.look(&bench.named(), 300), Err(Some(400)));
        assert_eq!(bench.look(&nothing(), 400), Ok(digest(b"one")));
        // A young file is read again by a look at everything.
        bench.survey.files.get_mut(&bench.path).unwrap().firm = false;
        assert_eq!(bench.look(&Hint::Rescan, 500), Err(Some(600)));
    }

    #[test]
    fn a_file_that_looks_incomplete_is_waited_for_but_not_for_ever() {
        let mut bench = Bench::new(b"ELF half");
        bench.look(&nothing(), 0).unwrap_err();
        assert_eq!(bench.look(&nothing(), 100), Err(Some(2100)));
        assert_eq!(bench.look(&nothing(), 2099), Err(Some(2100)));
        assert_eq!(bench.look(&nothing(), 2100), Ok(digest(b"ELF half")));
        fs::write(&bench.path, b"").unwrap();
        bench.look(&nothing(), 3000).unwrap_err();
        assert_eq!(bench.look(&nothing(), 3100), Err(Some(5100)));
        fs::write(&bench.path, b"whole").unwrap();
        assert_eq!(bench.look(&nothing(), 3200), Err(Some(3300)));
        assert_eq!(bench.look(&nothing(), 3300), Ok(digest(b"whole")));
    }

    #[test]
    fn what_is_gone_or_not_wanted_is_not_read() {
        let mut bench = Bench::new(b"one");
        let item = Item { path: bench.path.clone(), kind: ItemKind::Archive };
        let later = bench.start + SETTLE;
        bench.survey.look(vec![item.clone()], |_| false, &nothing(), bench.start);
        let listing = bench.survey.look(vec![item], |_| false, &nothing(), later).listing;
        assert_eq!(listing.archives[&bench.path].digest, None);
        assert!(bench.survey.files.is_empty());
        fs::remove_file(&bench.path).unwrap();
        assert_eq!(bench.look(&bench.named(), 200), Err(None));
        bench.survey.look(Vec::new(), |_| true, &nothing(), later);
        assert!(bench.survey.items.is_empty());
    }

    #[test]
    fn a_folder_is_read_only_where_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("weights.pt"), "weights").unwrap();
        fs::write(path.join("names.json"), "1").unwrap();
        fs::write(path.join("empty"), "").unwrap();
        let mut survey = Survey::new(Duration::ZERO, Arc::default());
        let mut look = || {
            let item = Item { path: path.clone(), kind: ItemKind::Archive };
            let listing = survey.look(vec![item], |_| true, &nothing(), Instant::now()).listing;
            listing.archives[&path].digest.unwrap()
        };
        let first = look();
        assert_eq!(look(), first);
        fs::write(path.join("names.json"), "22").unwrap();
        let second = look();
        assert_ne!(second, first);
        fs::rename(path.join("names.json"), path.join("words.json")).unwrap();
        assert_ne!(look(), second);
        fs::rename(path.join("words.json"), path.join("names.json")).unwrap();
        assert_eq!(look(), second);
    }
}
