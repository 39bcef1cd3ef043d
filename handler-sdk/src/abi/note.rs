//! What a library says of itself in a section of its file, readable without opening it as a library.
//!
//! The note is text: a first line that no other file has, then `key=value` lines, then a zero byte.

use std::fmt;

use super::ABI_VERSION;
use super::SDK_VERSION;

/// The name of the ELF section.
pub const SECTION: &str = ".sconce.note";

/// The first line.
const MAGIC: &str = "sconce handler library";

/// The libtorch that the SDK's `tch` is made for.
pub const LIBTORCH_VERSION: &str = "2.11.0";

/// What a library was built with, and what it exports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// The version of the boundary, `(major, minor)`.
    pub abi: (u32, u32),
    /// The version of the SDK.
    pub sdk: String,
    /// The compiler, as `rustc --version` prints it.
    pub rustc: String,
    /// Whether a panic unwinds, as it must, or `abort`s.
    pub panic: String,
    /// The target triple.
    pub target: String,
    /// The CPU features that the code takes for granted.
    pub target_features: Vec<String>,
    /// The libtorch that the library links; `None` where it links none.
    pub libtorch: Option<String>,
    /// The handlers.
    pub handlers: Vec<HandlerNote>,
}

/// One exported handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerNote {
    /// The name by which archives ask for it, as `mnist_digit_classifier`.
    pub name: String,
    /// The name of the Rust type, as `MnistDigitClassifier`.
    pub type_name: String,
}

/// Why a section's bytes are no note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadNote(pub String);

// === impl Note ===

impl Note {
    /// Reads the bytes of the section.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadNote> {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let text = std::str::from_utf8(&bytes[..end]).map_err(|error| BadNote(format!("it is not text: {error}")))?;
        let mut lines = text.lines();
        if lines.next() != Some(MAGIC) {
            return Err(BadNote(format!("it doesn't begin with {MAGIC:?}")));
        }
        let mut note = Self::default();
        let mut abi = None;
        for line in lines {
            let (key, value) = line.split_once('=').ok_or_else(|| BadNote(format!("{line:?} is not key=value")))?;
            match key {
                "abi" => abi = parse_version(value),
                "sdk" => value.clone_into(&mut note.sdk),
                "rustc" => value.clone_into(&mut note.rustc),
                "panic" => value.clone_into(&mut note.panic),
                "target" => value.clone_into(&mut note.target),
                "features" => {
                    note.target_features = value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
                }
                "libtorch" => note.libtorch = Some(value.to_owned()).filter(|text| text != "none"),
                "handler" => {
                    let (name, type_name) = value.split_once(':').unwrap_or((value, value));
                    note.handlers.push(HandlerNote { name: name.to_owned(), type_name: type_name.to_owned() });
                }
                // A later SDK may say more of itself.
                _ => {}
            }
        }
        note.abi = abi.ok_or_else(|| BadNote("it names no ABI version".to_owned()))?;
        Ok(note)
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl fmt::Display for BadNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadNote {}

// === Writing, while the plugin is compiled ===

/// How many bytes [`write()`] needs.
pub const fn size(panic: &str, handlers: &[(&str, &str)]) -> usize {
    Writer::<0>::new().note(panic, handlers).used
}

/// The bytes of the note of a library that is being compiled.
pub const fn write<const N: usize>(panic: &str, handlers: &[(&str, &str)]) -> [u8; N] {
    Writer::<N>::new().note(panic, handlers).bytes
}

/// Counts what it is given, and keeps what fits.
struct Writer<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Writer<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], used: 0 }
    }

    const fn note(self, panic: &str, handlers: &[(&str, &str)]) -> Self {
        let libtorch = if cfg!(feature = "tch") { LIBTORCH_VERSION } else { "none" };
        let mut writer = self
            .text(MAGIC)
            .text("\nabi=")
            .number(ABI_VERSION.0)
            .text(".")
            .number(ABI_VERSION.1)
            .text("\nsdk=")
            .text(SDK_VERSION)
            .text("\nrustc=")
            .text(env!("HANDLER_SDK_RUSTC"))
            .text("\npanic=")
            .text(panic)
            .text("\ntarget=")
            .text(env!("HANDLER_SDK_TARGET"))
            .text("\nfeatures=")
            .text(env!("HANDLER_SDK_TARGET_FEATURES"))
            .text("\nlibtorch=")
            .text(libtorch);
        let mut index = 0;
        while index < handlers.len() {
            let (name, type_name) = handlers[index];
            writer = writer.text("\nhandler=").text(name).text(":").text(type_name);
            index += 1;
        }
        writer.text("\n\0")
    }

    const fn number(self, number: u32) -> Self {
        let writer = if number >= 10 { self.number(number / 10) } else { self };
        #[allow(clippy::cast_possible_truncation)] // Below ten.
        writer.byte(b'0' + (number % 10) as u8)
    }

    const fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            self = self.byte(bytes[index]);
            index += 1;
        }
        self
    }

    const fn byte(mut self, byte: u8) -> Self {
        if self.used < N {
            self.bytes[self.used] = byte;
        }
        self.used += 1;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLERS: &[(&str, &str)] = &[("echo", "Echo"), ("twice", "Twice")];
    const SIZE: usize = size("unwind", HANDLERS);
    static NOTE: [u8; SIZE] = write::<SIZE>("unwind", HANDLERS);

    #[test]
    fn what_is_written_is_read() {
        let note = Note::parse(&NOTE).unwrap();
        assert_eq!(note.abi, ABI_VERSION);
        assert_eq!(note.sdk, SDK_VERSION);
        assert_eq!(note.panic, "unwind");
        assert!(note.rustc.starts_with("rustc 1."), "{}", note.rustc);
        assert!(note.target.contains('-'), "{}", note.target);
        assert_eq!(note.libtorch.is_some(), cfg!(feature = "tch"));
        let names: Vec<_> =
            note.handlers.iter().map(|handler| (handler.name.as_str(), handler.type_name.as_str())).collect();
        assert_eq!(names, HANDLERS);
    }

    #[test]
    fn what_is_no_note_is_refused() {
        for (bytes, reason) in [
            (&b""[..], "begin"),
            (b"\x7fELF", "begin"),
            (b"sconce handler library\nnonsense\0", "key=value"),
            (b"sconce handler library\nsdk=1.0.0\0", "no ABI version"),
            (b"sconce handler library\nabi=one\0", "no ABI version"),
            (b"sconce handler library\nabi=1.0\xff\0", "not text"),
        ] {
            let error = Note::parse(bytes).unwrap_err();
            assert!(error.0.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_later_note_may_say_more() {
        let note = Note::parse(b"sconce handler library\nabi=1.12\nmood=good\n\0").unwrap();
        assert_eq!(note.abi, (1, 12));
    }
}
