//! From the tree to a [`Manifest`]: every field, in the order of the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use http::Method;

use super::read::{Cursor, Draft, Fields, Sink};
use super::tree::Node;
use super::{Access, AccountWant, EgressWant, FileWant, Llm, Manifest, SecretWant, Supported};
use crate::catalog::{Catalog, Provider};
use crate::endpoint::Scheme;
use crate::guest_path::parse_guest_path;
use crate::host::{HostError, HostPattern};
use crate::identity::{AgentRef, ModelName, SecretName, Slug, is_variable_name};
use crate::limits::{ByteSize, HostLimits, Limits, MicroUsd, Rate, parse_count, parse_duration};
use crate::path::PathGlob;
use crate::server_tools::{ServerTool, ServerTools};
use crate::text::{nearest, quote};

const FALLBACKS_MAX: usize = 16;

/// The methods that can be asked for. `CONNECT` opens tunnels that policy cannot see into, `TRACE` echoes credentials.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Variables that the sandbox sets itself, besides everything that starts with `ORCH_` and the providers' keys.
const SANDBOX_VARIABLES: [&str; 3] = ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"];

/// Makes a manifest of a tree, or says everything that is wrong with it.
pub(super) fn manifest(root: &Node) -> Result<Manifest, Vec<Draft>> {
    let sink = Sink::default();
    match read_manifest(&Cursor::root(root, &sink)) {
        Some(manifest) if sink.is_empty() => Ok(manifest),
        _ => Err(sink.into_drafts()),
    }
}

/// Why a secret or variable cannot have this name.
pub(super) fn key_of_provider(name: &str, provider: &Provider) -> String {
    format!("`{name}` is the key of the provider `{}` and comes with it", provider.slug)
}

fn read_manifest(root: &Cursor<'_>) -> Option<Manifest> {
    let catalog = Catalog::builtin();
    if *root.node == Node::Null {
        root.problem_hint("the manifest is empty", "start it with `name: org/name`");
        return None;
    }
    let mut fields = root.fields("name: org/name")?;
    let name = fields.need("name", "acme/summarizer").and_then(|at| at.parse());
    let version = fields.need("version", "0.1.0").and_then(|at| version(&at));
    let description = fields.get("description").and_then(|at| at.text()).map(str::to_owned);
    let module = fields.need("module", "agent.wasm").and_then(|at| module(&at));
    let has_llm = fields.has("llm");
    let supported_providers = fields.get("supported_providers").and_then(|at| supported(&at, has_llm));
    let llm = fields.get("llm").and_then(|at| llm(&at));
    let input = fields.get("input").and_then(|at| json_schema(&at));
    let output = fields.get("output").and_then(|at| json_schema(&at));
    let egress = each(&mut fields, "egress", egress);
    let search = fields.get("search").and_then(|at| at.filled_list("no web search")).unwrap_or_default();
    let search = no_repeats(parsed::<Slug>(search));
    let secrets = each(&mut fields, "secrets", |at| secret(at, &catalog));
    let calls = each(&mut fields, "calls", Cursor::parse::<AgentRef>);
    let files = files(&mut fields);
    let limits = fields.get("limits").and_then(|at| limits(&at)).unwrap_or_default();
    let env = fields.get("env").and_then(|at| env(&at, &catalog, &secrets)).unwrap_or_default();
    fields.finish();

    Some(Manifest {
        name: name?,
        version: version?,
        description,
        module: module?,
        supported_providers: supported_providers.unwrap_or_else(|| match has_llm {
            true => Supported::Any,
            false => Supported::Only(BTreeSet::new()),
        }),
        llm,
        input,
        output,
        egress,
        search,
        secrets,
        calls,
        files,
        limits,
        env,
    })
}

/// The items of a list, each read on its own so that one bad item does not hide the next.
fn each<'a, T>(
    fields: &mut Fields<'a>,
    name: &'static str,
    read: impl Fn(&Cursor<'a>) -> Option<T>,
) -> Vec<T> {
    let items = fields.get(name).and_then(|at| at.list()).unwrap_or_default();
    items.iter().filter_map(read).collect()
}

