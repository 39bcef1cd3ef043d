//! The one macro: it makes a library out of a crate with handlers.

/// Exports one or several handlers from a `cdylib`.
///
/// Archives ask for a handler by its name: by default the type's name in snake case (`MnistDigitClassifier` → `mnist_digit_classifier`), or the name after `as`.
///
/// ```
/// use handler_sdk::prelude::*;
///
/// #[derive(Default)]
/// struct Echo;
/// impl Handler for Echo {}
///
/// #[derive(Default)]
/// struct Shout;
/// impl Handler for Shout {}
///
/// export_handler!(Echo, Shout as "loud_echo");
/// ```
///
/// Use it once in a crate.
/// The crate's `Cargo.toml` needs `crate-type = ["cdylib"]`, and its profiles must leave `panic = "unwind"`.
#[macro_export]
macro_rules! export_handler {
    ($($handler:ty $(as $name:literal)?),+ $(,)?) => {
        const _: () = {
            const PANIC: &str = if cfg!(panic = "abort") { "abort" } else { "unwind" };
            const NAMES: &[(&str, &str)] = &[$($crate::__names!($handler $(, $name)?)),+];
            const SIZE: usize = $crate::__private::note::size(PANIC, NAMES);

            // Exported, so that no linker drops it as unused.
            #[unsafe(no_mangle)]
            #[cfg_attr(target_os = "linux", unsafe(link_section = ".sconce.note"))]
            #[used]
            pub static SCONCE_HANDLER_NOTE: [u8; SIZE] = $crate::__private::note::write::<SIZE>(PANIC, NAMES);

            static EXPORTS: &[$crate::__private::RawExport] = &[$(
                $crate::__private::export::<$handler>($crate::__names!($handler $(, $name)?))
            ),+];

            static ROOT: $crate::__private::Root = $crate::__private::plugin(EXPORTS);

            fn root() -> $crate::__private::RawPluginRef {
                $crate::__private::RawPluginRef(ROOT.static_as_prefix())
            }

            extern "C" fn construct() -> $crate::__private::RootModuleResult {
                $crate::__private::call_root_module_loader(root)
            }

            // The name by which abi_stable's hosts find a library's root.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            pub static SCONCE_HANDLER_ROOT: $crate::__private::LibHeader = $crate::__private::header(construct);
        };
    };
}

/// `(name, type_name)` of a handler, as constants.
#[doc(hidden)]
#[macro_export]
macro_rules! __names {
    ($handler:ty, $name:literal) => {
        ($name, $crate::__private::last_segment(stringify!($handler)))
    };
    ($handler:ty) => {{
        const TYPE_NAME: &str = $crate::__private::last_segment(stringify!($handler));
        const SIZE: usize = $crate::__private::snake_case_size(TYPE_NAME);
        const BYTES: [u8; SIZE] = $crate::__private::snake_case(TYPE_NAME);
        const NAME: &str = match std::str::from_utf8(&BYTES) {
            Ok(name) => name,
            Err(_) => TYPE_NAME,
        };
        (NAME, TYPE_NAME)
    }};
}

/// What the macro's expansion uses.
pub mod private {
    #![allow(unsafe_code)]

    use crate::Handler;
    use crate::abi::glue::Glue;
    use crate::abi::raw::RawPlugin;
    use abi_stable::library::CheckTypeLayout;
    use abi_stable::prefix_type::WithMetadata;
    use abi_stable::std_types::RSlice;
    use abi_stable::std_types::RStr;

    pub use crate::abi::note;
    pub use crate::abi::raw::RawExport;
    pub use crate::abi::raw::RawPluginRef;
    pub use abi_stable::library::__call_root_module_loader as call_root_module_loader;
    pub use abi_stable::library::LibHeader;
    pub use abi_stable::library::RootModuleResult;
    pub use serde_json::Value as Json;

    /// A row of the library's table.
    pub const fn export<H: Handler>(names: (&'static str, &'static str)) -> RawExport {
        RawExport { name: RStr::from_str(names.0), type_name: RStr::from_str(names.1), handler: Glue::<H>::TABLE }
    }

    /// The library's root, in its read-only data: opening a library allocates nothing for it.
    pub type Root = WithMetadata<RawPlugin>;

    /// Makes the root.
    pub const fn plugin(exports: &'static [RawExport]) -> Root {
        WithMetadata::new(RawPlugin { handlers: RSlice::from_slice(exports) })
    }

    /// What abi_stable's hosts look for.
    pub const fn header(construct: extern "C" fn() -> RootModuleResult) -> LibHeader {
        // SAFETY: `construct` gives a `RawPluginRef`, whose layout the header then describes.
        unsafe { LibHeader::from_constructor::<RawPluginRef>(construct, CheckTypeLayout::Yes) }
    }

    /// The type's own name, without its path.
    pub const fn last_segment(path: &str) -> &str {
        let bytes = path.as_bytes();
        let mut start = 0;
        let mut index = 0;
        while index < bytes.len() {
            if bytes[index] == b':' || bytes[index] == b' ' {
                start = index + 1;
            }
            index += 1;
        }
        path.split_at(start).1
    }

    /// The length of [`snake_case`]'s result.
    pub const fn snake_case_size(name: &str) -> usize {
        let bytes = name.as_bytes();
        let mut size = 0;
        let mut index = 0;
        while index < bytes.len() {
            size += 1 + starts_word(bytes, index) as usize;
            index += 1;
        }
        size
    }

    /// `MNISTDigitClassifier` → `mnist_digit_classifier`.
    pub const fn snake_case<const N: usize>(name: &str) -> [u8; N] {
        let bytes = name.as_bytes();
        let mut out = [0; N];
        let mut used = 0;
        let mut index = 0;
        while index < bytes.len() {
            if starts_word(bytes, index) {
                out[used] = b'_';
                used += 1;
            }
            out[used] = bytes[index].to_ascii_lowercase();
            used += 1;
            index += 1;
        }
        out
    }

    /// A capital starts a word after a small letter or digit, and before a small letter.
    const fn starts_word(bytes: &[u8], index: usize) -> bool {
        if index == 0 || !bytes[index].is_ascii_uppercase() || bytes[index - 1] == b'_' {
            return false;
        }
        let after_small = !bytes[index - 1].is_ascii_uppercase();
        let before_small = index + 1 < bytes.len() && bytes[index + 1].is_ascii_lowercase();
        after_small || before_small
    }
}

#[cfg(test)]
mod tests {
    use super::private::last_segment;
    use super::private::snake_case;

    #[test]
    fn names_follow_the_type() {
        assert_eq!(&snake_case::<4>("Echo"), b"echo");
        assert_eq!(&snake_case::<22>("MNISTDigitClassifier"), b"mnist_digit_classifier");
        assert_eq!(&snake_case::<13>("ResNet18XL2"), b"res_net18_xl2");
        assert_eq!(&snake_case::<8>("my_Class"), b"my_class");
        assert_eq!(last_segment("crate :: handlers :: Echo"), "Echo");
        assert_eq!(last_segment("Echo"), "Echo");
    }

    #[test]
    fn the_root_is_where_abi_stable_looks() {
        assert_eq!(abi_stable::library::ROOT_MODULE_LOADER_NAME, "_1as_0lib_1header_0root_bmodule_bloader");
    }
}
