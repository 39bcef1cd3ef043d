//! Fetches archives from elsewhere into the model store: by `http`, `https` or `file`, and only from where the operator allows it.
//!
//! All of it waits for the network and the disk: call it where that holds up nobody.

use std::fs;
use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::NamedTempFile;
use ureq::Agent;
use ureq::Body;
use ureq::http::Response;
use ureq::http::header::LOCATION;
use ureq::tls::Certificate;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;

use crate::archive::error::ArchiveError;
use crate::archive::leftovers;
use crate::archive::store::Store;

/// How an archive is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchRules {
    pub file_in_the_way: FileInTheWay,
    /// The most bytes of one archive; the default is 16 GiB.
    pub bytes: u64,
    /// How long finding the host, connecting and waiting for the answer's head may each take; the default is 30 seconds.
    pub connect: Duration,
    /// How long the sender may fall silent; the default is 60 seconds. The whole may take longer.
    pub silence: Duration,
}

/// What becomes of a URL whose file is in the store already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileInTheWay {
    /// It is an error, as TorchServe has it where a client registers a model.
    #[default]
    Refused,
    /// It is what was fetched before: for a server that starts again with the same models.
    Used,
}

/// Hidden, so that neither a server nor its watcher takes a half-fetched archive for one.
const HIDDEN: &str = ".sconce-fetch-";

const MOST_REDIRECTS: usize = 5;

// === impl FetchRules ===

impl Default for FetchRules {
    fn default() -> Self {
        Self {
            file_in_the_way: FileInTheWay::Refused,
            bytes: 16 << 30,
            connect: Duration::from_secs(30),
            silence: Duration::from_secs(60),
        }
    }
}

// === impl Store ===

impl Store {
    /// Finds the archive that `url` means: a URL is fetched into the store if it is `allowed`, all else is the name of
    /// an archive that lies there, also where `allowed` would match it.
    pub fn obtain(
        &self,
        url: &str,
        allowed: &dyn Fn(&str) -> bool,
        rules: &FetchRules,
    ) -> Result<PathBuf, ArchiveError> {
        if !is_url(url) {
            return self.resolve(url);
        }
        if url.contains("..") {
            return Err(ArchiveError::RelativePath { url: url.to_owned() });
        }
        if !allowed(url) {
            return Err(ArchiveError::UrlNotAllowed { url: url.to_owned() });
        }
        let failed = |cause: String| ArchiveError::DownloadFailed { url: url.to_owned(), cause };
        let file = file_of(url).ok_or_else(|| failed("its path ends in no file name".to_owned()))?;
        let path = self.folder().join(file);
        let in_the_way = || match rules.file_in_the_way {
            FileInTheWay::Used => Ok(path.clone()),
            FileInTheWay::Refused => Err(ArchiveError::FileExists { file: file.to_owned() }),
        };
        if fs::symlink_metadata(&path).is_ok() {
            return in_the_way();
        }
        let io = |doing, cause| ArchiveError::Io { doing, path: self.folder().to_owned(), cause };
        leftovers::sweep(self.folder(), HIDDEN);
        // Removed when it is dropped, so that nothing is left of what fails.
        let mut partial = tempfile::Builder::new()
            .prefix(HIDDEN)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(self.folder())
            .map_err(|e| io("write into the model store", e))?;
        let _held = leftovers::hold(partial.path());
        match path_of_file_url(url) {
            Some(original) => copy_file(&original, &mut partial, rules).map_err(failed)?,
            None => download(url, &mut partial, allowed, rules).map_err(failed)?,
        }
        partial.as_file().sync_all().map_err(|e| io("write into the model store", e))?;
        match partial.persist_noclobber(&path) {
            Ok(_) => Ok(path.clone()),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => in_the_way(),
            Err(e) => Err(io("write into the model store", e.error)),
        }
    }

    /// Where the archive that `url` means lies in the store, or will once it is fetched.
    pub fn place_of(&self, url: &str) -> PathBuf {
        self.folder().join(file_of(url).unwrap_or_default())
    }

    /// Removes what was fetched from `url`, as TorchServe does when its model is unregistered; what an operator has put
    /// into the store stays.
    pub fn remove_fetched(&self, url: &str) -> Result<(), ArchiveError> {
        let Some(file) = is_url(url).then(|| file_of(url)).flatten() else { return Ok(()) };
        let path = self.folder().join(file);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(ArchiveError::Io { doing: "remove the fetched archive", path, cause })
            }
            _ => Ok(()),
        }
    }
}

/// Whether it says where to fetch an archive from; else it is a name in the model store.
pub fn is_url(url: &str) -> bool {
    ["http://", "https://", "file://"].into_iter().any(|scheme| after(url, scheme).is_some())
}