/// Reports the second of two equal items.
fn no_repeats<T: Ord + Clone>(items: Vec<(Cursor<'_>, T)>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for (at, item) in items {
        if seen.insert(item.clone()) {
            kept.push(item);
        } else {
            at.problem("is listed twice");
        }
    }
    kept
}

fn parsed<'a, T: std::str::FromStr<Err: std::fmt::Display>>(items: Vec<Cursor<'a>>) -> Vec<(Cursor<'a>, T)> {
    items.into_iter().filter_map(|at| at.parse().map(|item| (at, item))).collect()
}

fn version(at: &Cursor<'_>) -> Option<semver::Version> {
    let refuse = |text: &str, error: &str| {
        at.problem_hint(
            format!("{} is not a version: {error}", quote(text)),
            "write three numbers, such as 1.2.0",
        );
    };
    if let Node::Number(number) = at.node {
        refuse(&number.to_string(), "it is read as a number");
        return None;
    }
    let text = at.text()?;
    text.parse().map_err(|error: semver::Error| refuse(text, &error.to_string())).ok()
}

/// A relative path with plain segments: what it leads to lies beside or below the manifest on every system. It is also
/// where a published module is written, so it is nothing that a machine would run or read by itself.
fn module(at: &Cursor<'_>) -> Option<PathBuf> {
    let text = at.text()?;
    let refuse = |reason: &str| {
        at.problem_hint(
            format!("{} is not a module path: {reason}", quote(text)),
            "name a file beside or below the manifest, such as agent.wasm",
        );
        None
    };
    let text = text.strip_prefix("./").unwrap_or(text);
    if text.is_empty() || text.ends_with('/') {
        return refuse("it names no file");
    }
    if text.starts_with('/') {
        return refuse("it is absolute");
    }
    if text.contains(['\\', ':']) || text.chars().any(char::is_control) {
        return refuse("it holds a backslash, a colon or a control character");
    }
    if text.split('/').any(|segment| segment == "..") {
        return refuse("it leads above the manifest's folder");
    }
    if text.split('/').any(|segment| matches!(segment, "" | ".")) {
        return refuse("it holds an empty or `.` segment");
    }
    if text.split('/').any(|segment| segment.starts_with('.')) {
        return refuse("it is hidden: one of its segments begins with `.`");
    }
    if !text.ends_with(".wasm") {
        return refuse("it does not end in `.wasm`");
    }
    Some(PathBuf::from(text))
}

fn supported(at: &Cursor<'_>, has_llm: bool) -> Option<Supported> {
    if let Node::Text(text) = at.node {
        if text == "any" {
            return Some(Supported::Any);
        }
        at.problem_hint(
            format!("expected a list of providers or `any`, found {}", quote(text)),
            "write a list such as [openai, anthropic]",
        );
        return None;
    }
    let items = at.list()?;
    if items.is_empty() && has_llm {
        at.problem_hint(
            "no provider is listed, but there is an `llm` section",
            "list providers, or write `any`",
        );
        return None;
    }
    if items.iter().any(|item| *item.node == Node::Text("any".into())) {
        if items.len() > 1 {
            at.problem_hint("`any` stands beside other providers, which it covers", "write `any` alone");
        }
        return Some(Supported::Any);
    }
    Some(Supported::Only(no_repeats(parsed::<Slug>(items)).into_iter().collect()))
}

fn llm(at: &Cursor<'_>) -> Option<Llm> {
    let mut fields = at.fields("llm: { primary: gpt-4o-mini }")?;
    let primary = fields.need("primary", "gpt-4o-mini").map(|at| (at.parse::<ModelName>(), at));
    let mut models: Vec<_> =
        primary.into_iter().filter_map(|(name, at)| name.map(|name| (at, name))).collect();
    let has_primary = !models.is_empty();
    if let Some(at) = fields.get("fallbacks") {
        let items = at.list().unwrap_or_default();
        if items.len() > FALLBACKS_MAX {
            at.problem(format!("there are more than {FALLBACKS_MAX} fallbacks"));
        }
        models.extend(parsed::<ModelName>(items));
    }
    let server_tools = fields.get("server_tools").and_then(|at| server_tools(&at)).unwrap_or_default();
    let account = each(&mut fields, "account", account);
    fields.finish();
    let mut models = no_repeats(models).into_iter();
    let primary = if has_primary { models.next() } else { None };
    Some(Llm { primary: primary?, fallbacks: models.collect(), server_tools, account })
}

