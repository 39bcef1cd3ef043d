//! Fetching from a server on this machine: what arrives whole lies in the store, and nothing is left of what doesn't.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::archive::ArchiveError;
use crate::archive::FetchRules;
use crate::archive::FileInTheWay;
use crate::archive::Store;
use crate::archive::is_url;

/// A store, and a web server beside it.
struct Bench {
    folder: TempDir,
    store: Store,
    /// As `http://127.0.0.1:1234`.
    web: String,
}

// === impl Bench ===

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("models")).unwrap();
        let store = Store::new(folder.path().join("models"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|stream| answer(&stream)));
        Self { folder, store, web }
    }

    fn obtain(&self, url: &str) -> Result<PathBuf, ArchiveError> {
        self.store.obtain(url, &|_| true, &FetchRules::default())
    }

    /// The store's files, hidden ones included.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn refused(&self, url: &str, rules: &FetchRules, expected: &str) {
        let message = self.store.obtain(url, &|url| !url.contains("private"), rules).unwrap_err().to_string();
        assert!(message.starts_with(&format!("Failed to download archive from: {url} (")), "{message}");
        assert!(message.contains(expected), "{message}");
        assert_eq!(self.files(), [] as [&str; 0], "{url}");
    }
}

/// Answers one request by its path.
fn answer(mut stream: &std::net::TcpStream) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let head = match path.split('?').next().unwrap_or_default() {
        "/sub/m.mar" => "200 OK\r\ncontent-length: 5",
        "/moved/m.mar" => "302 Found\r\ncontent-length: 0\r\nlocation: /sub/m.mar",
        "/moved-on/m.mar" => "307 Moved\r\ncontent-length: 0\r\nlocation: next.mar",
        "/moved-on/next.mar" => "301 Moved\r\ncontent-length: 0\r\nlocation: /sub/m.mar",
        "/climbing/m.mar" => "302 Found\r\ncontent-length: 0\r\nlocation: /public/../sub/m.mar",
        "/inside/m.mar" => "302 Found\r\ncontent-length: 0\r\nlocation: /private/m.mar",
        "/to-file/m.mar" => "302 Found\r\ncontent-length: 0\r\nlocation: file:///etc/hostname",
        "/loop/m.mar" => "302 Found\r\ncontent-length: 0\r\nlocation: m.mar",
        "/cut/m.mar" => "200 OK\r\ncontent-length: 500",
        "/endless/m.mar" => "200 OK",
        "/silent/m.mar" => "200 OK\r\ncontent-length: 500\r\nx-keep: open",
        _ => "404 Not Found\r\ncontent-length: 5",
    };
    let _ = write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(b"whole");
    if head.ends_with("open") {
        // Until the client has gone.
        let _ = stream.read(&mut [0]);
    }
}

#[test]
fn a_url_lands_in_the_store() {
    let bench = Bench::new();
    let url = format!("{}/sub/m.mar?token=a/b", bench.web);
    let path = bench.obtain(&url).unwrap();
    assert_eq!(path, bench.store.folder().join("m.mar"));
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(bench.files(), ["m.mar"]);

    let message = bench.obtain(&url).unwrap_err().to_string();
    assert!(message.starts_with("Model file already exists m.mar"), "{message}");
    let again = FetchRules { file_in_the_way: FileInTheWay::Used, ..FetchRules::default() };
    fs::write(&path, "kept").unwrap();
    assert_eq!(bench.store.obtain(&url, &|_| true, &again).unwrap(), path);
    assert_eq!(fs::read(&path).unwrap(), b"kept");

    bench.store.remove_fetched("m.mar").unwrap();
    assert_eq!(bench.files(), ["m.mar"], "what was not fetched stays");
    bench.store.remove_fetched(&url).unwrap();
    bench.store.remove_fetched(&url).unwrap();
    assert_eq!(bench.files(), [] as [&str; 0]);
    for moved in ["moved", "moved-on"] {
        let path = bench.obtain(&format!("{}/{moved}/m.mar", bench.web));
        assert_eq!(fs::read(path.unwrap_or_else(|e| panic!("{e}"))).unwrap(), b"whole");
        bench.store.remove_fetched(&url).unwrap();
    }
}

