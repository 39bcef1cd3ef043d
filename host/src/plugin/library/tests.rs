//! Closing libraries, tried with small ones in C that leave one thing behind each.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::plugin::LibraryStore;
use crate::plugin::mapped;
use crate::plugin::own_thread;
use crate::plugin::testing::compile;

const PLAIN: &str = "int answer(int number) { return number + 1; }";

/// A thread that waits for the other end of a pipe to close.
const THREAD: &str = "
    #define _GNU_SOURCE
    #include <pthread.h>
    #include <unistd.h>
    static pthread_t thread;
    static void *wait_for_end(void *pipe) {
        char byte;
        while (read((int)(long)pipe, &byte, 1) > 0) {}
        return pipe;
    }
    int answer(int pipe) {
        int error = pthread_create(&thread, 0, wait_for_end, (void *)(long)pipe);
        return error ? error : pthread_setname_np(thread, \"leftover\");
    }
    int join(int number) { return pthread_join(thread, 0); }
";

/// A thread that never pauses until it is told to end.
const BUSY: &str = "
    #include <pthread.h>
    static pthread_t thread;
    static volatile int ended;
    static void *spin(void *nothing) { while (!ended) {} return nothing; }
    int answer(int number) { return pthread_create(&thread, 0, spin, 0); }
    int join(int number) { ended = 1; return pthread_join(thread, 0); }
";

const SIGNAL: &str = "
    #include <signal.h>
    static void handle(int signal) { (void)signal; }
    int answer(int number) { return signal(number, handle) == SIG_ERR; }
";

const CUDA: &str = "__attribute__((section(\".nv_fatbin\"), used)) static const char code[8] = {1};";

/// A library in C, opened from a private copy.
struct Case {
    store: LibraryStore,
    code: Code,
    _folder: tempfile::TempDir,
}

impl Case {
    fn new(source: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = LibraryStore::new(folder.path()).unwrap();
        let staged = store.stage(&compile(folder.path(), "case", source, flags)).unwrap();
        assert!(!staged.set_opened());
        let code = Code::open(staged.path()).unwrap();
        Self { store, code, _folder: folder }
    }

    fn call(&self, name: &str, number: i32) -> i32 {
        // SAFETY: the functions of the sources above have this shape.
        let function = unsafe { self.code.handle.get::<unsafe extern "C" fn(i32) -> i32>(name.as_bytes()) }.unwrap();
        // SAFETY: they ask nothing of who calls them.
        unsafe { function(number) }
    }

    /// Closes it and says what became of it, and how many libraries are mapped then.
    fn close(self, unload: Unload) -> (Residue, usize) {
        let before = mapped(&self.store);
        assert_eq!((before.libraries, before.bytes > 0), (1, true));
        assert_eq!(self.code.mapped(), before.bytes);
        let residue = self.code.close(unload);
        let after = mapped(&self.store);
        assert_eq!(after.bytes, residue.bytes());
        (residue, after.libraries)
    }
}

fn in_use(residue: &Residue) -> &str {
    match residue {
        Residue::InUse { bytes, why } if *bytes > 0 => why,
        other => panic!("it is {other:?}"),
    }
}

#[test]
fn a_plain_library_goes() {
    let case = Case::new(PLAIN, &[]);
    assert_eq!(case.call("answer", 41), 42);
    assert_eq!(case.close(Unload::Unmap), (Residue::Gone, 0));
}

#[test]
fn what_is_to_be_retained_stays() {
    let (residue, libraries) = Case::new(PLAIN, &[]).close(Unload::Retain);
    assert!(matches!(residue, Residue::Retained { bytes: 1.. }), "{residue:?}");
    assert_eq!(libraries, 1);
}

#[test]
fn a_dropped_library_stays() {
    let Case { store, code, _folder } = Case::new(PLAIN, &[]);
    drop(code);
    assert_eq!(mapped(&store).libraries, 1);
}

#[test]
fn a_library_stays_while_its_thread_waits_and_goes_when_it_has_ended() {
    let case = Case::new(THREAD, &[]);
    let (waiting, end) = io::pipe().unwrap();
    assert_eq!(case.call("answer", waiting.as_raw_fd()), 0);
    let why = left_in(&case.code.path, &case.code.elders, PATIENCE).unwrap();
    assert!(why.contains("its thread \"leftover\""), "{why}");
    assert!(why.contains("still runs"), "{why}");
    drop(end);
    assert_eq!(case.call("join", 0), 0);
    assert_eq!(case.close(Unload::Unmap), (Residue::Gone, 0));
}

#[test]
fn a_thread_keeps_its_library_also_when_it_is_closed() {
    let case = Case::new(THREAD, &[]);
    let (waiting, _end) = io::pipe().unwrap();
    assert_eq!(case.call("answer", waiting.as_raw_fd()), 0);
    // The thread ends when the pipe is closed, after this: it finds its code.
    let (residue, libraries) = case.close(Unload::Unmap);
    assert!(in_use(&residue).contains("\"leftover\""), "{residue:?}");
    assert_eq!(libraries, 1);
}

#[test]
fn a_thread_of_the_host_s_leaves_no_doubt() {
    let case = Case::new(PLAIN, &[]);
    let (end, (told, own)) = (AtomicBool::new(false), mpsc::channel());
    std::thread::scope(|scope| {
        let end = &end;
        scope.spawn(move || {
            own_thread();
            told.send(()).unwrap();
            while !end.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        own.recv().unwrap();
        let residue = case.close(Unload::Unmap);
        end.store(true, Ordering::Relaxed);
        assert_eq!(residue, (Residue::Gone, 0));
    });
}

#[test]
fn a_thread_that_never_pauses_leaves_a_doubt() {
    let case = Case::new(BUSY, &[]);
    assert_eq!(case.call("answer", 0), 0);
    // Not long: to the other tests' libraries it is a thread in doubt, too.
    let why = left_in(&case.code.path, &case.code.elders, Duration::from_millis(20)).unwrap();
    assert!(why.contains("never seen to pause") || why.contains("still runs"), "{why}");
    assert_eq!(case.call("join", 0), 0);
    assert_eq!(case.close(Unload::Unmap), (Residue::Gone, 0));
}

#[test]
fn a_thread_of_before_is_not_looked_at() {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // One that never pauses would leave a doubt.
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let case = Case::new(PLAIN, &[]);
        assert_eq!(left_in(&case.code.path, &case.code.elders, PATIENCE), None);
        assert!(left_in(&case.code.path, &Elders::default(), Duration::from_millis(20)).is_some());
        ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_handler_of_a_signal_keeps_its_library() {
    let case = Case::new(SIGNAL, &[]);
    assert_eq!(case.call("answer", libc::SIGUSR2), 0);
    let (residue, libraries) = case.close(Unload::Unmap);
    assert!(in_use(&residue).contains(&format!("it handles signal {}", libc::SIGUSR2)), "{residue:?}");
    assert_eq!(libraries, 1);
}

#[test]
fn cuda_code_keeps_its_library() {
    let (residue, libraries) = Case::new(CUDA, &[]).close(Unload::Unmap);
    assert!(in_use(&residue).contains("CUDA code"), "{residue:?}");
    assert_eq!(libraries, 1);
}

#[test]
fn a_library_that_the_loader_keeps_is_told() {
    let (residue, libraries) = Case::new(PLAIN, &["-Wl,-z,nodelete"]).close(Unload::Unmap);
    assert!(matches!(residue, Residue::Pinned { bytes: 1.. }), "{residue:?}");
    assert_eq!(libraries, 1);
}
