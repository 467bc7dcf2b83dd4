//! What stands in rows between `<<` and `>>`: what is known only when they run, and what is too long to be written out.

/// Knows what a name stands for.
pub trait Known {
    /// The text for a name such as `port`, or `None`.
    fn look_up(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Known for F {
    fn look_up(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Replaces every name in a text. Fails when nobody knows one.
pub fn fill(text: &str, known: &impl Known) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        let Some((name, after)) = after.split_once(">>") else { break };
        out.push_str(before);
        let told = repeated(name).or_else(|| known.look_up(name));
        out.push_str(&told.unwrap_or_else(|| panic!("nobody knows what <<{name}>> is")));
        rest = after;
    }
    out + rest
}

/// `x*5` is five letters, `crlf*5` five line ends, `fields*5` five fields.
fn repeated(name: &str) -> Option<String> {
    let (what, count) = name.split_once('*')?;
    let count = count.parse().ok()?;
    match what {
        "x" => Some("x".repeat(count)),
        "crlf" => Some("\r\n".repeat(count)),
        "fields" => Some((0..count).map(|n| format!("x-{n}: v\r\n")).collect()),
        _ => None,
    }
}

/// A text whose characters are bytes, as rows have them.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c)) {
            Ok(byte) => out.push(byte),
            // Beyond Latin-1 it is meant as UTF-8.
            Err(_) => out.extend(c.to_string().into_bytes()),
        }
    }
    out
}

/// A value as an encoder of this name writes it, within other text where its place there matters.
pub fn spelled(value: &str, form: &str) -> String {
    let bytes = value.as_bytes();
    let percent = |bytes: &[u8], keep: fn(u8) -> bool| -> String {
        bytes
            .iter()
            .map(|b| if keep(*b) { char::from(*b).to_string() } else { format!("%{b:02X}") })
            .collect()
    };
    let letters = |b: u8| b.is_ascii_alphanumeric();
    if let Some((encoding, before)) = form.split_once('-').filter(|(name, _)| name.starts_with("base64")) {
        let before: usize = before.parse().unwrap_or_else(|_| panic!("{form} has no alignment"));
        let text = [&b"xy"[..before], bytes, b"z"].concat();
        let encoding =
            if encoding == "base64" { data_encoding::BASE64 } else { data_encoding::BASE64URL_NOPAD };
        return encoding.encode(&text);
    }
    match form {
        "raw" => value.to_owned(),
        "hex" => data_encoding::HEXLOWER.encode(bytes),
        "HEX" => data_encoding::HEXUPPER.encode(bytes),
        "percent" => percent(bytes, |b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)),
        "percent-all" => percent(bytes, |_| false),
        "percent-twice" => percent(percent(bytes, letters).as_bytes(), |b| b != b'%'),
        "percent-thrice" => {
            percent(percent(percent(bytes, letters).as_bytes(), |b| b != b'%').as_bytes(), |b| b != b'%')
        }
        "json-unicode" => bytes.iter().map(|b| format!("\\u{b:04x}")).collect(),
        "json-slashes" => {
            let json = serde_json::Value::from(value).to_string();
            json[1..json.len() - 1].replace('/', "\\/")
        }
        "form" => percent(bytes, |b| b.is_ascii_alphanumeric() || b == b' ').replace(' ', "+"),
        other => panic!("nobody spells {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_repetitions_written_out() {
        let known = |name: &str| (name == "port").then(|| "80".to_owned());
        assert_eq!(fill("a:<<port>>/<<x*3>><<crlf*1>>", &known), "a:80/xxx\r\n");
        assert_eq!(fill("<no> << alone", &known), "<no> << alone");
        assert_eq!(bytes("a\u{ff}\u{0}"), [b'a', 0xff, 0]);
    }

    #[test]
    #[should_panic(expected = "<<nothing>>")]
    fn a_name_that_nobody_knows_is_a_mistake() {
        fill("<<nothing>>", &|_: &str| None);
    }
}
