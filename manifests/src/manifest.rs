//! The manifest of an agent: what it is, and what it asks for.

mod canonical;
mod decode;
mod error;
mod locate;
mod policy;
mod read;
mod schema;
mod section;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use http::Method;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

pub use self::error::{ManifestError, Problem};
pub use self::policy::Policy;
use crate::catalog::{Catalog, InferencePath, Provider};
use crate::endpoint::Scheme;
use crate::host::HostPattern;
use crate::identity::{AgentName, AgentRef, ModelName, SecretName, Slug};
use crate::limits::Limits;
use crate::path::PathGlob;
use crate::server_tools::ServerTools;
use crate::text::nearest;

/// Largest manifest that is read: 1 MiB.
const MANIFEST_MAX: usize = 1 << 20;

/// The names that a manifest can have in an agent's folder, in the order in which messages list them.
pub const MANIFEST_FILES: [&str; 3] = ["orch.yaml", "orch.yml", "orch.json"];

/// How a manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2, as `serde_yaml` reads it: one document, without tags.
    Yaml,
    /// JSON (RFC 8259).
    Json,
}

/// An agent's manifest, checked. Everything in it is a request: nothing here grants anything.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "orch agent manifest")]
pub struct Manifest {
    /// The agent's name, `org/name`.
    pub name: AgentName,
    /// The agent's version (semver).
    #[schemars(with = "schema::VersionText")]
    pub version: semver::Version,
    /// What the agent does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The component or wasip1 core module, a `.wasm` file relative to the manifest and never above it.
    #[serde(serialize_with = "path_text")]
    #[schemars(with = "schema::ModuleText")]
    pub module: PathBuf,
    /// The LLM providers that the agent works with: `any`, or a list. When it is left out, `any` if there is an `llm`
    /// section and none otherwise.
    #[serde(default, skip_serializing_if = "Supported::is_empty")]
    pub supported_providers: Supported,
    /// Which models to use, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<Llm>,
    /// JSON Schema of the input, checked before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::SchemaText>")]
    pub input: Option<serde_json::Value>,
    /// JSON Schema of the output, checked after the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::SchemaText>")]
    pub output: Option<serde_json::Value>,
    /// Hosts beyond the LLM providers. Each needs a grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressWant>,
    /// Providers of web search that the agent calls itself, with their keys. Each needs a grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<Slug>,
    /// Secrets beyond LLM keys. Where a value may go is its owner's to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretWant>,
    /// Other agents that this one calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<AgentRef>,
    /// Directories that the caller is asked to mount, and scratch folders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileWant>,
    /// Bounds of a run.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Environment variables inside the sandbox, literally.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// The providers that an agent works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supported {
    /// Whatever provider there is a key for.
    Any,
    /// These, by slug or alias. None at all for an agent without an LLM.
    Only(BTreeSet<Slug>),
}

impl Default for Supported {
    /// No provider.
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Supported {
    /// Whether the agent works with this provider.
    pub fn allows(&self, provider: &Provider) -> bool {
        match self {
            Self::Any => true,
            Self::Only(slugs) => slugs.iter().any(|slug| provider.goes_by(slug.as_str())),
        }
    }

    /// Whether the agent works with no provider at all.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Only(slugs) if slugs.is_empty())
    }
}

/// Which models an agent uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Llm {
    /// The first choice.
    pub primary: ModelName,
    /// What is tried next, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelName>,
    /// What providers may do by themselves for the agent: `search`, `fetch`, `mcp`, `code`, `image_url`, `stored`. Each
    /// needs a grant; a request that would have it done without one is refused.
    #[serde(default, skip_serializing_if = "no_tools")]
    pub server_tools: ServerTools,
    /// Paths of a provider's account that the agent calls with the provider's key: files, batches, usage. Each needs a
    /// grant, and the key's owner's as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub account: Vec<AccountWant>,
}

