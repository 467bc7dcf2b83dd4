//! Comma-separated values (RFC 4180) that no spreadsheet takes for anything but values.

/// Rows under one header.
///
/// Lines end with CRLF; a cell that holds a comma, a quote or a line break is quoted, and quotes in it are doubled. A
/// text that a spreadsheet would take for a formula gets an apostrophe before it: it may be a model's name, which any
/// client can make up. So does what would be a formula within a cell to a spreadsheet that divides lines at semicolons or
/// tabs, as those of many countries do: quotes in the middle of a cell mean nothing to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Csv(String);

/// What formulas begin with, to one spreadsheet or another; a tab or a line break before one is passed over by some.
const FORMULAS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];
/// What other spreadsheets divide cells and lines at.
const DIVIDERS: [char; 4] = [';', '\t', '\n', '\r'];
/// What is passed over before a formula, or is nothing to see.
const PASSED: [char; 6] = [' ', '\n', '\0', '\u{a0}', '\u{200b}', '\u{feff}'];

impl Csv {
    /// A header and no row.
    #[must_use]
    pub fn new(columns: &[&str]) -> Self {
        let mut csv = Self::default();
        csv.row(columns.iter().copied());
        csv
    }

    /// Adds a row.
    pub fn row<'c>(&mut self, cells: impl IntoIterator<Item = &'c str>) {
        for (at, cell) in cells.into_iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            self.cell(cell);
        }
        self.0.push_str("\r\n");
    }

    fn cell(&mut self, cell: &str) {
        let formula = cell.trim_start_matches(PASSED).starts_with(is_formula);
        let quoted = cell.contains([',', '"', '\n', '\r']);
        if quoted {
            self.0.push('"');
        }
        if formula {
            self.0.push('\'');
        }
        self.text_of(cell);
        if quoted {
            self.0.push('"');
        }
    }

    /// The text of a cell, its quotes doubled, and no formula behind what divides cells elsewhere.
    fn text_of(&mut self, cell: &str) {
        let mut begins = false;
        for c in cell.chars() {
            if begins && is_formula(c) && !DIVIDERS.contains(&c) {
                self.0.push('\'');
            }
            if c == '"' {
                self.0.push('"');
            }
            self.0.push(c);
            begins = DIVIDERS.contains(&c) || (begins && (c == '"' || PASSED.contains(&c)));
        }
    }

    /// The whole.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The rows without the header, to stand after others.
    #[must_use]
    pub fn rows(&self) -> &str {
        // No name of a column has a line break in it.
        self.0.split_once("\r\n").map_or("", |(_, rows)| rows)
    }
}

/// Whether a formula may begin so. A full-width sign is read as the sign itself by some.
fn is_formula(c: char) -> bool {
    FORMULAS.contains(&c) || matches!(c, '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> String {
        let mut csv = Csv::default();
        csv.row([text]);
        csv.text().trim_end_matches("\r\n").to_owned()
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        for (text, written) in [
            ("", ""),
            ("gpt-4o", "gpt-4o"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("a\rb", "\"a\rb\""),
            (" blank ", " blank "),
        ] {
            assert_eq!(cell(text), written, "{text:?}");
        }
        let mut csv = Csv::new(&["a", "b"]);
        csv.row(["1", "x,y"]);
        assert_eq!((csv.text(), csv.rows()), ("a,b\r\n1,\"x,y\"\r\n", "1,\"x,y\"\r\n"));
    }

    #[test]
    fn no_cell_is_a_formula() {
        for text in [
            "=1+1",
            "+1",
            "-2+3",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            " =1",
            "\n=cmd|' /C calc'!A0",
            "\u{feff}=1",
            "＝1",
            "\u{200b}=1",
            "\u{a0}@x",
            "=HYPERLINK(\"http://x\",\"y\")",
        ] {
            let written = cell(text);
            assert!(written.trim_start_matches('"').starts_with('\''), "{text:?}: {written:?}");
        }
    }

    /// Read by one that divides lines at something else, and to which a quote within a cell is a letter.
    #[test]
    fn nor_is_a_piece_of_one() {
        for (text, written) in [
            ("a;=1+1", "a;'=1+1"),
            ("a\t=1", "a\t'=1"),
            ("a; \u{feff}@x", "a; \u{feff}'@x"),
            ("a\n=1", "\"a\n'=1\""),
            ("a\r\n+1", "\"a\r\n'+1\""),
            ("a;\"=1\"", "\"a;\"\"'=1\"\"\""),
            (";-1;=2", ";'-1;'=2"),
            ("\n=1", "\"'\n'=1\""),
            // What stands elsewhere is none.
            ("a=1;b=2", "a=1;b=2"),
            ("gpt-4o;x-1", "gpt-4o;x-1"),
        ] {
            assert_eq!(cell(text), written, "{text:?}");
        }
    }
}