/// The rest of a text that begins so, in upper or lower case.
fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

/// The name under which a URL's archive lies in the store: the last part of its path, without the query.
fn file_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let (_, path) = rest.split_once('/')?;
    let file = path.rsplit('/').next()?;
    let plain = !file.is_empty() && !file.starts_with('.') && !file.contains(|c: char| c == '\\' || c.is_control());
    plain.then_some(file)
}

/// Where the file of a `file://` URL lies; what it says of the host is not looked at.
fn path_of_file_url(url: &str) -> Option<PathBuf> {
    let rest = after(url, "file://")?.split(['?', '#']).next()?;
    let path = rest.find('/').map_or("", |start| &rest[start..]);
    Some(PathBuf::from(decoded(path)))
}

/// With `%20` and the like as the bytes that they stand for.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.first_chunk::<2>().filter(|_| *first == b'%');
        let code = code.and_then(|two| u8::from_str_radix(str::from_utf8(two).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn copy_file(original: &Path, partial: &mut NamedTempFile, rules: &FetchRules) -> Result<(), String> {
    // Its dots may have come as %2e.
    if original.components().any(|part| part == std::path::Component::ParentDir) {
        return Err("its path climbs out of a folder".to_owned());
    }
    let kind = fs::metadata(original).map_err(|e| e.to_string())?;
    if !kind.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    copy(File::open(original).map_err(|e| e.to_string())?, partial, rules)
}

fn download(
    url: &str,
    partial: &mut NamedTempFile,
    allowed: &dyn Fn(&str) -> bool,
    rules: &FetchRules,
) -> Result<(), String> {
    let mut answer = ask(url, allowed, rules)?;
    if !answer.status().is_success() {
        return Err(format!("the server answered {}", answer.status()));
    }
    if answer.body().content_length().is_some_and(|length| length > rules.bytes) {
        return Err(too_large(rules));
    }
    copy(answer.body_mut().as_reader(), partial, rules)
}

/// Asks for a URL, and for those that it is redirected to, each of which must be allowed.
fn ask(url: &str, allowed: &dyn Fn(&str) -> bool, rules: &FetchRules) -> Result<Response<Body>, String> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .tls_config(TlsConfig::builder().root_certs(authorities()).build())
        .timeout_resolve(Some(rules.connect))
        .timeout_connect(Some(rules.connect))
        .timeout_recv_response(Some(rules.connect))
        .timeout_per_read(Some(rules.silence))
        .user_agent(concat!("sconce/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut url = url.to_owned();
    for _ in 0..=MOST_REDIRECTS {
        let answer = agent.get(&url).call().map_err(|e| e.to_string())?;
        let location = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection());
        let Some(location) = location else { return Ok(answer) };
        let location = location.to_str().map_err(|_| "it is redirected to what is no URL".to_owned())?;
        let next = redirected(&url, location);
        let is_web = after(&next, "http://").is_some() || after(&next, "https://").is_some();
        if !is_web || next.contains("..") || !allowed(&next) {
            return Err(format!("it is redirected to {next}, which does not match any allowed URL(s)"));
        }
        url = next;
    }
    Err(format!("it is redirected more than {MOST_REDIRECTS} times"))
}

/// Who vouches for a server: those that this machine trusts, a company's own among them; the web's where it names none.
fn authorities() -> RootCerts {
    let trusted = rustls_native_certs::load_native_certs().certs;
    if trusted.is_empty() {
        return RootCerts::WebPki;
    }
    let trusted: Vec<_> = trusted.iter().map(|authority| Certificate::from_der(authority).to_owned()).collect();
    RootCerts::new_with_certs(&trusted)
}

/// Where an answer's `location` leads.
fn redirected(from: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let (scheme, rest) = from.split_once("://").unwrap_or(("http", from));
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(other) = location.strip_prefix("//") {
        return format!("{scheme}://{other}");
    }
    if location.starts_with('/') {
        return format!("{scheme}://{host}{location}");
    }
    let folder = path.rfind('/').map_or("", |end| &path[..=end]);
    format!("{scheme}://{host}/{folder}{location}")
}

fn copy(from: impl Read, partial: &mut NamedTempFile, rules: &FetchRules) -> Result<(), String> {
    let mut limited = from.take(rules.bytes.saturating_add(1));
    let copied = io::copy(&mut limited, partial).map_err(|e| e.to_string())?;
    if copied > rules.bytes { Err(too_large(rules)) } else { Ok(()) }
}

fn too_large(rules: &FetchRules) -> String {
    format!("it is larger than the {} bytes allowed for one archive", rules.bytes)
}