/// Paths that are paid for like those of inference, and that the gateway does not carry: patterns, and those below `/v1` are
/// meant below the provider's own base path as well.
const ANSWERING: [&str; 50] = [
    "/v1/chat/completions",
    "/openai/v1/chat/completions",
    "/v1beta/openai/chat/completions",
    "/compatibility/v1/chat/completions",
    "/beta/chat/completions",
    "/async/chat/completions",
    "/api/subscription/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/anthropic/v1/messages",
    "/v1/embeddings",
    "/v1/fim/completions",
    "/v1/agents/completions",
    "/v1/ocr",
    "/beta/completions",
    "/v1/completions",
    "/v1/complete",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/videos",
    "/v1/threads/runs",
    "/v1/threads/*/runs",
    "/v1/realtime/calls",
    "/v1/realtime/client_secrets",
    "/v1/realtime/sessions",
    "/v1/responses/compact",
    "/v1/batches",
    "/v1/messages/batches",
    "/v1/chat",
    "/v1/generate",
    "/v1/rerank",
    "/v2/rerank",
    "/v1beta/interactions",
    "/*/models/*:generateContent",
    "/*/models/*:streamGenerateContent",
    "/*/tunedModels/*:generateContent",
    "/*/tunedModels/*:streamGenerateContent",
    "/*/models/*:generateAnswer",
    "/*/models/*:predict",
    "/*/models/*:predictLongRunning",
    "/*/models/*:batchGenerateContent",
    "/*/models/*:asyncBatchEmbedContent",
    "/model/*/invoke",
    "/model/*/invoke-with-response-stream",
    "/async-invoke",
    "/api/talk-to-gpt",
];

impl AccountWant {
    /// A path among its own that answers with a model, and that no dialect here has.
    fn answering(&self, provider: &Provider) -> Option<String> {
        let base = provider.endpoint.base_path.as_str();
        let below = |path: &str| path.strip_prefix("/v1/").map(|rest| format!("{base}/{rest}"));
        let posts = self.methods.contains(&Method::POST);
        let paths = ANSWERING.iter().filter(|_| posts);
        paths.flat_map(|path| [Some((*path).to_owned()), below(path)]).flatten().find(|path| self.takes(path))
    }

    /// Whether it would take a request to models with it, whatever the model; of a path that is some models' only, whichever
    /// of them.
    fn covers(&self, inference: &InferencePath) -> bool {
        self.methods.contains(&inference.method)
            && inference.patterns().iter().any(|pattern| self.takes(pattern))
    }

    /// Whether a path that a pattern covers is one of its own.
    fn takes(&self, pattern: &str) -> bool {
        pattern.parse::<PathGlob>().is_ok_and(|pattern| self.paths.iter().any(|glob| glob.meets(&pattern)))
    }
}

impl Llm {
    /// These models, and nothing beside them.
    pub fn new(primary: ModelName, fallbacks: Vec<ModelName>) -> Self {
        Self { primary, fallbacks, server_tools: ServerTools::NONE, account: Vec::new() }
    }
}

/// A wish to call paths of a provider beside those that answer with a model, which no budget or receipt covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AccountWant {
    /// The provider, by slug or alias; the host is what the catalog says.
    pub provider: Slug,
    /// The methods.
    #[serde(serialize_with = "methods_text")]
    #[schemars(with = "Vec<schema::MethodText>", length(min = 1))]
    pub methods: Vec<Method>,
    /// Patterns of paths.
    #[schemars(length(min = 1))]
    pub paths: Vec<PathGlob>,
}

/// A wish to talk to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EgressWant {
    /// The host, or `*.` and a host for its subdomains. Never an address or a local name.
    pub host: HostPattern,
    /// The port, when it is not the scheme's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// `https` unless it says otherwise.
    #[serde(default = "https", skip_serializing_if = "is_https")]
    pub scheme: Scheme,
    /// The methods; any when left out. An empty list is refused, so that nothing reads as everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "methods_text")]
    #[schemars(with = "Vec<schema::MethodText>", length(min = 1))]
    pub methods: Vec<Method>,
    /// Patterns of paths; any path when left out. An empty list is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub paths: Vec<PathGlob>,
}

impl EgressWant {
    /// The port that is meant: the one given, or the scheme's own.
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }
}

