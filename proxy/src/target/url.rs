//! A URL as text, judged as if a guest had sent it.
//!
//! A guest's HTTP library takes a URL apart before anything reaches the proxy, and libraries differ in how. So a text
//! counts here only when RFC 3986, the WHATWG's parser and hyper's see one and the same destination in it. What they
//! repair in ways of their own (backslashes, tabs, missing slashes, spaces around it) is refused, not repaired. What
//! every library does before it sends is done here too: the host becomes ASCII, the path is escaped, and a fragment stays
//! at home.

use std::borrow::Cow;

use http::Method;
use orch_manifests::Scheme;

use super::{RequestTarget, parse_authority, parse_target};
use crate::{Caps, Reason, hygiene};

impl RequestTarget {
    /// Reads a URL, `http://` or `https://`.
    ///
    /// # Errors
    /// Why a request for it would be refused whatever the policy says, or why it is not clear where it would go.
    pub fn of_url(url: &str) -> Result<Self, Reason> {
        let refused = |why: &str| Reason::new("target_refused", format!("the URL {why}"));
        let breaks = |c: &char| c.is_control() || matches!(c, ' ' | '\u{2028}' | '\u{2029}');
        if let Some(c) = url.chars().find(breaks) {
            // Parsers strip some of these, end at others, and keep the rest.
            return Err(refused(&format!("holds a space or control character (U+{:04X})", u32::from(c))));
        }
        let (scheme, rest) = scheme_of(url)?;
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(refused("has no `//` behind its scheme: parsers disagree where its host begins"));
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() {
            return Err(refused("has no host"));
        }
        check_end(target)?;
        check_lookalikes(authority)?;
        let (host, port) = parse_authority(authority, scheme)?;
        let target = target.split_once('#').map_or(target, |(target, _)| target);
        let path = parse_target(&escaped_query(target))?;
        hygiene::check_length(path.as_str().len(), &Caps::default())?;
        Ok(Self { scheme, host, port, path })
    }

    /// Whether a method is one that rules can allow.
    ///
    /// # Errors
    /// Why not.
    pub fn check_method(method: &Method) -> Result<(), Reason> {
        hygiene::check_method(method)
    }
}

fn scheme_of(url: &str) -> Result<(Scheme, &str), Reason> {
    let none = || Reason::new("target_refused", "the URL has no scheme");
    let (name, rest) = url.split_once(':').ok_or_else(none)?;
    // RFC 3986, section 3.1.
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    match name.to_ascii_lowercase().as_str() {
        "https" => Ok((Scheme::Https, rest)),
        "http" => Ok((Scheme::Http, rest)),
        _ if plain => Err(Reason::new("scheme_refused", "only http and https are forwarded")),
        _ => Err(none()),
    }
}

/// What follows the authority when that is not a path. Some parsers look for the end of an authority at the first slash,
/// or for its user information before that, so nothing may stand there that would make another host of it.
fn check_end(target: &str) -> Result<(), Reason> {
    let refused = |why: &str| Err(Reason::new("target_refused", format!("the URL {why}")));
    let Some(first) = target.chars().next() else { return Ok(()) };
    let tail = &target[1..];
    match first {
        '\\' => refused("has a backslash behind its host, which some parsers take for a slash"),
        '?' if tail.contains(['@', '\\', '#']) || tail.starts_with(['.', ':']) => refused(
            "has no slash between its host and a query that could be read as more of the host; write the slash",
        ),
        '#' if !tail.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) => refused(
            "has no slash between its host and a fragment that could be read as more of the host; write the slash",
        ),
        _ => Ok(()),
    }
}

/// Refuses a label that has characters outside of ASCII and means a name inside of it: nobody writes `ｅxample.com`, or
/// a full stop that is none, for any reason but to be misread. A name of another script is fine: it stays one (`xn--`).
fn check_lookalikes(authority: &str) -> Result<(), Reason> {
    if authority.is_ascii() || authority.contains('@') {
        return Ok(());
    }
    let refused = |why: &str| Err(Reason::new("host_refused", format!("the host {why}")));
    if let Some(c) = authority.chars().find(|c| is_invisible(*c)) {
        return refused(&format!("holds a character that nobody sees (U+{:04X})", u32::from(c)));
    }
    if authority.contains(['\u{3002}', '\u{ff0e}', '\u{ff61}']) {
        return refused("holds a full stop that is not the dot between labels");
    }
    let name = authority.split(':').next().unwrap_or(authority);
    for label in name.split('.').filter(|label| !label.is_ascii()) {
        let Ok(canonical) = label.parse::<orch_manifests::HostName>() else {
            // What it is instead, the whole name's parser says.
            continue;
        };
        if !canonical.as_str().starts_with("xn--") {
            return refused(&format!("holds characters that only look like {canonical}"));
        }
    }
    Ok(())
}

/// The query with what every library escapes and hyper does not take raw. Policy does not look at it.
fn escaped_query(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    if !query.contains(['"', '<', '>']) {
        return Cow::Borrowed(target);
    }
    let query = query.replace('"', "%22").replace('<', "%3C").replace('>', "%3E");
    Cow::Owned(format!("{path}?{query}"))
}

/// Format characters: those that parsers of host names drop, and those that turn text around.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests;