/// What providers may do by themselves. Nobody writes `true` for all of it.
fn server_tools(at: &Cursor<'_>) -> Option<ServerTools> {
    let words = ServerTool::ALL.map(|kind| (kind.as_str(), kind));
    if !matches!(at.node, Node::List(_)) {
        at.problem_hint(
            "expected a list of what providers may do by themselves",
            format!("list what the agent needs of {}, such as [search]", ServerTools::ALL),
        );
        return None;
    }
    let items = at.filled_list("none of them")?;
    let kinds = items.into_iter().filter_map(|at| at.word(&words).map(|kind| (at, kind))).collect();
    Some(no_repeats(kinds).into_iter().collect())
}

fn account(at: &Cursor<'_>) -> Option<AccountWant> {
    let mut fields = at.fields("- { provider: openai, methods: [GET], paths: [\"/v1/files/**\"] }")?;
    let provider = fields.need("provider", "openai").and_then(|at| at.parse());
    let methods = fields.need("methods", "[GET]").and_then(|at| {
        let items = at.list()?;
        if items.is_empty() {
            at.problem("the list is empty, which would allow nothing");
        }
        Some(items.iter().filter_map(method).collect())
    });
    let paths = fields.need("paths", "[\"/v1/files/**\"]").and_then(|at| {
        let items = at.list()?;
        if items.is_empty() {
            at.problem("the list is empty, which would allow nothing");
        }
        Some(no_repeats(parsed::<PathGlob>(items)))
    });
    fields.finish();
    Some(AccountWant { provider: provider?, methods: methods?, paths: paths? })
}

fn json_schema(at: &Cursor<'_>) -> Option<serde_json::Value> {
    match at.node {
        Node::Map(_) | Node::Bool(_) => Some(at.node.to_json()),
        _ => {
            at.problem_hint("expected a JSON Schema", "write it as `{ type: object }`");
            None
        }
    }
}

pub(super) fn egress(at: &Cursor<'_>) -> Option<EgressWant> {
    let mut fields = at.fields("- host: api.github.com")?;
    let host = fields.need("host", "api.github.com").and_then(|at| public_host(&at));
    let port = fields.get("port").and_then(|at| port(&at));
    let scheme = fields
        .get("scheme")
        .and_then(|at| at.word(&[("https", Scheme::Https), ("http", Scheme::Http)]))
        .unwrap_or(Scheme::Https);
    let methods = fields.get("methods").and_then(|at| {
        let items = at.filled_list("any method")?;
        Some(items.iter().filter_map(method).collect())
    });
    let paths = fields.get("paths").and_then(|at| {
        let items = at.filled_list("any path")?;
        Some(no_repeats(parsed::<PathGlob>(items)))
    });
    fields.finish();
    Some(EgressWant {
        host: host?,
        port,
        scheme,
        methods: methods.unwrap_or_default(),
        paths: paths.unwrap_or_default(),
    })
}

/// A host that an agent may ask for. Private hosts are reached through an operator's pin, never by asking.
fn public_host(at: &Cursor<'_>) -> Option<HostPattern> {
    let text = at.text()?;
    let pattern: HostPattern = match text.parse() {
        Ok(pattern) => pattern,
        Err(error) => {
            let hint = match &error {
                HostError::NotOnlyAName { .. } => {
                    "write the host alone; scheme, port and path have fields of their own: `scheme`, `port`, `paths`"
                }
                HostError::Address(_) => "write the name of the host",
                HostError::PublicSuffix { .. } => "name the host, or put the owner's domain after `*.`",
                HostError::Wildcard(_) => "write `*.example.com` for all subdomains, or list the hosts",
                _ => "write a name such as `api.github.com`, or `*.example.com` for its subdomains",
            };
            at.problem_hint(error, hint);
            return None;
        }
    };
    if let Some(reason) = pattern.base().local_reason() {
        at.problem_hint(
            format!("{} is not a public host: {reason}", quote(text)),
            "agents reach public hosts only; a private model server is pinned by the operator as a provider",
        );
        return None;
    }
    Some(pattern)
}

