//! The segments of a path.

/// A path, cut at its slashes and decoded.
pub(super) struct Path(Vec<String>);

impl Path {
    /// Reads the path of a target. What is not percent-encoded as it should be stays as it is: nothing has such a name.
    pub(super) fn of(path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        Self(path.split('/').map(decode).collect())
    }

    pub(super) fn segments(&self) -> &[String] {
        &self.0
    }
}

fn decode(segment: &str) -> String {
    let decoded = || {
        let mut bytes = Vec::with_capacity(segment.len());
        let mut rest = segment.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let (byte, after) = match (first, after) {
                (b'%', [high, low, after @ ..]) => (hex(*high)? << 4 | hex(*low)?, after),
                (b'%', _) => return None,
                (byte, after) => (*byte, after),
            };
            bytes.push(byte);
            rest = after;
        }
        String::from_utf8(bytes).ok()
    };
    decoded().unwrap_or_else(|| segment.to_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_once_and_after_the_cut() {
        for (path, segments) in [
            ("/v1/runs", &["v1", "runs"][..]),
            ("/v1/runs/", &["v1", "runs", ""]),
            ("/", &[""]),
            ("*", &["*"]),
            ("/v1/agents/a/b/%5E1.2", &["v1", "agents", "a", "b", "^1.2"]),
            ("/a%2Fb/c", &["a/b", "c"]),
            ("/%2531", &["%31"]),
            ("/1.0.0+x", &["1.0.0+x"]),
            ("/%", &["%"]),
            ("/%4", &["%4"]),
            ("/%zz", &["%zz"]),
            ("/%ff", &["%ff"]),
            ("/%+1", &["%+1"]),
        ] {
            assert_eq!(Path::of(path).segments(), segments, "{path}");
        }
    }
}