/// A wish to use a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SecretWant {
    /// The secret. Never the key of an LLM provider: those come with the provider.
    pub name: SecretName,
    /// Where the agent wants to use it. This can only narrow what the owner allows; left out, it narrows nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub hosts: Vec<HostPattern>,
}

/// A wish for a mounted directory, or for a scratch folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FileWant {
    /// The absolute path inside the sandbox.
    #[schemars(with = "schema::GuestPathText")]
    pub path: String,
    /// What the agent does there.
    pub access: Access,
}

/// What an agent does with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Reads it.
    Read,
    /// Reads and writes it.
    Write,
    /// Reads and writes what nobody else sees, and what is gone when the run is over: nobody mounts anything there.
    Scratch,
}

impl Manifest {
    /// Parses and checks a manifest. `label` is what messages call it, such as the file's path.
    ///
    /// # Errors
    /// All problems that were found, each with its path and, where it is known, its line and column. Text over 1 MiB,
    /// nested too deeply, or blown up by aliases is refused before it is looked at further.
    pub fn parse(text: &str, format: Format, label: &str) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_MAX {
            return Err(ManifestError::whole(label, too_large()));
        }
        // Editors on some systems write a byte order mark; it means nothing in UTF-8.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let drafts = match tree::parse(text, format) {
            Ok(root) => match decode::manifest(&root) {
                Ok(manifest) => return Ok(manifest),
                Err(drafts) => drafts,
            },
            Err(fault) => vec![*fault],
        };
        Err(ManifestError::locate(label, text, format, drafts))
    }

    /// Reads a manifest: a `.yaml`, `.yml` or `.json` file, or a folder that holds exactly one of
    /// [`MANIFEST_FILES`].
    ///
    /// # Errors
    /// As [`Manifest::parse`], and when there is no such file, or it is no regular file or not text.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        Ok(Self::load_with_text(path)?.0)
    }

    /// [`Manifest::load`], with the text that it was read from: what an author publishes is what the author wrote.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load_with_text(path: &Path) -> Result<(Self, String, Format), ManifestError> {
        let (text, format, label) = read_file(path, "a manifest")?;
        Ok((Self::parse(&text, format, &label)?, text, format))
    }

    /// The manifest file that a path means: itself, or the one inside when it is a folder.
    ///
    /// # Errors
    /// When there is none, or a folder holds more than one.
    pub fn find(path: &Path) -> Result<PathBuf, ManifestError> {
        let whole =
            |message: String| ManifestError::whole(&path.display().to_string(), Problem::whole(message));
        let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => whole("does not exist".into()),
            _ => whole(format!("cannot be read: {error}")),
        })?;
        if !meta.is_dir() {
            return Ok(path.into());
        }
        let mut found = MANIFEST_FILES.iter().map(|name| path.join(name)).filter(|file| file.exists());
        match (found.next(), found.next()) {
            (Some(file), None) => Ok(file),
            (None, _) => {
                Err(whole(format!("holds no manifest: {} is expected", MANIFEST_FILES.join(" or "))))
            }
            (Some(one), Some(two)) => {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Err(whole(format!("holds both {} and {}: keep one", name(&one), name(&two))))
            }
        }
    }

    /// What the manifest says that this catalog contradicts or does not know.
    ///
    /// Parsing knows only the built-in catalog; an operator's may claim more names and have more providers.
    pub fn check_against(&self, catalog: &Catalog) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Supported::Only(slugs) = &self.supported_providers {
            for slug in slugs.iter().filter(|slug| catalog.provider(slug.as_str()).is_none()) {
                let known: Vec<_> = catalog.providers().map(|provider| provider.slug.as_str()).collect();
                let mut problem = Problem::whole(format!("no provider `{slug}` is in the catalog"));
                problem.path = "supported_providers".into();
                problem.hint = Some(match nearest(slug.as_str(), known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known providers: {}", known.join(", ")),
                });
                problems.push(problem);
            }
        }
        for (index, want) in self.llm.iter().flat_map(|llm| &llm.account).enumerate() {
            let wrong = match catalog.provider(want.provider.as_str()) {
                None => Some(format!("no provider `{}` is in the catalog", want.provider)),
                Some(provider) if provider.public_host().is_none() => Some(format!(
                    "`{}` is reached where its operator pinned it, by the gateway alone",
                    want.provider
                )),
                Some(provider) if !self.supported_providers.allows(provider) => {
                    Some(format!("`{}` is not one of `supported_providers`", want.provider))
                }
                Some(provider) => provider.inference.iter().find(|inference| want.covers(inference)).map(|inference| {
                    let (method, path) = (&inference.method, &inference.path);
                    format!("covers {method} {path}, which the gateway carries with a budget and a receipt; name other paths")
                })
                .or_else(|| {
                    let path = want.answering(provider)?;
                    Some(format!("covers POST {path}, which a model answers and no budget would count; name other paths"))
                }),
            };
            problems.extend(wrong.map(|message| Problem {
                path: format!("llm.account[{index}].provider"),
                ..Problem::whole(message)
            }));
        }
        for (index, slug) in self.search.iter().enumerate() {
            if catalog.searcher(slug.as_str()).is_none() {
                let known: Vec<_> = catalog.searchers().map(|provider| provider.slug.as_str()).collect();
                let mut problem =
                    Problem::whole(format!("`{slug}` is no provider of web search that the catalog has"));
                problem.path = format!("search[{index}]");
                problem.hint = Some(match nearest(slug.as_str(), known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", known.join(", ")),
                });
                problems.push(problem);
            }
        }
        for (index, secret) in self.secrets.iter().enumerate() {
            if let Some(provider) = catalog.provider_of_key(secret.name.as_str()) {
                let mut problem = Problem::whole(decode::key_of_provider(secret.name.as_str(), provider));
                problem.path = format!("secrets[{index}].name");
                problems.push(problem);
            }
        }
        problems
    }

    /// The JSON Schema of manifests, for editors.
    pub fn json_schema() -> serde_json::Value {
        schema::manifest_schema()
    }

    /// The manifest's canonical bytes: JSON with sorted keys and without spaces, the same for the same content
    /// whether it was written as YAML or JSON and in whatever order. Grants are keyed by a digest over them.
    ///
    /// [`Manifest::parse`] reads them back to the same manifest.
    pub fn canonical_json(&self) -> Vec<u8> {
        canonical::bytes(self)
    }
}

