//! A table for a terminal, as wide as its cells but at most a hundred characters.

use std::char::REPLACEMENT_CHARACTER;

/// The largest width of a line, in characters.
const WIDTH: usize = 100;
/// The smallest width to which a cell of free text may be cut, in characters.
const LEAST: usize = 4;
const GAP: &str = "  ";

/// A column.
pub struct Column {
    head: &'static str,
    cells: Vec<String>,
    /// Whether it is right-aligned.
    right: bool,
    /// Whether its cells may be cut.
    free: bool,
}

impl Column {
    /// Creates a column of free text, cut in the middle if it doesn't fit.
    pub fn text(head: &'static str, cells: Vec<String>) -> Self {
        Self { free: true, ..Self::word(head, cells) }
    }

    /// Creates a column of words, which are never cut.
    pub fn word(head: &'static str, cells: Vec<String>) -> Self {
        Self {
            head,
            cells: cells.iter().map(|cell| harmless(cell)).collect(),
            right: false,
            free: false,
        }
    }

    /// Creates a column of numbers, right-aligned.
    pub fn number(head: &'static str, cells: Vec<String>) -> Self {
        Self { right: true, ..Self::word(head, cells) }
    }

    fn width(&self) -> usize {
        self.cells
            .iter()
            .map(String::as_str)
            .chain([self.head])
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    }
}

/// Replaces control characters, which could move the cursor: names may come from untrusted folders
/// and files.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Renders the table. Columns without any entry are left out.
pub fn render(columns: &[Column]) -> String {
    let columns: Vec<&Column> =
        columns.iter().filter(|column| column.cells.iter().any(|cell| !cell.is_empty())).collect();
    let mut widths: Vec<usize> = columns.iter().map(|column| column.width()).collect();
    let gaps = GAP.len() * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > WIDTH {
        let free = (0..columns.len()).filter(|i| columns[*i].free && widths[*i] > LEAST);
        let Some(widest) = free.max_by_key(|i| widths[*i]) else { break };
        widths[widest] -= 1;
    }
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let line = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, &width)| {
            let text = cut(&cell(column), width);
            if column.right { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned() + "\n"
    };
    let head = line(&|column| column.head.into());
    head + &(0..rows).map(|row| line(&|column| column.cells[row].clone())).collect::<String>()
}

/// Cuts `text` to `width` characters, in the middle, because runs differ at the ends of their
/// names.
fn cut(text: &str, width: usize) -> String {
    let n = text.chars().count();
    if n <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(2);
    let (start, end) = (kept.div_ceil(2), kept / 2);
    text.chars()
        .take(start)
        .chain("..".chars().take(width))
        .chain(text.chars().skip(n - end))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(
        kind: fn(&'static str, Vec<String>) -> Column,
        head: &'static str,
        cells: &[&str],
    ) -> Column {
        kind(head, cells.iter().map(|cell| (*cell).to_owned()).collect())
    }

    #[test]
    fn cells_are_aligned_with_their_heads_and_empty_columns_are_left_out() {
        let columns = [
            column(Column::text, "run", &["tiny-1", "b"]),
            column(Column::number, "k-NN", &["", ""]),
            column(Column::number, "steps", &["9", "17,496"]),
        ];
        assert_eq!(render(&columns), "run      steps\ntiny-1       9\nb       17,496\n");
    }

    #[test]
    fn names_are_cut_in_their_middle_until_a_line_fits() {
        let long = "a".repeat(90) + "-17";
        let columns = [
            column(Column::text, "run", &[&long, "short"]),
            column(Column::word, "state", &["no checkpoint", "finished"]),
            column(Column::number, "steps", &["156,000", "9"]),
            column(Column::text, "data", &["ü\u{1b}[2J", ""]),
        ];
        let table = render(&columns);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= WIDTH),
            "{table}"
        );
        assert_eq!(lines[1].chars().count(), WIDTH);
        assert!(
            lines[1].contains("..")
                && lines[1].contains("-17")
                && lines[1].contains("no checkpoint"),
            "{table}"
        );
        assert!(!table.contains('\u{1b}'), "{table}");
        assert_eq!(
            [cut("abcdefgh", 6), cut("abcdefgh", 2), cut("abc", 3)],
            ["ab..gh", "..", "abc"]
        );
    }
}
