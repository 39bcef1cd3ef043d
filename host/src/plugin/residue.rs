//! What a library leaves behind when its generation is gone: asked before it is unmapped, since whatever still points into it would run in nothing.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use super::mapping;
use super::mapping::Mapping;
use super::note;
use super::own_threads::is_own;

/// What became of a library that was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Residue {
    /// Its code is unmapped.
    ///
    /// Pages of its file may still be there to be read: the standard library maps them to print a backtrace, and forgets them.
    Gone,
    /// It stays mapped, as the operator wants it.
    Retained { bytes: u64 },
    /// It stays mapped, because something of it is in use, or may be.
    InUse { bytes: u64, why: String },
    /// The loader was told to unmap it, and keeps it.
    Pinned { bytes: u64 },
}

/// The threads that were there before a library was opened: what it starts is not among them.
#[derive(Debug, Default)]
pub(super) struct Elders(HashSet<Thread>);

/// A thread; the system uses the number alone again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Thread {
    id: u32,
    /// As /proc has it.
    started: String,
}

/// What a look at one thread told.
enum Look {
    /// It will return into the library.
    Inside,
    /// It has ended, or nothing on its stack leads into the library; so it stays, since only the library's own code leads there.
    Outside,
    /// It can't be told now.
    Unknown(String),
}

/// How long threads are looked at until each has paused once: on a busy machine that takes its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// So long a thread must be seen inside: by chance an address may stand on a stack for a moment.
const SURE: Duration = Duration::from_secs(3);

/// Between two looks at the threads that were busy.
const PAUSE: Duration = Duration::from_millis(2);

/// More of a stack isn't read: beyond, it is memory of others that happens to lie beside.
const DEEPEST_STACK: u64 = 16 << 20;

/// How much is read at a time.
const WINDOW: usize = 64 << 10;

/// More than the system keeps of a stack from one thread to the next.
const CLEARED: usize = 64 << 10;

/// The signals that the kernel knows.
const SIGNALS: Range<libc::c_int> = 1..65;

/// Overwrites what calls have left beyond the calling function's end of the stack.
///
/// The system gives a stack to the next thread as it is, down to some pages; there, an address in a library would look like a call that the thread has open.
#[inline(never)]
pub fn clear_stack() {
    std::hint::black_box(&mut [0_u8; CLEARED]);
}

/// Says what of the library is in use, or what can't be told; `None` where it may be unmapped.
///
/// Call it where no thread of a generation is left, on a thread that has no call into the library open.
/// It takes as long as `patience` where a thread never pauses.
pub(super) fn left_in(path: &Path, elders: &Elders, patience: Duration) -> Option<String> {
    let unknown = |error: io::Error| format!("what is left of it can't be told: {error}");
    let mappings = match mapping::of(path) {
        Ok(mappings) => mappings,
        Err(error) => return Some(unknown(error)),
    };
    if mappings.is_empty() {
        return Some(unknown(io::Error::other("/proc/self/maps doesn't show it")));
    }
    match note::has_cuda_code(path) {
        Ok(false) => {}
        Ok(true) => return Some("it holds CUDA code, which the CUDA runtime can't forget".to_owned()),
        Err(error) => return Some(unknown(error)),
    }
    let all: Vec<_> = mappings.iter().map(|mapping| mapping.addresses.clone()).collect();
    if let Some(signal) = SIGNALS.into_iter().find(|&signal| holds(&all, handler_of(signal))) {
        return Some(format!("it handles signal {signal}"));
    }
    let code = mappings.into_iter().filter(|mapping| mapping.executable).map(|mapping| mapping.addresses).collect();
    threads_in(code, elders, patience)
}

/// The address of what handles a signal, or a small number where nothing does.
fn handler_of(signal: libc::c_int) -> u64 {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action this only writes the present one to `action`, or nothing where the number is no signal.
    unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes are a valid `sigaction`, and so is what the call wrote.
    unsafe { action.assume_init() }.sa_sigaction as u64
}

fn holds(ranges: &[Range<u64>], address: u64) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

/// Looks at all threads but the calling one, the host's own and the elders until each was seen in a pause.
fn threads_in(code: Vec<Range<u64>>, elders: &Elders, patience: Duration) -> Option<String> {
    let unknown = |error: io::Error| format!("whether its threads still run can't be told: {error}");
    let threads = match Threads::new(code) {
        Ok(threads) => threads,
        Err(error) => return Some(unknown(error)),
    };
    let begin = Instant::now();
    let mut outside = HashSet::new();
    loop {
        // Both are read anew: threads start and end meanwhile.
        let (ids, mappings) = match (Threads::ids(), mapping::all()) {
            (Ok(ids), Ok(mappings)) => (ids, mappings),
            (Err(error), _) | (_, Err(error)) => return Some(unknown(error)),
        };
        let (mut inside, mut doubt) = (None, None);
        for id in ids {
            if id == threads.own || is_own(id) || outside.contains(&id) || elders.has(id) {
                continue;
            }
            match threads.look(id, &mappings) {
                Look::Inside => inside = Some(format!("its thread {} still runs", name(id))),
                Look::Outside => {
                    outside.insert(id);
                }
                Look::Unknown(reason) => {
                    doubt.get_or_insert_with(|| format!("whether thread {} is its can't be told: {reason}", name(id)));
                }
            }
        }
        let passed = begin.elapsed();
        if inside.is_some() && passed >= SURE.min(patience) {
            return inside;
        }
        if (inside.is_none() && doubt.is_none()) || passed >= patience {
            return inside.or(doubt);
        }
        // Seldom after a while: what has been busy for so long will be for longer.
        std::thread::park_timeout(PAUSE.max(passed / 100));
    }
}

