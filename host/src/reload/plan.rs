//! From what was seen before, what lies there now and what is served, to what has to be done.
//!
//! Only what is there and has changed is a reason to act, and a reason only once: whether an action succeeded isn't asked. So a refused build is not tried again before its bytes change, and what was rolled back stays so.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use super::listing::Listing;
use super::listing::Mark;
use crate::ids::ModelName;
use crate::ids::ModelVersion;
use crate::serving::Served;

/// What serving is told to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// The library of an endpoint may have other code: serve with what the plugins path has now.
    SwapHandler { name: ModelName, version: ModelVersion },
    /// An archive that is served has other bytes: serve what it holds now.
    TakeIn { archive: PathBuf },
    /// An archive should be served, and isn't.
    Add {
        archive: PathBuf,
        /// `None` takes the archive's own.
        name: Option<ModelName>,
        /// As the operator named it, or the file's name.
        url: String,
    },
}

/// An archive that is to be served though nobody has asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) archive: PathBuf,
    pub(super) name: Option<ModelName>,
    pub(super) url: String,
}

/// How the bytes at a path differ from those seen there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// There were none.
    New,
    Other,
}

pub(super) fn plan(seen: &Listing, now: &Listing, served: &[Served], expected: &[Expected]) -> Vec<Action> {
    let archives = changed(&seen.archives, &now.archives);
    let taken_in = archives
        .iter()
        // One that is seen for the first time was registered a moment ago, with these bytes.
        .filter(|(path, change)| *change == Change::Other && served.iter().any(|served| served.archive == *path))
        .map(|(path, _)| Action::TakeIn { archive: path.to_path_buf() });
    let added = expected
        .iter()
        .filter(|expected| archives.iter().any(|(path, _)| *path == expected.archive))
        .filter(|expected| !served.iter().any(|served| expected.is_met_by(served)))
        .map(|Expected { archive, name, url }| Action::Add {
            archive: archive.clone(),
            name: name.clone(),
            url: url.clone(),
        });
    let libraries = changed(&seen.libraries, &now.libraries);
    let swapped = served
        .iter()
        .filter(|served| served.by_name && needs_another(served, &libraries, now))
        .map(|served| Action::SwapHandler { name: served.name.clone(), version: served.version.clone() });
    taken_in.chain(added).chain(swapped).collect()
}

/// The paths whose bytes were never seen there.
fn changed<'a>(seen: &BTreeMap<PathBuf, Mark>, now: &'a BTreeMap<PathBuf, Mark>) -> Vec<(&'a Path, Change)> {
    now.iter()
        .filter_map(|(path, mark)| match seen.get(path) {
            None => Some((path.as_path(), Change::New)),
            Some(before) => (!before.is_same(mark)).then_some((path, Change::Other)),
        })
        .collect()
}

/// Whether any of the changed libraries may be the one that this endpoint should be served with.
fn needs_another(served: &Served, libraries: &[(&Path, Change)], now: &Listing) -> bool {
    let Some(own) = served.library.as_deref().filter(|_| served.ready) else {
        // Any of them may be what it lacks.
        return !libraries.is_empty();
    };
    // It may have been given another name. That others change while it is away is none of its concern: cargo removes a library before it links the new one.
    let is_gone = !now.libraries.contains_key(own) && !now.unsettled.contains(own);
    libraries.iter().any(|(path, change)| *path == own || (is_gone && *change == Change::New))
}

// === impl Expected ===

impl Expected {
    fn is_met_by(&self, served: &Served) -> bool {
        served.archive == self.archive && self.name.as_ref().is_none_or(|name| *name == served.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, each with a number for its bytes.
    type Files = &'static [(&'static str, u8)];

