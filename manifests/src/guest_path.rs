//! Where a guest sees a folder.

/// Why a text is no path inside the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuestPathError {
    /// It does not begin at the root.
    #[error("it is not absolute")]
    Relative,
    /// It holds what no path of a guest does.
    #[error("it holds a backslash or a control character")]
    Character,
    /// Its parts are not all names.
    #[error("it holds an empty, `.` or `..` segment")]
    Segment,
}

/// Checks a path inside the sandbox, and takes a slash from its end, so that equal places have equal paths.
///
/// # Errors
/// See [`GuestPathError`].
pub fn parse_guest_path(text: &str) -> Result<String, GuestPathError> {
    let rest = text.strip_prefix('/').ok_or(GuestPathError::Relative)?;
    if text.contains('\\') || text.chars().any(char::is_control) {
        return Err(GuestPathError::Character);
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if !rest.is_empty() && rest.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(GuestPathError::Segment);
    }
    Ok(format!("/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_places_have_equal_paths() {
        for (text, path) in
            [("/", "/"), ("/data", "/data"), ("/data/", "/data"), ("/a/b", "/a/b"), ("/…", "/…")]
        {
            assert_eq!(parse_guest_path(text).as_deref(), Ok(path));
        }
        for (text, why) in [
            ("", GuestPathError::Relative),
            ("data", GuestPathError::Relative),
            ("/a\\b", GuestPathError::Character),
            ("/a\0", GuestPathError::Character),
            ("/a\u{85}", GuestPathError::Character),
            ("///", GuestPathError::Segment),
            ("/a//b", GuestPathError::Segment),
            ("/a/.", GuestPathError::Segment),
            ("/../a", GuestPathError::Segment),
        ] {
            assert_eq!(parse_guest_path(text), Err(why), "{text:?}");
        }
    }
}
