//! Rows for a person: columns aligned, nothing that could command a terminal.

use std::io::{self, Write};

/// Writes a header (unless all of it is empty) and rows, each column as wide as its widest cell, indented by two spaces.
///
/// # Errors
/// When the output is gone.
pub fn write_table<const COLUMNS: usize>(out: &mut impl Write, header: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> io::Result<()> {
    let mut widths = header.map(|cell| cell.chars().count());
    let rows: Vec<[String; COLUMNS]> = rows.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    if header.iter().any(|cell| !cell.is_empty()) {
        write_row(out, &widths, header.iter().copied())?;
    }
    rows.iter().try_for_each(|row| write_row(out, &widths, row.iter().map(String::as_str)))
}

fn write_row<'a>(out: &mut impl Write, widths: &[usize], cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let mut line = String::new();
    for (width, cell) in widths.iter().zip(cells) {
        line.push_str("  ");
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
    }
    writeln!(out, "{}", line.trim_end())
}

/// Text from outside, with control characters spelled out: an id may hold any.
pub fn plain(text: &str) -> String {
    text.chars().flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let rows = [["1".to_owned(), "long text".to_owned()], ["1000".to_owned(), String::new()]];
        write_table(&mut out, ["n", "what"], &rows).expect("written");
        assert_eq!(String::from_utf8(out).expect("text"), "  n     what\n  1     long text\n  1000\n");
    }

    #[test]
    fn an_id_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
    }
}
