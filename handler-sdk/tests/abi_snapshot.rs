//! The boundary changes on purpose or not at all: what crosses is compared with a snapshot, and the changelog names the snapshot it speaks of.
//!
//! After a change that is meant: run this test with `SCONCE_BLESS=1` in the environment, which writes `abi_snapshot.txt` anew, then put an entry into `CHANGELOG.md` with the line that the test asks for.

#![allow(clippy::unwrap_used)] // The helpers are part of the test; clippy exempts only the test function itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use abi_stable::StableAbi;
use abi_stable::type_layout::TLData;
use abi_stable::type_layout::TLField;
use abi_stable::type_layout::TLFields;
use abi_stable::type_layout::TypeLayout;
use handler_sdk::ContextInfo;
use handler_sdk::DType;
use handler_sdk::Level;
use handler_sdk::MetricKind;
use handler_sdk::ModelKind;
use handler_sdk::abi::ABI_VERSION;
use handler_sdk::abi::SDK_VERSION;
use handler_sdk::abi::note;
use handler_sdk::abi::raw::RawPluginRef;
use handler_sdk::abi::raw::RawStateVersion;
use handler_sdk::abi::raw::WHOLE_CALL;
use serde_json::Value;

/// Set to write the snapshot anew.
const BLESS: &str = "SCONCE_BLESS";

#[test]
fn the_boundary_moves_only_with_its_snapshot_and_its_changelog() {
    let snapshot_file = folder().join("tests/abi_snapshot.txt");
    let now = boundary();
    if std::env::var_os(BLESS).is_some() {
        fs::write(&snapshot_file, &now).unwrap();
    }
    let snapshot = fs::read_to_string(&snapshot_file).unwrap_or_default();
    if let Some((line, old, new)) = first_difference(&snapshot, &now) {
        panic!(
            "what crosses the boundary has changed: {}, line {line}: {old:?} is now {new:?}. \
             Plugins that are built already see the old shape. Undo the change; or, if it is meant, raise ABI_VERSION \
             (the minor part for what is added at the end of a function table, else the major one), \
             run this test with {BLESS}=1, and add an entry to handler-sdk/CHANGELOG.md",
            snapshot_file.display()
        );
    }
    let changelog = fs::read_to_string(folder().join("CHANGELOG.md")).unwrap();
    let latest = latest_entry(&changelog);
    for wanted in [
        format!("## {SDK_VERSION}"),
        format!("ABI {}.{}, snapshot `{:016x}`", ABI_VERSION.0, ABI_VERSION.1, fnv(&snapshot)),
    ] {
        assert!(
            latest.contains(&wanted),
            "the first entry of handler-sdk/CHANGELOG.md doesn't speak of the boundary as it is: it needs {wanted:?}, and a word on what changed for plugins. It is:\n{latest}"
        );
    }
}

#[test]
fn a_changed_boundary_shows() {
    let text = boundary();
    // Reached through the root, through a table, through a function's parameter, and through a field of that.
    for part in [
        "RawPlugin",
        "RawHandler",
        "RawBatch",
        "RawRequest",
        "RawField",
        "RawSink",
        "RawEvent",
        "RawMetric",
        "RawByteSink",
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("type {part}")));
        assert!(line.is_some_and(|line| line.contains("size")), "{part} is missing:\n{text}");
    }
    assert!(text.contains("const RawStatus::PANICKED = Self(2)"), "{text}");
    let changed = text.replacen("status: u16", "status: u32", 1);
    assert_ne!(changed, text, "the snapshot names the types of fields");
    let (line, old, new) = first_difference(&text, &changed).unwrap();
    assert!(old.contains("u16") && new.contains("u32"), "line {line}: {old:?}, {new:?}");
    assert_ne!(fnv(&text), fnv(&changed));
}

