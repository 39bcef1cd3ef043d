//! What was measured: to the terminal as it comes, and to a Markdown file in the end.

use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;

use super::machine;
use super::table::Table;

/// All that one run has to tell.
#[derive(Debug)]
pub(super) struct Report {
    title: &'static str,
    command: String,
    machine: String,
    sections: Vec<Section>,
}

/// One question, and its answer.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    /// How it was measured.
    pub(super) method: String,
    pub(super) tables: Vec<Table>,
}

// === impl Report ===

impl Report {
    pub(super) fn begin(title: &'static str) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let command = format!("cargo xtask {}", arguments.join(" "));
        let machine = machine::described();
        println!("\n== {title}\n{machine}");
        Self { title, command, machine, sections: Vec::new() }
    }

    pub(super) fn add(&mut self, section: Section) {
        println!("\n{}", section.plain());
        self.sections.push(section);
    }

    pub(super) fn write_markdown(&self, file: &Path) -> Result<()> {
        fs::write(file, self.markdown()).with_context(|| format!("{} can't be written", file.display()))?;
        println!("\nwritten to {}", file.display());
        Ok(())
    }

    pub(super) fn markdown(&self) -> String {
        let sections: String = self.sections.iter().map(Section::markdown).collect();
        format!("# {}\n\n`{}`\n\n{}.\n{sections}", self.title, self.command, self.machine)
    }
}

// === impl Section ===

impl Section {
    fn plain(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::plain).collect();
        format!("== {}\n{}\n\n{}", self.title, self.method, tables.join("\n\n"))
    }

    fn markdown(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::markdown).collect();
        let text: Vec<&str> = std::iter::once(self.method.as_str()).chain(tables.iter().map(String::as_str)).collect();
        format!("\n## {}\n\n{}\n", self.title, text.join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_says_what_was_typed_and_on_what() {
        let mut table = Table::new(["step", "ms"]);
        table.row(["open", "0.5"]);
        let section = Section { title: "Steps", method: "By the clock.".to_owned(), tables: vec![table] };
        assert_eq!(section.plain(), "== Steps\nBy the clock.\n\n  step    ms\n  open   0.5");
        let report = Report {
            title: "Hot swap",
            command: "cargo xtask bench swap".to_owned(),
            machine: "A CPU, 2 cores".to_owned(),
            sections: vec![section],
        };
        assert_eq!(
            report.markdown(),
            "# Hot swap\n\n`cargo xtask bench swap`\n\nA CPU, 2 cores.\n\n\
             ## Steps\n\nBy the clock.\n\n| step | ms |\n|---|---:|\n| open | 0.5 |\n"
        );
    }
}
