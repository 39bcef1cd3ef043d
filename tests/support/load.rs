//! Many clients that ask without a pause, and compare every answer with what they sent.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;

use super::Sent;
use super::Server;
use super::client::agent;
use super::mark_of;

/// Clients of one model, each with a connection of its own that it keeps.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    server: &'a Server,
    model: &'a str,
    clients: usize,
    /// The builds that may answer.
    builds: Range<u32>,
}

/// What clients were told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// By build.
    pub(crate) answered: BTreeMap<u32, u64>,
    /// What the handler said behind the body that it was sent, and how many times.
    pub(crate) said: BTreeMap<String, u64>,
}

/// Ends the clients when dropped, so that a failed test doesn't wait for them.
struct End<'a>(&'a AtomicBool);

// === impl Load ===

impl<'a> Load<'a> {
    pub(crate) const fn new(server: &'a Server, model: &'a str, builds: Range<u32>) -> Self {
        Self { server, model, clients: 32, builds }
    }

    /// Keeps the clients asking while `work` is done, which hears how many answers have come so far.
    ///
    /// Every answer must be 2xx and hold the mark of one build and the body that was sent.
    pub(crate) fn during<T>(&self, work: impl FnOnce(&dyn Fn() -> u64) -> T) -> (T, Tally) {
        let (end, come, all) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Tally::default()));
        let done = thread::scope(|scope| {
            let _end = End(&end);
            for client in 0..self.clients {
                let (end, come, all) = (&end, &come, &all);
                scope.spawn(move || {
                    let tally = self.ask(client, end, come);
                    all.lock().unwrap().add(&tally);
                });
            }
            work(&|| come.load(Ordering::Relaxed))
        });
        (done, all.into_inner().unwrap())
    }

    fn ask(&self, client: usize, end: &AtomicBool, come: &AtomicU64) -> Tally {
        let agent = agent();
        let url = format!("http://{}/predictions/{}", self.server.address(), self.model);
        let mut tally = Tally::default();
        while !end.load(Ordering::Relaxed) {
            // None like another, and of every length up to some thousand bytes.
            let body = format!("{client}/{} ", tally.sent).repeat((client * 31 + tally.sent as usize * 7) % 200 + 1);
            tally.sent += 1;
            let answer = Sent::body(&body).try_send(&agent, &url);
            let answer = answer.unwrap_or_else(|error| panic!("no answer for {:?}: {error}", &body[..8]));
            let text = answer.ok();
            let of_build = self.builds.clone().find_map(|build| {
                let mark = String::from_utf8(mark_of(build)).unwrap();
                text.strip_prefix(&mark).map(|rest| (build, rest))
            });
            let (build, rest) = of_build.unwrap_or_else(|| panic!("of none of the builds: {text:?}"));
            let said = rest.strip_prefix(&body).unwrap_or_else(|| panic!("{body:?} was sent, and this came: {rest:?}"));
            *tally.answered.entry(build).or_default() += 1;
            *tally.said.entry(said.to_owned()).or_default() += 1;
            come.fetch_add(1, Ordering::Relaxed);
        }
        tally
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// === impl Tally ===

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        other.answered.iter().for_each(|(build, count)| *self.answered.entry(*build).or_default() += count);
        other.said.iter().for_each(|(text, count)| *self.said.entry(text.clone()).or_default() += count);
    }

    pub(crate) fn all_answered(&self) -> u64 {
        self.answered.values().sum()
    }
}