#[test]
fn a_file_url_is_copied() {
    let bench = Bench::new();
    let original = bench.folder.path().join("my model.mar");
    fs::write(&original, "on disk").unwrap();
    let url = format!("file://{}/my%20model.mar", bench.folder.path().display());
    let path = bench.obtain(&url).unwrap();
    assert_eq!(path, bench.store.folder().join("my%20model.mar"));
    assert_eq!(fs::read(&path).unwrap(), b"on disk");
    bench.store.remove_fetched(&url).unwrap();
    assert!(original.is_file());
    let rules = FetchRules::default();
    bench.refused("file:///no/such/m.mar", &rules, "No such file");
    bench.refused(&format!("file://{}/models", bench.folder.path().display()), &rules, "not a regular file");
    bench.refused(&format!("file://{}/%2e%2e/m.mar", bench.folder.path().display()), &rules, "climbs out");
    bench.refused(&url, &FetchRules { bytes: 3, ..rules }, "larger than the 3 bytes");
}

#[test]
fn nothing_is_left_of_what_fails() {
    let bench = Bench::new();
    let rules = FetchRules::default();
    let small = FetchRules { bytes: 3, ..rules };
    let impatient = FetchRules { silence: Duration::from_millis(50), ..rules };
    for (path, rules, expected) in [
        ("gone/m.mar", &rules, "the server answered 404 Not Found"),
        ("cut/m.mar", &rules, "("),
        ("sub/m.mar", &small, "larger than the 3 bytes allowed"),
        ("endless/m.mar", &small, "larger than the 3 bytes allowed"),
        ("silent/m.mar", &impatient, "timeout"),
        ("inside/m.mar", &rules, "/private/m.mar, which does not match any allowed URL(s)"),
        ("climbing/m.mar", &rules, "/public/../sub/m.mar, which does not match"),
        ("to-file/m.mar", &rules, "file:///etc/hostname, which does not match"),
        ("loop/m.mar", &rules, "redirected more than 5 times"),
        ("", &rules, "ends in no file name"),
        ("sub/.hidden", &rules, "ends in no file name"),
    ] {
        bench.refused(&format!("{}/{path}", bench.web), rules, expected);
    }
    // A port on which nobody listens: the listener is gone when the address is used.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.refused(&format!("http://{closed}/m.mar"), &rules, "refused");
    bench.refused("http://", &rules, "ends in no file name");
}

#[test]
fn what_is_fetched_and_what_is_a_name() {
    let bench = Bench::new();
    fs::write(bench.store.folder().join("local.mar"), "here").unwrap();
    let obtain = |url: &str, allowed: bool| bench.store.obtain(url, &|_| allowed, &FetchRules::default());
    // TorchServe would try to fetch a name where the operator allows all.
    assert_eq!(obtain("local.mar", true).unwrap(), bench.store.folder().join("local.mar"));
    for (url, allowed, message) in [
        ("", true, "empty url"),
        ("../local.mar", true, "Relative path is not allowed in url: ../local.mar"),
        ("http://h/../m.mar", true, "Relative path is not allowed in url: http://h/../m.mar"),
        ("http://h/m.mar", false, "Given URL http://h/m.mar does not match any allowed URL(s)"),
        ("s3://bucket/m.mar", true, "Given URL s3://bucket/m.mar does not match any allowed URL(s)"),
        ("gone.mar", true, "Model not found at: gone.mar"),
    ] {
        assert_eq!(obtain(url, allowed).unwrap_err().to_string(), message);
    }
    for (url, expected) in [
        ("HTTP://h/m.mar", true),
        ("https://h/m.mar", true),
        ("file:///m.mar", true),
        ("http:/m.mar", false),
        ("s3://b/m.mar", false),
        ("m.mar", false),
        ("ü", false),
    ] {
        assert_eq!(is_url(url), expected, "{url}");
    }
}