fn port(at: &Cursor<'_>) -> Option<u16> {
    let port = match at.node {
        Node::Number(number) => {
            number.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
        }
        _ => None,
    };
    if port.is_none() {
        at.problem("expected a port, a number from 1 to 65535");
    }
    port
}

fn method(at: &Cursor<'_>) -> Option<Method> {
    let text = at.text()?;
    let found = METHODS.iter().find(|method| method.as_str() == text);
    if found.is_none() {
        let known = METHODS.iter().map(Method::as_str);
        let hint = match nearest(text, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of: {}", known.collect::<Vec<_>>().join(", ")),
        };
        at.problem_hint(format!("{} is not a method that can be granted", quote(text)), hint);
    }
    found.cloned()
}

fn secret(at: &Cursor<'_>, catalog: &Catalog) -> Option<SecretWant> {
    let mut fields = at.fields("- name: GITHUB_TOKEN")?;
    let name = fields.need("name", "GITHUB_TOKEN").and_then(|at| {
        let name: SecretName = at.parse()?;
        if let Some(provider) = catalog.provider_of_key(name.as_str()) {
            at.problem_hint(
                key_of_provider(name.as_str(), provider),
                format!("put `{}` into `supported_providers` instead", provider.slug),
            );
        } else if let Some(reason) = reserved(name.as_str()) {
            at.problem(reason);
        }
        Some(name)
    });
    let hosts = fields.get("hosts").and_then(|at| {
        let items = at.filled_list("wherever the owner allows")?;
        Some(no_repeats(items.into_iter().filter_map(|at| public_host(&at).map(|host| (at, host))).collect()))
    });
    fields.finish();
    Some(SecretWant { name: name?, hosts: hosts.unwrap_or_default() })
}

fn reserved(name: &str) -> Option<String> {
    (name.starts_with("ORCH_") || SANDBOX_VARIABLES.contains(&name))
        .then(|| format!("`{name}` is set by the sandbox itself"))
}

/// The most folders that a manifest may want.
const MOST_FILES: usize = 64;

/// The folders that are wanted, each place once.
fn files(fields: &mut Fields<'_>) -> Vec<FileWant> {
    let mut wants: Vec<FileWant> = Vec::new();
    for at in fields.get("files").and_then(|at| at.list()).unwrap_or_default() {
        match file(&at) {
            Some(want) if wants.iter().any(|other| other.path == want.path) => {
                at.problem(format!("{} is listed twice", quote(&want.path)));
            }
            Some(_) if wants.len() == MOST_FILES => {
                at.problem(format!("an agent has at most {MOST_FILES} folders"));
                break;
            }
            want => wants.extend(want),
        }
    }
    wants
}

fn file(at: &Cursor<'_>) -> Option<FileWant> {
    let mut fields = at.fields("- { path: /data, access: read }")?;
    let path = fields.need("path", "/data").and_then(|at| guest_path(&at));
    let access = fields.need("access", "read").and_then(|at| {
        at.word(&[("read", Access::Read), ("write", Access::Write), ("scratch", Access::Scratch)])
    });
    fields.finish();
    Some(FileWant { path: path?, access: access? })
}

fn guest_path(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    parse_guest_path(text)
        .inspect_err(|reason| {
            at.problem_hint(
                format!("{} is not a path inside the sandbox: {reason}", quote(text)),
                "write an absolute path such as /data",
            );
        })
        .ok()
}

