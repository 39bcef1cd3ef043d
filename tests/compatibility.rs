//! docs/torchserve-compatibility.md: each row that works names a test that is there, each that doesn't says why, and nothing that users can give is left out.

use std::fs;
use std::path::Path;

use crate::support::repository;
use crate::support::sconce;

/// A row of one of the tables.
#[derive(Debug)]
struct Row {
    line: usize,
    what: String,
    here: String,
    how: String,
    tests: Vec<String>,
}

/// What becomes of a thing of TorchServe's.
const KINDS: [&str; 4] = ["same", "fixed", "later", "not here"];

/// Fewer rows than this mean that the tables weren't read.
const FEWEST: usize = 200;

fn document() -> String {
    fs::read_to_string(repository().join("docs/torchserve-compatibility.md")).unwrap()
}

fn rows(document: &str) -> Vec<Row> {
    let lines = document.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            // A bar within a cell is written `\|`.
            let line_text = line.replace("\\|", "\u{1}");
            let cells: Vec<String> = line_text
                .strip_prefix('|')?
                .strip_suffix('|')?
                .split('|')
                .map(|cell| cell.trim().replace('\u{1}', "|"))
                .collect();
            let [what, here, how, tests] = <[String; 4]>::try_from(cells).ok()?;
            let is_head = what.starts_with("---") || here == "here";
            let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (!is_head).then_some(Row { line: index + 1, what, here, how, tests })
        })
        .collect()
}

#[test]
fn a_row_that_works_names_its_test_and_one_that_does_not_says_why() {
    let rows = rows(&document());
    assert!(rows.len() >= FEWEST, "only {} rows were seen", rows.len());
    let mut sources = String::new();
    for folder in ["tests", "host/src", "handler-sdk/src", "handler-sdk/tests", "xtask/src", "plugins"] {
        read_all(&repository().join(folder), &mut sources);
    }
    let mut wrong = Vec::new();
    for row in &rows {
        let Row { line, what, here, how, tests } = row;
        if !KINDS.contains(&here.as_str()) {
            wrong.push(format!("line {line}: {what}: {here:?} is none of {KINDS:?}"));
        }
        let works = matches!(here.as_str(), "same" | "fixed");
        if works && tests.is_empty() {
            wrong.push(format!("line {line}: {what} works, and no test is named"));
        }
        if here != "same" && how.is_empty() {
            wrong.push(format!("line {line}: {what} is {here}, and it isn't said how or why"));
        }
        for test in tests.iter().filter(|test| !sources.contains(&format!("fn {test}()"))) {
            wrong.push(format!("line {line}: {what}: there is no test {test}"));
        }
    }
    assert!(wrong.is_empty(), "docs/torchserve-compatibility.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_key_that_sconce_knows_has_a_row() {
    let rows = rows(&document());
    let config = sconce(["config", "--json"]);
    assert!(config.status.success(), "{config:?}");
    let known: serde_json::Value = serde_json::from_slice(&config.stdout).unwrap();
    let keys: Vec<&str> = known["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| setting["key"].as_str().unwrap())
        .filter(|key| !key.starts_with("sconce_"))
        .collect();
    assert!(keys.len() > 20, "only {} keys were seen", keys.len());
    let missing: Vec<_> =
        keys.into_iter().filter(|key| !rows.iter().any(|row| row.what.contains(&format!("`{key}`")))).collect();
    assert!(missing.is_empty(), "docs/torchserve-compatibility.md has no row for the keys {missing:?}");
}

/// The other way round: no row is of a key that Sconce takes for a slip.
#[test]
fn every_key_that_has_a_row_is_known() {
    let document = document();
    let (_, rest) = document.split_once("\n### Keys\n").unwrap();
    let (section, _) = rest.split_once("\n###").unwrap();
    let rows = rows(section);
    let key = |row: &Row| row.what.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
    // Those without a value say nothing else.
    let keys: Vec<String> = rows.iter().filter_map(key).map(|key| format!("{key}=\n")).collect();
    assert!(keys.len() > 70, "only {} keys were seen", keys.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.properties");
    fs::write(&file, keys.concat()).unwrap();
    let config = sconce(["config", "--json", "--ts-config", file.to_str().unwrap()]);
    assert!(config.status.success(), "{config:?}");
    let known: serde_json::Value = serde_json::from_slice(&config.stdout).unwrap();
    let warnings: Vec<&str> = known["warnings"].as_array().unwrap().iter().filter_map(|text| text.as_str()).collect();
    let unknown: Vec<_> = warnings.into_iter().filter(|text| text.contains("is unknown")).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

fn read_all(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