/// All that crosses, as text: each type with its size and fields, each function with its parameters, each number with a meaning.
fn boundary() -> String {
    let mut types = BTreeMap::new();
    add(<RawPluginRef as StableAbi>::LAYOUT, &mut types);
    let mut text = format!("abi {}.{}\nnote section {}\n", ABI_VERSION.0, ABI_VERSION.1, note::SECTION);
    text.extend(types.into_values());
    // The numbers have no layout: they are read from the source.
    let source = fs::read_to_string(folder().join("src/abi/raw.rs")).unwrap();
    let mut owner = String::new();
    for line in source.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("impl ") {
            owner = name.split([' ', '<']).next().unwrap_or_default().to_owned();
        } else if let Some(constant) = line.strip_prefix("pub const ")
            && let Some((name, value)) = constant.trim_end_matches(';').split_once(": Self = ")
        {
            writeln!(text, "const {owner}::{name} = {value}").unwrap();
        }
    }
    writeln!(text, "const WHOLE_CALL = {WHOLE_CALL:#x}").unwrap();
    for (dtype, code) in (0..=u8::MAX).filter_map(|code| Some((DType::from_code(code)?, code))) {
        writeln!(text, "dtype {code} = {dtype:?}, {} bytes", dtype.size()).unwrap();
    }
    for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
        writeln!(text, "level {} = {level:?}", level as u8).unwrap();
    }
    for kind in [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram] {
        writeln!(text, "metric kind {} = {kind:?}", kind as u8).unwrap();
    }
    for version in [None, Some(0), Some(u32::MAX)] {
        writeln!(text, "state version {version:?} = {:?}", RawStateVersion::new(version)).unwrap();
    }
    // What `initialize` is told crosses as JSON.
    let context = ContextInfo {
        model_name: "name".to_owned(),
        model_version: "1.0".to_owned(),
        model_dir: "folder".into(),
        device: "cpu".to_owned(),
        model_kind: Some(ModelKind::TorchScript),
        properties: BTreeMap::new(),
        config: Value::Null,
    };
    writeln!(text, "context {}", serde_json::to_string(&context).unwrap()).unwrap();
    writeln!(text, "model kind {}", serde_json::to_string(&ModelKind::StateDict).unwrap()).unwrap();
    text
}

/// Describes a type, and all types that it leads to.
fn add(layout: &'static TypeLayout, types: &mut BTreeMap<String, String>) {
    let name = name(layout);
    if types.contains_key(&name) {
        return;
    }
    types.insert(name.clone(), String::new());
    let mut text = format!("type {name}: size {}, alignment {}", layout.size(), layout.alignment());
    let fields = match layout.data() {
        TLData::PrefixType(prefix) => {
            writeln!(text, ", table with {} fields in its first part", prefix.first_suffix_field).unwrap();
            Some(prefix.fields)
        }
        TLData::Struct { fields } | TLData::Union { fields } => {
            text.push_str(", struct\n");
            Some(fields)
        }
        TLData::Enum(data) => {
            writeln!(text, ", enum with {} variants", data.variant_count()).unwrap();
            Some(data.fields)
        }
        TLData::Primitive(primitive) => {
            writeln!(text, ", {primitive:?}").unwrap();
            None
        }
        TLData::Opaque => {
            text.push_str(", opaque\n");
            None
        }
    };
    for field in fields.iter().flat_map(TLFields::iter) {
        writeln!(text, "    {}", describe(field, types)).unwrap();
    }
    for field in layout.phantom_fields().iter() {
        add(field.layout(), types);
    }
    types.insert(name, text);
}

fn describe(field: TLField, types: &mut BTreeMap<String, String>) -> String {
    if !field.is_function() {
        add(field.layout(), types);
        return format!("{}: {}", field.name(), name(field.layout()));
    }
    let function = field.function_range().get(0).unwrap();
    let mut named = |layout| {
        add(layout, types);
        name(layout)
    };
    let parameters: Vec<String> = function.param_type_layouts.iter().map(|layout| named(layout())).collect();
    let result = function.return_type_layout().map_or_else(|| "()".to_owned(), |layout| named(layout()));
    format!("{}: fn({}) -> {result}", field.name(), parameters.join(", "))
}

/// The type's name; a slice is told apart by its elements, which its own name leaves out.
fn name(layout: &'static TypeLayout) -> String {
    let elements = match layout.data() {
        TLData::Struct { fields } if layout.name() == "RSlice" => fields.get(0),
        _ => None,
    };
    match elements {
        Some(pointer) => format!("RSlice<{}>", name(pointer.layout()).trim_start_matches("*const ")),
        None => layout.full_type().to_string().trim().replace("  ", " ").replace(" >", ">"),
    }
}

fn first_difference<'a>(old: &'a str, new: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut old, mut new) = (old.lines(), new.lines());
    (1..).find_map(|number| match (old.next(), new.next()) {
        (None, None) => Some(None),
        (old, new) if old == new => None,
        (old, new) => Some(Some((number, old.unwrap_or("(nothing)"), new.unwrap_or("(nothing)")))),
    })?
}

/// From the first heading of a version to the next one.
fn latest_entry(changelog: &str) -> String {
    let lines = changelog.lines().skip_while(|line| !line.starts_with("## "));
    let mut entry = String::new();
    for (index, line) in lines.enumerate() {
        if index > 0 && line.starts_with("## ") {
            break;
        }
        entry.push_str(line);
        entry.push('\n');
    }
    entry
}

/// FNV-1a: a digest that needs no crate and stays the same for ever.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