pub(super) fn limits(at: &Cursor<'_>) -> Option<Limits> {
    let mut fields = at.fields("limits: { memory: 256MiB, time: 5m }")?;
    let limits = Limits {
        memory: positive(fields.get("memory"), |at| at.amount(str::parse::<ByteSize>)),
        time: positive(fields.get("time"), |at| at.amount(parse_duration)),
        cpu: positive(fields.get("cpu"), |at| at.amount(parse_duration)),
        output: fields.get("output").and_then(|at| at.amount(str::parse::<ByteSize>)),
        log: fields.get("log").and_then(|at| at.amount(str::parse::<ByteSize>)),
        resources: positive(fields.get("resources"), |at| at.amount(parse_count)),
        scratch: positive(fields.get("scratch"), |at| at.amount(str::parse::<ByteSize>)),
        scratch_files: positive(fields.get("scratch_files"), |at| at.amount(parse_count)),
        requests: fields.get("requests").and_then(|at| at.amount(parse_count)),
        concurrent: positive(fields.get("concurrent"), |at| at.amount(parse_count)),
        upload: fields.get("upload").and_then(|at| at.amount(str::parse::<ByteSize>)),
        download: fields.get("download").and_then(|at| at.amount(str::parse::<ByteSize>)),
        rate: fields.get("rate").and_then(|at| at.amount(str::parse::<Rate>)),
        burst: positive(fields.get("burst"), |at| at.amount(parse_count)),
        first_byte: positive(fields.get("first_byte"), |at| at.amount(parse_duration)),
        idle: positive(fields.get("idle"), |at| at.amount(parse_duration)),
        exchange: positive(fields.get("exchange"), |at| at.amount(parse_duration)),
        per_host: fields.get("per_host").and_then(|at| host_limits(&at)).unwrap_or_default(),
        tokens: fields.get("tokens").and_then(|at| at.amount(parse_count)),
        cost_usd: fields.get("cost_usd").and_then(|at| at.amount(str::parse::<MicroUsd>)),
    };
    fields.finish();
    Some(limits)
}

fn host_limits(at: &Cursor<'_>) -> Option<HostLimits> {
    let mut fields = at.fields("per_host: { requests: 100, download: 10MiB }")?;
    let limits = HostLimits {
        requests: fields.get("requests").and_then(|at| at.amount(parse_count)),
        concurrent: positive(fields.get("concurrent"), |at| at.amount(parse_count)),
        upload: fields.get("upload").and_then(|at| at.amount(str::parse::<ByteSize>)),
        download: fields.get("download").and_then(|at| at.amount(str::parse::<ByteSize>)),
        rate: fields.get("rate").and_then(|at| at.amount(str::parse::<Rate>)),
        burst: positive(fields.get("burst"), |at| at.amount(parse_count)),
    };
    fields.finish();
    Some(limits)
}

/// A limit under which nothing could run at all is a mistake, and other tools write 0 for "none".
fn positive<T: PartialEq + Default>(
    at: Option<Cursor<'_>>,
    read: impl Fn(&Cursor<'_>) -> Option<T>,
) -> Option<T> {
    let at = at?;
    let value = read(&at)?;
    if value == T::default() {
        at.problem_hint("is zero, so nothing could run", "leave it out for the operator's default");
        return None;
    }
    Some(value)
}

fn env(at: &Cursor<'_>, catalog: &Catalog, secrets: &[SecretWant]) -> Option<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for (name, at) in at.entries()? {
        if !is_variable_name(name) {
            at.problem(format!(
                "{} is not a variable's name: use letters, digits and `_`, not starting with a digit",
                quote(name)
            ));
        } else if let Some(provider) = catalog.provider_of_key(name) {
            at.problem(key_of_provider(name, provider));
        } else if let Some(reason) = reserved(name) {
            at.problem(reason);
        } else if secrets.iter().any(|secret| secret.name.as_str() == name) {
            at.problem(format!("`{name}` is one of `secrets`, which bring their own variable"));
        } else if let Some(value) = at.text() {
            if value.contains('\0') {
                at.problem("a variable's value holds no NUL");
            }
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    Some(variables)
}
