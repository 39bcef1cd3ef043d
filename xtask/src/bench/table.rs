//! Rows and columns, for a terminal and for Markdown.

/// The first column is text, the others are figures.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    pub(super) fn new(head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    pub(super) fn plain(&self) -> String {
        let widths = self.widths();
        self.lines()
            .map(|line| format!("  {}", padded(line, &widths).join("   ").trim_end()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        let rule = (0..self.head.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect::<Vec<_>>();
        let rule = format!("|{}|", rule.join("|"));
        let mut lines = vec![line(&self.head), rule];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines.join("\n")
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.head).chain(&self.rows)
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| self.lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        (0..self.head.len()).map(width).collect()
    }
}

fn padded(cells: &[String], widths: &[usize]) -> Vec<String> {
    let pad = |(column, (cell, &width)): (usize, (&String, &usize))| {
        if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
    };
    cells.iter().zip(widths).enumerate().map(pad).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["step", "ms"]);
        table.row(["open", "0.5"]);
        table.row(["publish – all", "12.5"]);
        table.row(["close"]);
        table
    }

    #[test]
    fn figures_stand_under_each_other() {
        assert_eq!(table().plain(), "  step              ms\n  open             0.5\n  publish – all   12.5\n  close");
    }

    #[test]
    fn the_same_as_markdown() {
        assert_eq!(
            table().markdown(),
            "| step | ms |\n|---|---:|\n| open | 0.5 |\n| publish – all | 12.5 |\n| close |  |"
        );
    }
}
