//! Credential files of other tools: Qwen Code's, Gemini CLI's, Claude Code's.
//!
//! The tool that signed a person in owns the file and renews what is in it. It is read here and never written, and read
//! again at each use, so that a renewal is seen. The vault's row says where the file is, or holds what somebody pasted:
//! then nobody renews it, and of what was pasted only the token itself is kept, without what could make new ones.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use orch_manifests::{Site, Tool};
use orch_vault::Secret;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::fields;

/// The field that makes a row a reference, and the version of what stands beside it.
const REFERENCE: &str = "orchCredentialFile";
const VERSION: u64 = 1;
/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 * 1024;
/// A token that ends sooner than this is treated as over: a call takes time.
const MARGIN: Duration = Duration::from_secs(60);

/// How often a file is read again that is no JSON, and how long its tool may take to write it.
const AGAIN: u32 = 2;
const WRITING: Duration = Duration::from_millis(20);

/// A token, as it is at this moment.
pub(crate) struct Token {
    value: Zeroizing<String>,
    /// The host that it is for.
    host: Option<String>,
    /// The project that is billed.
    project: Option<String>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoToken {
    /// In words for a person.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) hint: String,
    /// Whether it was one, and is over.
    pub(crate) over: bool,
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.hint)
    }
}

impl NoToken {
    /// The same for whoever makes a call, an agent or a client of a server: not where on this machine a file lies.
    pub(crate) fn told(&self, row: &Secret) -> String {
        let said = self.to_string();
        let Ok(Some(FileReference { path, .. })) = FileReference::read(row) else { return said };
        let said = said.replace(&path.display().to_string(), "the file");
        match path.parent() {
            Some(folder) if folder != Path::new("/") => {
                said.replace(&folder.display().to_string(), "its folder")
            }
            _ => said,
        }
    }
}

/// Where a credential file is, as a vault's row says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReference {
    /// The file.
    pub path: PathBuf,
    /// The project that Google is to bill.
    pub project: Option<String>,
}

impl FileReference {
    /// The value of the vault's row.
    #[must_use]
    pub fn to_secret(&self) -> Secret {
        let mut row = json!({ REFERENCE: VERSION, "path": self.path.to_string_lossy() });
        if let Some(project) = &self.project {
            row["projectId"] = json!(project);
        }
        Secret::new(row.to_string().into_bytes())
    }

    /// Reads a row; `None` where it is no reference.
    ///
    /// # Errors
    /// It is one of another version, or a broken one.
    pub(crate) fn read(secret: &Secret) -> Result<Option<Self>, String> {
        secret.expose(|bytes| {
            if !fields::is_json(bytes) {
                return Ok(None);
            }
            let Ok(row) = fields::object(bytes) else { return Ok(None) };
            let of = |name: &str| row.iter().find(|(known, _)| known == name).map(|(_, value)| value);
            let Some(version) = of(REFERENCE) else { return Ok(None) };
            if version.as_u64() != Some(VERSION) {
                return Err(format!(
                    "it refers to a credential file in a version that this orch does not know ({version})"
                ));
            }
            let text = |name: &str| of(name).and_then(Value::as_str).map(str::to_owned);
            let path = text("path").map(PathBuf::from).filter(|path| path.is_absolute());
            let path = path.ok_or("it refers to a credential file without a whole path")?;
            Ok(Some(Self { path, project: text("projectId") }))
        })
    }
}

