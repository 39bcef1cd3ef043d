//! What a manifest's `handler` refers to.

use crate::archive::error::ArchiveError;
use crate::archive::manifest::Runtime;

/// A handler's name as written, and what it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerName {
    /// As the manifest has it.
    pub text: String,
    pub refers_to: HandlerRef,
    /// The name was that of a Python file, which Sconce doesn't run: the
    /// plugin of the same name, if there is one, takes its place.
    pub named_python: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerRef {
    /// A handler that one of the server's plugins registers under this name.
    Plugin(String),
    /// A handler in a library that the archive carries.
    Packed { library: String, class: String },
}

// === impl HandlerName ===

impl HandlerName {
    pub fn parse(text: &str, runtime: Runtime) -> Result<Self, ArchiveError> {
        let bad = |detail: &str| ArchiveError::BadHandler { handler: text.to_owned(), detail: detail.to_owned() };
        let trimmed = text.trim();
        let (refers_to, named_python) = match (runtime, trimmed.split_once(':')) {
            (Runtime::Lsp, Some((library, class))) => {
                let library = library.strip_suffix(".so").unwrap_or(library);
                if !is_plain(library) || class.is_empty() {
                    return Err(bad(
                        "with the runtime LSP it is 'library:Class', a library at the root of the archive without its '.so' and the handler's name in it",
                    ));
                }
                let packed = HandlerRef::Packed { library: library.to_owned(), class: class.to_owned() };
                (packed, false)
            }
            (Runtime::Lsp, None) => (HandlerRef::Plugin(trimmed.to_owned()), false),
            (Runtime::Python | Runtime::Python3, split) => {
                let module = split.map_or(trimmed, |(module, _)| module);
                let file = module.rsplit('/').next().unwrap_or(module);
                let stem = file.strip_suffix(".py").unwrap_or(file);
                let named_python = stem.len() != trimmed.len();
                (HandlerRef::Plugin(stem.to_owned()), named_python)
            }
        };
        if let HandlerRef::Plugin(name) = &refers_to
            && !is_plain(name)
        {
            return Err(bad("it is the name of a plugin's handler, of letters, digits, '_', '-' and '.'"));
        }
        Ok(Self { text: text.to_owned(), refers_to, named_python })
    }

    /// How the server will look for the handler, in one sentence.
    pub fn how_it_is_found(&self) -> String {
        match &self.refers_to {
            HandlerRef::Packed { library, class } => {
                format!("handler {class:?} of the library {} in this archive", library_file(library))
            }
            HandlerRef::Plugin(name) if self.named_python => format!(
                "{:?} names a Python file, which Sconce doesn't run; the handler {name:?} of the server's plugins takes its place",
                self.text
            ),
            HandlerRef::Plugin(name) => format!("handler {name:?} of the server's plugins"),
        }
    }
}

/// The file name of a library, as this system spells it.
pub fn library_file(library: &str) -> String {
    format!("{library}{}", std::env::consts::DLL_SUFFIX)
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str) -> HandlerRef {
        HandlerRef::Plugin(name.to_owned())
    }

    #[test]
    fn refers_to() {
        let packed = HandlerRef::Packed { library: "libmnist_handler".to_owned(), class: "MnistHandler".to_owned() };
        let mnist = || plugin("mnist_digit_classifier");
        use Runtime::Lsp;
        use Runtime::Python;
        use Runtime::Python3;
        for (text, runtime, refers_to, named_python) in [
            ("mnist_digit_classifier", Python, mnist(), false),
            ("mnist_digit_classifier.py", Python, mnist(), true),
            ("mnist_digit_classifier.py:handle", Python3, mnist(), true),
            ("mnist_digit_classifier:handle", Python, mnist(), true),
            ("a/b/mnist_digit_classifier.py", Python, mnist(), true),
            ("libmnist_handler:MnistHandler", Lsp, packed.clone(), false),
            ("libmnist_handler.so:MnistHandler", Lsp, packed, false),
            ("BaseHandler", Lsp, plugin("BaseHandler"), false),
            ("echo", Lsp, plugin("echo"), false),
        ] {
            let handler = HandlerName::parse(text, runtime).unwrap();
            assert_eq!(handler.refers_to, refers_to, "{text}");
            assert_eq!(handler.named_python, named_python, "{text}");
        }
    }

    #[test]
    fn refuses_what_could_be_a_path() {
        for (text, runtime) in [
            ("../libx:H", Runtime::Lsp),
            ("a/libx:H", Runtime::Lsp),
            ("libx:", Runtime::Lsp),
            (":H", Runtime::Lsp),
            ("", Runtime::Python),
            (".py", Runtime::Python),
            ("..", Runtime::Python),
            ("a b", Runtime::Python),
        ] {
            let message = HandlerName::parse(text, runtime).unwrap_err().to_string();
            assert!(message.contains("can't be a handler"), "{text}: {message}");
        }
    }
}
