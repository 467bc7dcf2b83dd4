//! Who the clients are, and with which tokens.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use orch_proxy::{ClientName, ClientToken};
use orch_server::{Failure, private};

const SIZE_LIMIT: u64 = 1 << 20;
const DEFAULT: &str = "default";

/// The clients: those that were named, those of the file, or one.
///
/// # Errors
/// A name or a file that makes no sense, or a named client that the file has no token for.
pub(super) fn clients(
    named: &[String],
    file: Option<&Path>,
) -> Result<Vec<(ClientName, ClientToken)>, Failure> {
    let mut names = Vec::new();
    for text in named {
        let name: ClientName =
            text.parse().map_err(|e| Failure::usage("bad_usage", format!("--client {text:?}: {e}")))?;
        if names.contains(&name) {
            return Err(Failure::usage("bad_usage", format!("--client {name} is there twice")));
        }
        names.push(name);
    }
    let Some(file) = file else {
        if names.is_empty() {
            names.push(DEFAULT.parse().map_err(|_| Failure::defect("`default` is no client's name"))?);
        }
        return Ok(names.into_iter().map(|name| (name, ClientToken::random())).collect());
    };
    let mut tokens = read(file)?;
    if names.is_empty() {
        return Ok(tokens.into_iter().collect());
    }
    let take = |name: ClientName| match tokens.remove(&name) {
        Some(token) => Ok((name, token)),
        None => Err(invalid(file, &format!("it has no line for {name}"))),
    };
    names.into_iter().map(take).collect()
}

fn read(file: &Path) -> Result<BTreeMap<ClientName, ClientToken>, Failure> {
    let Some(text) = private::read(file, SIZE_LIMIT, "the tokens")? else {
        return Err(Failure::usage("file_not_found", format!("there is no file {}", file.display())));
    };
    let mode = std::fs::metadata(file).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        let text = format!("{} can be read by other users, who could use the tokens", file.display());
        return Err(Failure::usage("file_unsafe", text).hint(format!("chmod 600 {}", file.display())));
    }
    let text = zeroize::Zeroizing::new(text);
    let mut tokens = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // What the line says is not repeated: it may be a token.
        let wrong = |why: &str| invalid(file, &format!("line {number}: {why}"));
        let (name, token) = line.split_once(':').ok_or_else(|| wrong("it is not CLIENT:TOKEN"))?;
        let name: ClientName = name.trim().parse().map_err(|e| wrong(&format!("{e}")))?;
        let token = ClientToken::parse(token.trim()).map_err(|e| wrong(&e.to_string()))?;
        if tokens.insert(name, token).is_some() {
            return Err(wrong("its client has a line already"));
        }
    }
    if tokens.is_empty() { Err(invalid(file, "it has no client in it")) } else { Ok(tokens) }
}

fn invalid(file: &Path, why: &str) -> Failure {
    Failure::usage("tokens_invalid", format!("{}: {why}", file.display()))
        .hint("CLIENT:TOKEN in each line, with tokens such as `openssl rand -hex 32` makes")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn said(
        result: Result<Vec<(ClientName, ClientToken)>, Failure>,
    ) -> Result<Vec<(String, String)>, String> {
        let texts = |(name, token): (ClientName, ClientToken)| (name.to_string(), token.reveal().to_owned());
        result.map(|clients| clients.into_iter().map(texts).collect()).map_err(|e| e.code().to_owned())
    }

    #[test]
    fn without_a_file_tokens_are_new() {
        let one = said(clients(&[], None)).expect("one client");
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].0.as_str(), one[0].1.len()), ("default", 64));
        let two = said(clients(&["a".to_owned(), "b".to_owned()], None)).expect("two clients");
        assert_ne!(two[0].1, two[1].1);
        for bad in [&["a b"][..], &[""], &["a", "a"]] {
            let bad: Vec<String> = bad.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(said(clients(&bad, None)), Err("bad_usage".to_owned()), "{bad:?}");
        }
    }

    #[test]
    fn a_file_of_tokens_is_read_and_checked() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens");
        let (a, b) = ("a".repeat(32), "b".repeat(64));
        let write = |text: &str, mode| {
            fs::write(&file, text).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
        };
        assert_eq!(said(clients(&[], Some(&file))), Err("file_not_found".to_owned()));
        write(&format!("# ours\nci:{a}\n\n dev : {b} \n"), 0o600);
        let all = vec![("ci".to_owned(), a.clone()), ("dev".to_owned(), b.clone())];
        assert_eq!(said(clients(&[], Some(&file))), Ok(all));
        assert_eq!(said(clients(&["dev".to_owned()], Some(&file))), Ok(vec![("dev".to_owned(), b)]));
        assert_eq!(said(clients(&["other".to_owned()], Some(&file))), Err("tokens_invalid".to_owned()));
        for bad in ["", "ci\n", "ci:short\n", &format!("c i:{a}\n"), &format!("ci:{a}\nci:{a}\n")] {
            write(bad, 0o600);
            assert_eq!(said(clients(&[], Some(&file))), Err("tokens_invalid".to_owned()), "{bad:?}");
        }
        for mode in [0o644, 0o640, 0o620] {
            write(&format!("ci:{a}\n"), mode);
            assert_eq!(said(clients(&[], Some(&file))), Err("file_unsafe".to_owned()), "{mode:o}");
        }
    }
}