impl Token {
    /// The token that a row stands for, now; `None` for a row that is a plain token. `refers`: whether the row may name a
    /// file, which only the owner of this machine's vault lets it.
    pub(crate) fn now(tool: Tool, secret: &Secret, refers: bool) -> Result<Option<Self>, NoToken> {
        let reference = FileReference::read(secret).map_err(|why| NoToken {
            why,
            hint: "a newer orch wrote it, or it was written by hand: store it again with --credential-file"
                .to_owned(),
            over: false,
        })?;
        match reference {
            Some(_) if !refers => Err(NoToken {
                why: "it names a file, which only a row of this machine's own vault may".to_owned(),
                hint: "paste what is in the file instead".to_owned(),
                over: false,
            }),
            Some(FileReference { path, project }) => {
                let bytes = settled(&mut || read_private(&path)).map_err(|why| NoToken {
                    why: format!("the credential file of {}: {why}", tool.name()),
                    hint: format!("sign in with {}: {}", tool.name(), tool.command()),
                    over: false,
                })?;
                let token = parse(tool, &bytes, &format!(" in {}", path.display()), true)?;
                Ok(Some(Self { project: project.or(token.project), ..token }))
            }
            None => secret.expose(|bytes| match fields::is_json(bytes) {
                true => parse(tool, bytes, ", which was pasted,", false).map(Some),
                false => Ok(None),
            }),
        }
    }

    /// What travels.
    pub(crate) fn value(&self) -> &[u8] {
        self.value.as_bytes()
    }

    /// Where it is used.
    pub(crate) fn site(&self) -> Option<Site> {
        let project = || self.project.clone().map(Site::Project);
        self.host.clone().map(Site::Host).or_else(project)
    }

    /// The host that it is for, where it says so.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

/// Reads what a tool keeps. `place` says where that was, after the tool's name; `renewed`: whether the tool will have
/// renewed it there.
fn parse(tool: Tool, bytes: &[u8], place: &str, renewed: bool) -> Result<Token, NoToken> {
    let name = tool.name();
    let hint = || match renewed {
        true => format!("start {name} once, which renews it: {}", tool.command()),
        false => format!(
            "start {name} once ({}), and paste its file again, or let it be read: --credential-file",
            tool.command()
        ),
    };
    let wrong = |why: String| NoToken {
        why: format!("the credentials of {name}{place} {why}"),
        hint: hint(),
        over: false,
    };
    if fields::repeats(bytes) {
        return Err(wrong("have a field twice".to_owned()));
    }
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|e| wrong(format!("are not JSON (line {}, column {})", e.line(), e.column())))?;
    let document = Wiped(document);
    let all = document.0.as_object().ok_or_else(|| wrong("are no JSON object".to_owned()))?;
    let read = Names::of(tool, all);
    let token = match read.fields.get(read.token) {
        Some(Value::String(token)) if !token.is_empty() => Zeroizing::new(token.clone()),
        Some(other) if !other.is_string() => {
            return Err(wrong(format!(
                "have {} in the field `{}`, which is a text",
                fields::kind(other),
                read.token
            )));
        }
        _ => return Err(wrong(format!("have no `{}`", read.token))),
    };
    if !token.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return Err(wrong(format!("have blanks or other characters in `{}` that no token has", read.token)));
    }
    if let Some(end) = read.fields.get(read.expires).filter(|end| !end.is_null()) {
        // Milliseconds since 1970, as JavaScript counts.
        let end = end.as_f64().map(|ms| ms / 1000.0).filter(|s| s.is_finite() && (0.0..1e11).contains(s));
        let end = end.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds as i64).ok());
        let end = end.ok_or_else(|| wrong(format!("have no point of time in `{}`", read.expires)))?;
        if end - MARGIN <= OffsetDateTime::now_utc() {
            let at = end.format(&Rfc3339).unwrap_or_default();
            return Err(NoToken {
                why: format!("the token of {name}{place} expired at {at}"),
                hint: hint(),
                over: true,
            });
        }
    }
    // What says where a token may go is not passed over because it is of another kind.
    let text = |field: &str| match all.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => {
            Err(wrong(format!("have {} in the field `{field}`, which is a text", fields::kind(other))))
        }
    };
    let host = match tool {
        Tool::QwenCode => text("resource_url")?.map(|url| host_of(&url)),
        Tool::GeminiCli | Tool::ClaudeCode => None,
    };
    let project = match tool {
        Tool::GeminiCli => text("projectId")?.or(text("project_id")?),
        Tool::QwenCode | Tool::ClaudeCode => None,
    };
    Ok(Token { value: token, host, project })
}