    /// What it is, the libraries before and now, those being written, what is served, and what is to be done.
    type LibraryCase = (&'static str, Files, Files, &'static [&'static str], Vec<Served>, Vec<Action>);

    /// What it is, the archives before and now, what is served, what should be, and what is to be done.
    type ArchiveCase = (&'static str, Files, Files, Vec<Served>, Vec<Expected>, Vec<Action>);

    fn listing(archives: Files, libraries: Files, unsettled: &[&str]) -> Listing {
        let marks = |files: Files| files.iter().map(|(name, bytes)| (name.into(), Mark::of_bytes(*bytes))).collect();
        Listing {
            archives: marks(archives),
            libraries: marks(libraries),
            unsettled: unsettled.iter().map(PathBuf::from).collect(),
        }
    }

    fn served(name: &str) -> Served {
        Served {
            name: ModelName::parse(name).unwrap(),
            version: ModelVersion::default(),
            ready: true,
            archive: format!("{name}.mar").into(),
            library: Some("a.so".into()),
            by_name: true,
        }
    }

    fn swap(name: &str) -> Action {
        Action::SwapHandler { name: ModelName::parse(name).unwrap(), version: ModelVersion::default() }
    }

    #[test]
    fn libraries() {
        let other = || Served { library: Some("b.so".into()), ..served("other") };
        let unready = || Served { ready: false, library: None, ..served("unready") };
        let packed = || Served { by_name: false, library: None, ready: false, ..served("packed") };
        let all = || vec![served("m"), other(), unready(), packed()];
        let failed = || vec![Served { ready: false, ..served("m") }];
        let cases: [LibraryCase; 14] = [
            ("nothing changed", &[("a.so", 1)], &[("a.so", 1)], &[], all(), vec![]),
            (
                "its own has other bytes",
                &[("a.so", 1)],
                &[("a.so", 2)],
                &[],
                vec![served("m"), other()],
                vec![swap("m")],
            ),
            (
                "what isn't ready takes any",
                &[("a.so", 1)],
                &[("a.so", 2)],
                &[],
                all(),
                vec![swap("m"), swap("unready")],
            ),
            ("a new one", &[], &[("c.so", 1)], &["a.so", "b.so"], all(), vec![swap("unready")]),
            (
                "a new one in place of its own",
                &[("a.so", 1)],
                &[("c.so", 2)],
                &["b.so"],
                all(),
                vec![swap("m"), swap("unready")],
            ),
            (
                "another that changed while its own is away",
                &[("a.so", 1), ("c.so", 1)],
                &[("c.so", 2)],
                &[],
                vec![served("m")],
                vec![],
            ),
            ("its own under another name", &[("a.so", 1)], &[("c.so", 1)], &[], vec![served("m")], vec![swap("m")]),
            ("its own is gone", &[("a.so", 1)], &[], &[], all(), vec![]),
            ("its own is being written", &[("a.so", 1)], &[("c.so", 2)], &["a.so"], vec![served("m")], vec![]),
            ("only others remain", &[("a.so", 1), ("c.so", 2)], &[("c.so", 2)], &[], vec![served("m")], vec![]),
            ("a failed one with its library mended", &[("a.so", 1)], &[("a.so", 2)], &[], failed(), vec![swap("m")]),
            (
                "a failed one with another library",
                &[("a.so", 1)],
                &[("a.so", 1), ("c.so", 1)],
                &[],
                failed(),
                vec![swap("m")],
            ),
            ("a failed one and nothing new", &[("a.so", 1)], &[("a.so", 1)], &[], failed(), vec![]),
            ("of no concern", &[("a.so", 1)], &[("a.so", 2)], &[], vec![other(), packed()], vec![]),
        ];
        for (what, before, now, unsettled, served, actions) in cases {
            let planned = plan(&listing(&[], before, &[]), &listing(&[], now, unsettled), &served, &[]);
            assert_eq!(planned, actions, "{what}");
        }
    }

    #[test]
    fn archives() {
        let expected = |archive: &str, name: Option<&str>| Expected {
            archive: archive.into(),
            name: name.map(|name| ModelName::parse(name).unwrap()),
            url: archive.to_owned(),
        };
        let add = |archive: &str, name: Option<&str>| {
            let Expected { archive, name, url } = expected(archive, name);
            Action::Add { archive, name, url }
        };
        let take_in = |archive: &str| Action::TakeIn { archive: archive.into() };
        let m = || vec![served("m")];
        let any = || vec![expected("m.mar", None), expected("n.mar", None)];
        let named = || vec![expected("m.mar", Some("m")), expected("m.mar", Some("twin"))];
        let cases: [ArchiveCase; 10] = [
            ("nothing changed", &[("m.mar", 1)], &[("m.mar", 1)], m(), any(), vec![]),
            ("other bytes", &[("m.mar", 1)], &[("m.mar", 2)], m(), any(), vec![take_in("m.mar")]),
            (
                "other bytes, asked for by a client",
                &[("m.mar", 1)],
                &[("m.mar", 2)],
                m(),
                vec![],
                vec![take_in("m.mar")],
            ),
            ("registered a moment ago", &[], &[("m.mar", 1)], m(), any(), vec![]),
            ("gone", &[("m.mar", 1)], &[], m(), any(), vec![]),
            ("new", &[("m.mar", 1)], &[("m.mar", 1), ("n.mar", 1)], m(), any(), vec![add("n.mar", None)]),
            ("new, and nobody expects it", &[("m.mar", 1)], &[("m.mar", 1), ("n.mar", 1)], m(), vec![], vec![]),
            (
                "couldn't be served, and is mended",
                &[("n.mar", 1)],
                &[("n.mar", 2)],
                vec![],
                any(),
                vec![add("n.mar", None)],
            ),
            ("couldn't be served, and is the same", &[("n.mar", 1)], &[("n.mar", 1)], vec![], any(), vec![]),
            (
                "under two names, of which one is served",
                &[("m.mar", 1)],
                &[("m.mar", 2)],
                m(),
                named(),
                vec![take_in("m.mar"), add("m.mar", Some("twin"))],
            ),
        ];
        for (what, before, now, served, expected, actions) in cases {
            let planned = plan(&listing(before, &[], &[]), &listing(now, &[], &[]), &served, &expected);
            assert_eq!(planned, actions, "{what}");
        }
    }

    #[test]
    fn what_was_seen_is_no_news_when_it_comes_back() {
        let mut seen = listing(&[("m.mar", 1)], &[("a.so", 1)], &[]);
        let gone = listing(&[], &[], &[]);
        let back = listing(&[("m.mar", 1)], &[("a.so", 1)], &[]);
        let all = [served("m")];
        assert_eq!(plan(&seen, &gone, &all, &[]), []);
        seen.remember(gone);
        assert_eq!(plan(&seen, &back, &all, &[]), []);
        // A refused build, and a file whose code was rolled back, are tried once.
        let refused = listing(&[], &[("a.so", 2)], &[]);
        assert_eq!(plan(&seen, &refused, &all, &[]), [swap("m")]);
        seen.remember(refused.clone());
        assert_eq!(plan(&seen, &refused, &all, &[]), []);
    }
}
