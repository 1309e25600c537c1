//! Text in columns.

use std::fmt::Write as _;

/// Lines of cells under a head; the first `left` columns stand at the left, numbers at the right.
#[derive(Debug)]
pub(super) struct Table {
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(left: usize, head: &[&str]) -> Self {
        Self {
            left,
            rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The text, every line of it behind `indent`.
    pub(super) fn render(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (no, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if no > 0 { "  " } else { "" };
                // Writing to a string cannot fail.
                let _ = if no < self.left {
                    write!(line, "{gap}{cell:<width$}")
                } else {
                    write!(line, "{gap}{cell:>width$}")
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(1, &["name", "n"]);
        assert!(table.is_empty());
        table.row(["a".to_owned(), "1000".to_owned()]);
        table.row(["längst".to_owned(), "7".to_owned()]);
        assert_eq!(table.render("  "), "  name       n\n  a       1000\n  längst     7\n");
    }
}