/// The text of a manifest's file, or of the one in a folder; its format, and how it is called in messages.
fn read_file(path: &Path, what: &str) -> Result<(String, Format, String), ManifestError> {
    let file = Manifest::find(path)?;
    let label = file.display().to_string();
    let whole = |message: String| ManifestError::whole(&label, Problem::whole(message));
    let format = match file.extension().and_then(|ext| ext.to_str()) {
        Some("yaml" | "yml") => Format::Yaml,
        Some("json") => Format::Json,
        _ => {
            return Err(whole(format!("{what} is a .yaml, .yml or .json file")));
        }
    };
    let unreadable = |error: std::io::Error| whole(format!("cannot be read: {error}"));
    // Asked before opening: a pipe in this place would block the reader.
    if !std::fs::metadata(&file).map_err(unreadable)?.is_file() {
        return Err(whole("is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    File::open(&file)
        .and_then(|file| file.take(MANIFEST_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() > MANIFEST_MAX {
        return Err(ManifestError::whole(&label, too_large()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
        let column = valid.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        let mut problem = Problem::whole("is not UTF-8 text".into());
        (problem.line, problem.column) = (Some(line), Some(column));
        ManifestError::whole(&label, problem)
    })?;
    Ok((text, format, label))
}

fn too_large() -> Problem {
    Problem::whole(format!("is larger than {} MiB", MANIFEST_MAX >> 20))
}

fn https() -> Scheme {
    Scheme::Https
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field")]
fn no_tools(tools: &ServerTools) -> bool {
    tools.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field")]
fn is_https(scheme: &Scheme) -> bool {
    *scheme == Scheme::Https
}

fn path_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn methods_text<S: Serializer>(methods: &[Method], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(methods.iter().map(Method::as_str))
}

impl Serialize for Supported {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Only(slugs) => slugs.serialize(serializer),
        }
    }
}
