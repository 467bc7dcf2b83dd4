//! Reading .env files: lines of `NAME=VALUE`.
//!
//! The programs that read such files disagree, so what two of them read differently is refused here, with its place: a
//! secret that is almost right is wrong. Taken are blank lines, comments, `export` before a name, and values without
//! quotes, in `'…'` (as they stand) or in `"…"` (with `\n \r \t \\ \" \' \$`), which may go over lines. No variable is
//! replaced. Values go from the file into a [`Secret`] and nowhere else, and no error repeats anything of the file.

use orch_server::secrets::MOST_IMPORTED;
use orch_vault::Secret;
use zeroize::Zeroizing;

const UNCLOSED: &str = "this quote is not closed";
const UNKNOWN_ESCAPE: &str = "this escape is not known: write \\\\ for a backslash, or use single quotes";

/// A name, and its value.
pub(super) struct Line {
    /// Where it begins, counted from 1.
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) value: Secret,
    /// Whether a `$` in it would be a variable elsewhere.
    pub(super) dollar: bool,
}

/// What is wrong, and where, counted from 1 (columns in characters).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) why: &'static str,
}

/// Reads a file.
///
/// # Errors
/// Where it is not text, or not lines of this kind, or where there are more than can be stored at once.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Line>, Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let at = Reader::new(std::str::from_utf8(valid).unwrap_or_default(), valid.len());
        at.wrong("this is not UTF-8")
    })?;
    let mut reader = Reader::new(text, text.strip_prefix('\u{feff}').map_or(0, |_| '\u{feff}'.len_utf8()));
    let mut lines = Vec::new();
    while !reader.rest().is_empty() {
        let begin = reader.at;
        if let Some(line) = reader.line()? {
            if lines.len() == MOST_IMPORTED {
                return Err(reader.wrong_at(begin, "no more than 1000 secrets are stored at once"));
            }
            lines.push(line);
        }
    }
    Ok(lines)
}

/// A place in the text.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// A place before, and the number of its line: lines are counted once.
    counted: (usize, usize),
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, at: usize) -> Self {
        Self { text, at, counted: (0, 1) }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// What is wrong where the reader stands.
    fn wrong(&self, why: &'static str) -> Wrong {
        self.wrong_at(self.at, why)
    }

    /// What is wrong at a place. It counts from the beginning: there is one of it in a file.
    fn wrong_at(&self, at: usize, why: &'static str) -> Wrong {
        let before = self.text.get(..at).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column =
            before.get(start..).unwrap_or_default().trim_start_matches('\u{feff}').chars().count() + 1;
        Wrong { line: line_breaks(before) + 1, column, why }
    }

    /// The number of the line where the reader stands.
    fn number(&mut self) -> usize {
        let (from, number) = self.counted;
        let number = number + line_breaks(self.text.get(from..self.at).unwrap_or_default());
        self.counted = (self.at, number);
        number
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.next();
        }
    }

    /// Goes behind the end of the line, if the reader stands there or before a comment.
    fn ends(&mut self) -> bool {
        let rest = self.rest();
        let length = match rest.as_bytes() {
            [] => 0,
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            [b'#', ..] => rest.find('\n').map_or(rest.len(), |at| at + 1),
            _ => return false,
        };
        self.at += length;
        true
    }

    fn line(&mut self) -> Result<Option<Line>, Wrong> {
        self.skip_blanks();
        let number = self.number();
        if self.ends() {
            return Ok(None);
        }
        let mut name = self.name();
        if name == "export" && matches!(self.peek(), Some(' ' | '\t')) {
            self.skip_blanks();
            name = self.name();
        }
        if name.is_empty() {
            return Err(self.wrong("a name is expected"));
        }
        self.skip_blanks();
        if self.peek() != Some('=') {
            return Err(self.wrong("a = is expected behind the name"));
        }
        self.next();
        self.skip_blanks();
        let (value, dollar) = match self.peek() {
            Some('\'') => (self.single()?, false),
            Some('"') => self.double()?,
            _ => self.plain()?,
        };
        Ok(Some(Line { number, name: name.to_owned(), value, dollar }))
    }

    /// Whatever may be meant as a name; whether it is one is for others to say.
    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = rest.find(|c| !is_of_name(c)).and_then(|end| rest.get(..end)).unwrap_or(rest);
        self.at += name.len();
        name
    }

    /// `'…'`: as it stands.
    fn single(&mut self) -> Result<Secret, Wrong> {
        let begin = self.at;
        self.next();
        let rest = self.rest();
        let value = rest.find('\'').and_then(|end| rest.get(..end));
        let value = value.ok_or_else(|| self.wrong_at(begin, UNCLOSED))?;
        self.at += value.len() + 1;
        self.closed()?;
        Ok(secret(value))
    }

    /// `"…"`: with escapes.
    fn double(&mut self) -> Result<(Secret, bool), Wrong> {
        let begin = self.at;
        self.next();
        // It only gets shorter than what stands there: the buffer does not grow, and leaves no copies.
        let mut value = Zeroizing::new(String::with_capacity(quoted_length(self.rest())));
        let mut dollar = false;
        loop {
            let here = self.at;
            match self.next() {
                None => return Err(self.wrong_at(begin, UNCLOSED)),
                Some('"') => break,
                Some('\\') => value.push(match self.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(c @ ('\\' | '"' | '\'' | '$')) => c,
                    _ => return Err(self.wrong_at(here, UNKNOWN_ESCAPE)),
                }),
                // The lines of a file from Windows are lines.
                Some('\r') if self.peek() == Some('\n') => {}
                Some(c) => {
                    dollar |= c == '$';
                    value.push(c);
                }
            }
        }
        self.closed()?;
        Ok((secret(&value), dollar))
    }

    /// Nothing but a comment stands behind a closing quote.
    fn closed(&mut self) -> Result<(), Wrong> {
        let before = self.at;
        self.skip_blanks();
        if self.peek() == Some('#') && self.at == before {
            return Err(self.wrong("a blank is expected before the comment"));
        }
        if self.ends() { Ok(()) } else { Err(self.wrong("nothing may stand behind the closing quote")) }
    }

    /// Up to the end of the line, or a comment behind a blank.
    fn plain(&mut self) -> Result<(Secret, bool), Wrong> {
        let rest = self.rest();
        let line = rest.find('\n').and_then(|end| rest.get(..end)).unwrap_or(rest);
        let content = line.strip_suffix('\r').unwrap_or(line);
        let comment = content.find(" #").into_iter().chain(content.find("\t#")).min();
        let content =
            comment.and_then(|at| content.get(..at)).unwrap_or(content).trim_end_matches([' ', '\t']);
        let unclear = |c: char| matches!(c, '\'' | '"' | '`' | '\\' | '#') || (c.is_control() && c != '\t');
        if let Some(at) = content.find(unclear) {
            self.at += at;
            return Err(
                self.wrong("programs read this character differently: put the value in single quotes")
            );
        }
        self.at += (line.len() + 1).min(rest.len());
        Ok((secret(content), content.contains('$')))
    }
}

