//! The keys that clients need, and the file in which the operator finds them.

use std::fmt;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::config::TokenConfig;

/// The keys of a running server. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Tokens {
    ring: Arc<Ring>,
}

/// The keys themselves, for those who check them.
#[derive(Debug)]
pub struct Ring {
    keys: Mutex<Keys>,
    expiration: Duration,
    file: PathBuf,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Management,
    Inference,
    /// Renews the other two, and opens nothing else.
    Api,
}

// === impl Kind ===

impl Kind {
    /// As the key file has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Inference => "inference",
            Self::Api => "API",
        }
    }
}

#[derive(Debug)]
struct Keys {
    management: Token,
    inference: Token,
    api: Key,
}

/// A key that counts for a while.
#[derive(Debug)]
struct Token {
    key: Key,
    /// `None` for a time beyond all clocks.
    until: Option<Instant>,
    /// The same, as people read it.
    told: OffsetDateTime,
}

/// 256 random bits as base64url.
struct Key(String);

const BITS: usize = 256;

// === impl Tokens ===

impl Tokens {
    /// Makes the keys and writes them to the file; one that an earlier server has left is replaced.
    pub fn start(config: &TokenConfig) -> io::Result<Self> {
        let keys = Keys {
            management: Token::new(config.expiration)?,
            inference: Token::new(config.expiration)?,
            api: Key::random()?,
        };
        let file = std::path::absolute(&config.key_file)?;
        keys.write(&file)?;
        Ok(Self { ring: Arc::new(Ring { keys: Mutex::new(keys), expiration: config.expiration, file }) })
    }

    /// In full, whatever the configuration says.
    pub fn file(&self) -> &Path {
        &self.ring.file
    }

    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring)
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        // Another server may have been started in the same folder: the file is then its own.
        let keys = self.ring.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = fs::read_to_string(&self.ring.file).is_ok_and(|text| text.contains(&keys.api.0));
        if ours && let Err(error) = fs::remove_file(&self.ring.file) {
            tracing::warn!(file = %self.ring.file.display(), %error, "the key file can't be removed");
        }
    }
}

// === impl Ring ===

impl Ring {
    pub(super) fn opens(&self, kind: Kind, given: &str) -> bool {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Kind::Inference => keys.inference.is(given),
            Kind::Management => keys.management.is(given),
            Kind::Api => keys.api.is(given),
        }
    }

    /// Makes a new key for one of the APIs, and writes it to the file; where that fails, the old one goes on.
    pub(super) fn renew(&self, kind: Kind) -> io::Result<()> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Token::new(self.expiration)?;
        std::mem::swap(&mut fresh, keys.token(kind));
        let written = keys.write(&self.file);
        if written.is_err() {
            *keys.token(kind) = fresh;
        }
        written
    }
}

// === impl Keys ===

impl Keys {
    fn token(&mut self, kind: Kind) -> &mut Token {
        match kind {
            Kind::Inference => &mut self.inference,
            _ => &mut self.management,
        }
    }

    /// Writes TorchServe's file, for its owner alone; whoever reads meanwhile reads the old one or the new one.
    fn write(&self, file: &Path) -> io::Result<()> {
        let form = json!({
            "management": self.management.form(),
            "inference": self.inference.form(),
            "API": { "key": self.api.0 },
        });
        let folder = file.parent().unwrap_or(Path::new("."));
        // A temporary file is readable for its owner alone from the first moment.
        let mut fresh = tempfile::Builder::new().prefix(".key_file").tempfile_in(folder)?;
        writeln!(fresh, "{form:#}")?;
        fresh.as_file().sync_all()?;
        fresh.persist(file)?;
        Ok(())
    }
}

// === impl Token ===

impl Token {
    fn new(expiration: Duration) -> io::Result<Self> {
        let told = time::Duration::try_from(expiration).ok().and_then(|e| OffsetDateTime::now_utc().checked_add(e));
        Ok(Self {
            key: Key::random()?,
            until: Instant::now().checked_add(expiration),
            told: told.unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC)),
        })
    }

    fn is(&self, given: &str) -> bool {
        self.key.is(given) && self.until.is_none_or(|until| Instant::now() < until)
    }

    fn form(&self) -> serde_json::Value {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
        let told = self.told.format(format).unwrap_or_default();
        json!({ "key": self.key.0, "expiration time": told })
    }
}

// === impl Key ===

impl Key {
    fn random() -> io::Result<Self> {
        let mut bytes = [0; BITS / 8];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Takes as long for a key that is nearly right as for one that is all wrong.
    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// A key is shown nowhere but in its file.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_lives_as_long_as_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key_file.json");
        let config = TokenConfig { expiration: Duration::from_secs(60), key_file: key_file.clone() };
        let read = || -> serde_json::Value { serde_json::from_str(&fs::read_to_string(&key_file).unwrap()).unwrap() };
        let first = Tokens::start(&config).unwrap();
        let of_first = read();
        let names: Vec<&String> = of_first.as_object().unwrap().keys().collect();
        assert_eq!(names, ["management", "inference", "API"]);
        let key = of_first["inference"]["key"].as_str().unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(key).unwrap().len() * 8, BITS);
        assert!(first.ring.opens(Kind::Inference, key) && !first.ring.opens(Kind::Management, key));
        assert!(!first.ring.opens(Kind::Inference, &key[1..]));

        first.ring.renew(Kind::Inference).unwrap();
        assert!(!first.ring.opens(Kind::Inference, key));
        assert_eq!(read()["management"], of_first["management"]);
        assert!(first.ring.opens(Kind::Inference, read()["inference"]["key"].as_str().unwrap()));

        // Another server has the file now, and keeps it.
        let second = Tokens::start(&config).unwrap();
        drop(first);
        assert_ne!(read()["API"], of_first["API"]);
        // Keys don't get into a log by being printed with what holds them.
        assert!(!format!("{second:?}").contains(read()["API"]["key"].as_str().unwrap()));
        drop(second);
        assert!(!key_file.exists());
    }

    #[test]
    fn a_key_expires_and_one_of_long_life_overflows_no_clock() {
        let folder = tempfile::tempdir().unwrap();
        let start = |expiration| {
            Tokens::start(&TokenConfig { expiration, key_file: folder.path().join("key_file.json") }).unwrap()
        };
        for (expiration, opens) in [(Duration::ZERO, false), (Duration::MAX, true)] {
            let tokens = start(expiration);
            let keys = tokens.ring.keys.lock().unwrap();
            let (inference, api) = (keys.inference.key.0.clone(), keys.api.0.clone());
            drop(keys);
            assert_eq!(tokens.ring.opens(Kind::Inference, &inference), opens);
            assert!(tokens.ring.opens(Kind::Api, &api));
        }
    }
}