/// `portal.qwen.ai` of `https://portal.qwen.ai/v1/`. What is no such thing is compared with the hosts that there are, and is
/// none of them.
fn host_of(url: &str) -> String {
    let rest = url.trim().strip_prefix("https://").unwrap_or(url.trim());
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").unwrap_or(rest);
    rest.strip_suffix("/compatible-mode").unwrap_or(rest).to_ascii_lowercase()
}

/// What a tool calls things.
struct Names<'a> {
    fields: &'a Map<String, Value>,
    token: &'static str,
    expires: &'static str,
}

impl<'a> Names<'a> {
    fn of(tool: Tool, all: &'a Map<String, Value>) -> Self {
        let nested = all.get("claudeAiOauth").and_then(Value::as_object);
        match (tool, nested) {
            (Tool::ClaudeCode, Some(fields)) => Self { fields, token: "accessToken", expires: "expiresAt" },
            (Tool::ClaudeCode, None) if all.contains_key("accessToken") => {
                Self { fields: all, token: "accessToken", expires: "expiresAt" }
            }
            _ => Self { fields: all, token: "access_token", expires: "expiry_date" },
        }
    }
}

/// What was pasted, without what could make new tokens of it, and of a reference what makes it one; as it is where it cannot
/// be read, or has a field twice, and is refused for that.
pub(crate) fn pared(tool: Tool, secret: &Secret) -> Option<Secret> {
    if secret.expose(fields::repeats) {
        return None;
    }
    let document = secret.expose(|bytes| serde_json::from_slice::<Value>(bytes).ok())?;
    let document = Wiped(document);
    let all = document.0.as_object()?;
    if all.contains_key(REFERENCE) {
        return FileReference::read(secret).ok().flatten().map(|reference| reference.to_secret());
    }
    let read = Names::of(tool, all);
    let mut kept = Map::new();
    for name in [read.token, read.expires] {
        kept.extend(read.fields.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    for name in ["resource_url", "projectId", "project_id"] {
        kept.extend(all.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let kept = Wiped(Value::Object(kept));
    Some(Secret::new(kept.0.to_string().into_bytes()))
}

/// A tree of values that is cleared when it goes.
struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        fields::wipe(&mut self.0);
    }
}

/// What is in a file that its tool may be writing just now: where it is no JSON yet, it is read again.
fn settled(
    read: &mut dyn FnMut() -> Result<Zeroizing<Vec<u8>>, String>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    for _ in 0..AGAIN {
        let bytes = read()?;
        if serde_json::from_slice::<IgnoredAny>(&bytes).is_ok() {
            return Ok(bytes);
        }
        std::thread::sleep(WRITING);
    }
    read()
}

/// A file that is the user's own, and nobody else's to read.
///
/// The checks are made on the open file, so what was checked is what is read.
///
/// # Errors
/// It is not there, a link, not a file, another user's, readable by others, or too large.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let failed = |e: std::io::Error| format!("cannot read {shown}: {e}");
    // A pipe in this place must not block the reader.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(format!("there is no {shown}")),
        Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP) => {
            return Err(format!("{shown} is a symbolic link, which is not followed to a credential"));
        }
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    let me = rustix::process::geteuid().as_raw();
    if !meta.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if meta.uid() != me {
        return Err(format!("{shown} belongs to another user"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(format!("others can read {shown} or write to it: chmod 600 {shown}"));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let above = fs::metadata(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    if ![me, 0].contains(&above.uid()) || above.permissions().mode() & 0o022 != 0 {
        let folder = folder.display();
        return Err(format!(
            "others can replace {shown}, since they can write to its folder: chmod go-w {folder}"
        ));
    }
    // All of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 2));
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{shown} is larger than {} KiB", LARGEST >> 10));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
