//! Comma-separated values (RFC 4180) that no spreadsheet takes for anything but values.

/// Rows under one header.
///
/// Lines end with CRLF; a cell that holds a comma, a quote or a line break is quoted, and quotes in it are doubled. A
/// text that a spreadsheet would take for a formula gets an apostrophe before it: it may be a model's name, which any
/// client can make up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Csv(String);

/// What formulas begin with, to one spreadsheet or another; a tab or a line break before one is passed over by some.
const FORMULAS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

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
        // A full-width sign is read as the sign itself by some.
        let folded = cell.trim_start_matches([' ', '\n', '\0', '\u{feff}']).chars().next();
        let formula = folded.is_some_and(|first| {
            FORMULAS.contains(&first) || matches!(first, '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}')
        });
        let quoted = cell.contains([',', '"', '\n', '\r']);
        if quoted {
            self.0.push('"');
        }
        if formula {
            self.0.push('\'');
        }
        match quoted {
            true => self.0.push_str(&cell.replace('"', "\"\"")),
            false => self.0.push_str(cell),
        }
        if quoted {
            self.0.push('"');
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
            "=HYPERLINK(\"http://x\",\"y\")",
        ] {
            let written = cell(text);
            assert!(written.trim_start_matches('"').starts_with('\''), "{text:?}: {written:?}");
        }
    }
}
