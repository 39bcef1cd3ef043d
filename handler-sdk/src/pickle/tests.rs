//! Pickles that no Python has written.

use super::*;

const LIMITS: Limits = Limits { steps: 2_000_000, objects: 10_000 };

fn error(data: &[u8]) -> String {
    read(data, LIMITS).unwrap_err().to_string()
}

#[test]
fn a_broken_pickle_is_an_error_that_says_where() {
    for (data, part) in [
        (&b""[..], "ends too early, at byte 0"),
        (b"\x80", "ends too early, at byte 1"),
        (b"X\xff\xff\xff\xffab", "ends too early, at byte 5"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab", "ends too early"),
        (b"cbuiltins", "ends too early"),
        (b".", "more from its stack than it has put there"),
        (b"NR.", "more from its stack"),
        // The tuple would reach below the mark.
        (b"NN(\x86.", "more from its stack"),
        (b"t.", "what follows a mark, and there is none"),
        (b"b.", "more from its stack"),
        (b"h\x07.", "recalls 7"),
        (b"q\x00.", "its stack is empty"),
        (b"Nr\xff\xff\xff\xff.", "puts aside 4294967295 objects"),
        (b"NNa.", "adds items to what is no list"),
        // Else it could hold what is made of it.
        (b")Na.", "adds items to what is no list"),
        (b"N(NNu.", "adds entries to what is no dict"),
        (b"NN\x93.", "isn't named by texts"),
        (b"I1\n.", "instruction 0x49"),
        (b"\x82\x01.", "instruction 0x82"),
    ] {
        let found = error(data);
        assert!(found.contains(part), "{data:?}: {found} lacks {part}");
    }
}

#[test]
fn numbers_are_read_in_all_their_widths() {
    for (data, wanted) in [
        (&b"K\xff."[..], Some(255)),
        (b"M\xff\xff.", Some(65535)),
        (b"J\xff\xff\xff\xff.", Some(-1)),
        (b"J\x00\x00\x01\x00.", Some(65536)),
        (b"\x8a\x00.", Some(0)),
        (b"\x8a\x05\x00\x00\x00\x00\x01.", Some(1 << 32)),
        (b"\x8a\x01\x80.", Some(-128)),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", Some(i64::MAX)),
        (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", Some(i64::MIN)),
        (b"\x8b\x01\x00\x00\x00\x05.", Some(5)),
        (b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.", None),
        (b"G\x3f\xf0\x00\x00\x00\x00\x00\x00.", None),
    ] {
        let (pickle, rest) = read(data, LIMITS).unwrap();
        assert_eq!((pickle.int(pickle.root()), rest.len()), (wanted, 0), "{data:?}");
    }
}

#[test]
fn a_pickle_that_asks_for_too_much_is_refused() {
    let few = Limits { steps: 1000, objects: 10 };
    let nested = [vec![b']'; 2000], b".".to_vec()].concat();
    assert!(read(&nested, few).unwrap_err().to_string().contains("more than 1000 instructions"));
    let calls = [b"cos\nsystem\nq\x00)q\x01".to_vec(), b"h\x00h\x01R".repeat(11), b".".to_vec()].concat();
    assert!(read(&calls, few).unwrap_err().to_string().contains("more than 10 objects"));
    // Each list holds the one before twice: in Python's memory it is small, and here, too.
    let mut doubling = b"]".to_vec();
    for _ in 0..200 {
        doubling.extend_from_slice(b"q\x000]h\x00ah\x00a");
    }
    doubling.push(b'.');
    let (pickle, _) = read(&doubling, Limits { steps: 10_000, objects: 10 }).unwrap();
    assert_eq!(pickle.sequence(pickle.root()).map(<[Id]>::len), Some(2));
    // Deep, but nothing recurses.
    let deep = [b"]".repeat(500_000), b"a".repeat(499_999), b".".to_vec()].concat();
    assert!(read(&deep, LIMITS).is_ok());
}

#[test]
fn a_pickle_that_is_too_long_shows_what_it_would_hold() {
    let outermost = |start: &[u8]| {
        let data = [start, &b"N0".repeat(20)].concat();
        match read(&data, Limits { steps: 10, objects: 10 }) {
            Err(Fault::TooLong { outermost, .. }) => outermost.map(|pickle| pickle.describe(pickle.root())),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outermost(b"}(").as_deref(), Some("a dict"));
    assert_eq!(outermost(b"ca\nb\n)R(").as_deref(), Some("a a.b"));
    // The list will lie in a tuple.
    assert_eq!(outermost(b"(](").as_deref(), None);
    assert_eq!(outermost(b"").as_deref(), None);
}

#[test]
fn what_would_be_called_is_only_named() {
    let (pickle, _) = read(b"cos\nsystem\n(X\x04\x00\x00\x00truetR.", LIMITS).unwrap();
    assert_eq!(pickle.describe(pickle.root()), "a os.system");
}