fn line_breaks(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// How many bytes stand before the quote that ends a value in double quotes.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    let ends = |byte: u8| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    };
    text.bytes().position(ends).unwrap_or(text.len())
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(usize, String, String, bool)> {
        let lines = parse(text.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong:?} in {text:?}"));
        let told = |line: Line| {
            let value = line.value.expose(|bytes| String::from_utf8(bytes.to_vec()).expect("text"));
            (line.number, line.name, value, line.dollar)
        };
        lines.into_iter().map(told).collect()
    }

    #[track_caller]
    fn value(text: &str) -> String {
        let mut lines = read(&format!("A={text}"));
        assert_eq!(lines.len(), 1, "{text:?}");
        lines.remove(0).2
    }

    #[test]
    fn values_row_by_row() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("  plain  ", "plain"),
            ("two words", "two words"),
            ("plain # a comment", "plain"),
            ("plain\t# a comment", "plain"),
            ("a=b==", "a=b=="),
            ("https://u:p@h/?q=1&r", "https://u:p@h/?q=1&r"),
            ("''", ""),
            (r#""""#, ""),
            (r"'a # b $c \n'", r"a # b $c \n"),
            ("'a' # b", "a"),
            ("'two\nlines'", "two\nlines"),
            (r#""a \"b\" \\ \$c \'d\' \n\r\t.""#, "a \"b\" \\ $c 'd' \n\r\t."),
            ("\"two\nlines\"\t# c", "two\nlines"),
            ("\"two\r\nlines\"", "two\nlines"),
            ("grüße", "grüße"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_whole_file() {
        let file =
            "\u{feff}# keys\r\n\r\nexport OPENAI_API_KEY=sk-1\r\n\t B = 'x\r\ny' \r\nexport=1\r\nC=$B/\"\r\n";
        let wrong = parse(file.as_bytes()).map(|_| ()).expect_err("a quote");
        assert_eq!((wrong.line, wrong.column), (7, 6));
        let lines = read(&file.replace('"', ""));
        let names: Vec<_> = lines.iter().map(|(number, name, ..)| (*number, name.as_str())).collect();
        assert_eq!(names, [(3, "OPENAI_API_KEY"), (4, "B"), (6, "export"), (7, "C")]);
        assert_eq!((lines[0].2.as_str(), lines[0].3), ("sk-1", false));
        assert_eq!((lines[3].2.as_str(), lines[3].3), ("$B/", true));
        assert!(read("").is_empty() && read("\n\n# x").is_empty() && read("  ").is_empty());
        assert!(!read("A='$x'")[0].3 && read("A=\"$x\"")[0].3 && !read("A=\"\\$x\"")[0].3);
    }

    #[test]
    fn what_is_unclear_is_refused_with_its_place() {
        for (text, line, column) in [
            ("A", 1, 2),
            ("A: b", 1, 2),
            ("=b", 1, 1),
            ("A=1\nexport B", 2, 9),
            ("A B=1", 1, 3),
            ("A=b#c", 1, 4),
            ("A=#c", 1, 3),
            ("A=b'c'", 1, 4),
            ("A=b\\c", 1, 4),
            ("A=`b`", 1, 3),
            ("A=\u{1b}", 1, 3),
            ("A='b", 1, 3),
            ("\nA=\"b\nc", 2, 3),
            ("A='b'c", 1, 6),
            ("A='b'#c", 1, 6),
            ("A=\"b\" c", 1, 7),
            ("A=\"ü\\x\"", 1, 5),
            ("A=\"\\", 1, 4),
            ("A=b\rc", 1, 4),
        ] {
            let wrong = parse(text.as_bytes()).map(|_| ()).expect_err(text);
            assert_eq!((wrong.line, wrong.column), (line, column), "{text:?}: {}", wrong.why);
        }
        let wrong = parse(b"A=1\nB=\xff").map(|_| ()).expect_err("no text");
        assert_eq!((wrong.line, wrong.column), (2, 3));
    }

    #[test]
    fn no_more_than_are_stored_at_once() {
        assert_eq!(MOST_IMPORTED, 1000, "the error says how many");
        let most = "A=b\n".repeat(MOST_IMPORTED);
        assert_eq!(read(&format!("{most}# c\n")).len(), MOST_IMPORTED);
        let wrong = parse(format!("{most}A=b").as_bytes()).map(|_| ()).expect_err("too many");
        assert_eq!((wrong.line, wrong.column), (1001, 1));
    }

    #[test]
    fn as_much_as_is_read_of_a_file() {
        let (most, long) = (1024 * 1024, "b".repeat(2048));
        let lines = [
            "\n".to_owned(),
            "# a comment\n".to_owned(),
            format!("A={long}\n"),
            format!("A='{long}'\n"),
            format!("A=\"{long}\n{long}\\n\" # c\n"),
        ];
        for unit in lines {
            let count = most / unit.len();
            let lines = parse(unit.repeat(count).as_bytes()).map_err(|wrong| wrong.why).expect("lines");
            let last = lines.last().map(|line| line.number);
            let expected = (count - 1) * line_breaks(&unit) + 1;
            assert_eq!(last, unit.starts_with('A').then_some(expected));
        }
        for quote in ["'", "\""] {
            let value = "b\n".repeat(most / 2 - 2);
            assert_eq!(read(&format!("A={quote}{value}{quote}"))[0].2.len(), value.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is written in double quotes comes back, whatever stands around it.
        #[test]
        fn what_is_quoted_comes_back(
            values in proptest::collection::vec("[^\r]*", 1..5), crlf: bool, export: bool,
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let mut file = String::new();
            for (index, value) in values.iter().enumerate() {
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
                let export = if export { "export " } else { "" };
                file.push_str(&format!("# {index}{end}{export}N{index}=\"{escaped}\"{end}"));
            }
            let read = read(&file);
            let back: Vec<&str> = read.iter().map(|(_, _, value, _)| value.as_str()).collect();
            prop_assert_eq!(back, values);
            prop_assert!(read.iter().all(|(.., dollar)| !dollar));
        }

        /// No bytes break it, and a place that is wrong is one that the file has.
        #[test]
        fn no_bytes_break_the_parser(text in "([A-Z]{1,2}|export| |=|'|\"|\\\\|#|\\$|\r?\n|\\PC){0,40}") {
            match parse(text.as_bytes()) {
                Ok(lines) => prop_assert!(lines.iter().all(|line| line.number <= text.matches('\n').count() + 1)),
                Err(wrong) => {
                    let line = text.split('\n').nth(wrong.line - 1);
                    prop_assert!(line.is_some_and(|line| wrong.column <= line.chars().count() + 1), "{wrong:?}");
                }
            }
        }
    }
}