// === impl Elders ===

impl Elders {
    /// The threads of now; none where /proc doesn't tell.
    pub(super) fn now() -> Self {
        let ids = Threads::ids().unwrap_or_default();
        Self(ids.into_iter().filter_map(Thread::of).collect())
    }

    fn has(&self, id: u32) -> bool {
        Thread::of(id).is_some_and(|thread| self.0.contains(&thread))
    }
}

// === impl Thread ===

impl Thread {
    fn of(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).ok()?;
        // The name before may hold anything, but for the last bracket; the start is the twentieth field after it.
        let (_, fields) = stat.rsplit_once(')')?;
        Some(Self { id, started: fields.split_whitespace().nth(19)?.to_owned() })
    }
}

/// A thread's name, for messages.
fn name(id: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
    format!("{:?} ({id})", name.trim_end())
}

/// What it takes to look at threads.
struct Threads {
    /// The library's code.
    code: Vec<Range<u64>>,
    memory: File,
    own: u32,
}

// === impl Threads ===

impl Threads {
    fn new(code: Vec<Range<u64>>) -> io::Result<Self> {
        let own = rustix::thread::gettid().as_raw_pid().unsigned_abs();
        Ok(Self { code, memory: File::open("/proc/self/mem")?, own })
    }

    fn ids() -> io::Result<Vec<u32>> {
        let entries = std::fs::read_dir("/proc/self/task")?;
        let id = |entry: std::fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
        entries.filter_map(|entry| entry.map(id).transpose()).collect()
    }

    /// A thread that a library started returns, at the end, into the function of the library that it started with: so the address stands on its stack as long as it runs.
    fn look(&self, id: u32, mappings: &[Mapping]) -> Look {
        let path = format!("/proc/self/task/{id}/syscall");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if has_ended(&error) => return Look::Outside,
            Err(error) => return Look::Unknown(format!("can't read {path}: {error}")),
        };
        let Some((stack, at)) = pointers(&text) else {
            return Look::Unknown("it was never seen to pause".to_owned());
        };
        if holds(&self.code, at) {
            return Look::Inside;
        }
        if stack == 0 {
            // It has ended, and only its number is left.
            return Look::Outside;
        }
        let Some(mapping) = mappings.iter().find(|mapping| mapping.addresses.contains(&stack)) else {
            return Look::Unknown("its stack isn't in /proc/self/maps".to_owned());
        };
        let end = mapping.addresses.end.min(stack.saturating_add(DEEPEST_STACK));
        match self.leads_inside(stack & !7..end) {
            Ok(true) => Look::Inside,
            Ok(false) => Look::Outside,
            Err(error) => Look::Unknown(format!("its stack can't be read: {error}")),
        }
    }

    /// Whether a word of this memory is an address in the library's code.
    fn leads_inside(&self, stack: Range<u64>) -> io::Result<bool> {
        let mut window = vec![0; WINDOW];
        let mut start = stack.start;
        while start < stack.end {
            let length = WINDOW.min(usize::try_from(stack.end - start).unwrap_or(WINDOW));
            self.memory.read_exact_at(&mut window[..length], start)?;
            let (words, _) = window[..length].as_chunks::<8>();
            if words.iter().any(|&word| holds(&self.code, u64::from_ne_bytes(word))) {
                return Ok(true);
            }
            start += length as u64;
        }
        Ok(false)
    }
}

/// The stack pointer and the program counter of a thread that pauses, as `7 0x1 … 0x7ffd10 0x7f10` or `-1 0x7ffd10 0x7f10`; of one that runs there is only `running`.
fn pointers(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_whitespace().rev();
    let mut pointer = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let at = pointer()?;
    Some((pointer()?, at))
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

// === impl Residue ===

impl Residue {
    /// What is still mapped of it, as far as /proc tells.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Gone => 0,
            Self::Retained { bytes } | Self::InUse { bytes, .. } | Self::Pinned { bytes } => *bytes,
        }
    }
}

impl fmt::Display for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("unmapped"),
            Self::Retained { bytes } => write!(f, "{bytes} bytes stay mapped, as configured"),
            Self::InUse { bytes, why } => write!(f, "{bytes} bytes stay mapped: {why}"),
            Self::Pinned { bytes } => write!(
                f,
                "{bytes} bytes stay mapped: the loader keeps it, for a thread-local value with a destructor on a thread that still runs, or a unique symbol, or because it was linked so"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pausing_thread_has_two_pointers() {
        let in_a_call = "202 0x7f01 0x189 0x0 0x0 0x0 0xffffffff 0x7f40aa8fe8c0 0x7f40ab11c117\n";
        assert_eq!(pointers(in_a_call), Some((0x7f40_aa8f_e8c0, 0x7f40_ab11_c117)));
        assert_eq!(pointers("-1 0x10 0x20\n"), Some((0x10, 0x20)));
        assert_eq!(pointers("running\n"), None);
        assert_eq!(pointers(""), None);
    }

    #[test]
    fn the_handler_of_a_signal_is_found() {
        // Rust's start-up code ignores it in every program: a number, and no address.
        assert_eq!(handler_of(libc::SIGPIPE), libc::SIG_IGN as u64);
        assert_eq!(handler_of(999), 0);
    }
}
