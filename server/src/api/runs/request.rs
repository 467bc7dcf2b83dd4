//! What a client says about a run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orch_gateway::Preference;
use orch_manifests::{AgentRef, ByteSize, Digest, EgressWant, Format, MicroUsd, parse_guest_path};
use orch_vault::FlagKey;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_json::value::RawValue;

use crate::agent::Agent;
use crate::api::blobs;
use crate::api::call::Call;
use crate::api::gate;
use crate::api::json::SecretText;
use crate::caller::{Peer, Scope};
use crate::failure::Failure;
use crate::run::{LimitRequest, MountRequest, RunRequest, Simulate};
use crate::service::Service;

/// Longest time that a run may ask for, in milliseconds.
const MOST_TIME: u64 = 30 * 24 * 60 * 60 * 1000;
/// Most memory that a run may ask for, in bytes.
const MOST_MEMORY: u64 = 64 << 30;

/// Most entries of each list, and most bytes of the texts of each field together. The input has its own.
const MOST_ENTRIES: usize = 1000;
const MOST_TEXT: usize = 1 << 20;

/// The body of `POST /v1/runs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunDocument {
    agent: AgentDocument,
    #[serde(default, deserialize_with = "even_null")]
    input: Option<Box<RawValue>>,
    provider: Option<String>,
    model: Option<String>,
    /// What is thought with first, where neither `provider` nor `model` is said and the agent allows it.
    prefer: Option<Preference>,
    /// Whether a key that the member has registered is to serve.
    byok: Option<bool>,
    env: Option<BTreeMap<String, String>>,
    keys: Option<Vec<KeyDocument>>,
    env_keys: Option<BTreeMap<String, SecretText>>,
    allow: Option<Vec<String>>,
    secrets: Option<Vec<String>>,
    grant: Option<Vec<String>>,
    /// A policy on trial: a list as a manifest's `egress`.
    trial: Option<Box<RawValue>>,
    /// The content that was asked about: with it, nothing else is run.
    digest: Option<Digest>,
    mounts: Option<Vec<MountDocument>>,
    limits: Option<LimitsDocument>,
    simulate: Option<Simulate>,
    stream: Option<bool>,
}

/// By name, or by what was uploaded.
enum AgentDocument {
    Named(String),
    Uploaded(Upload),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    module: Digest,
    manifest: Option<String>,
    format: Option<FormatWord>,
    name: Option<String>,
}

/// The word for a manifest's format.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum FormatWord {
    Yaml,
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDocument {
    provider: Option<String>,
    key: SecretText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MountDocument {
    host: PathBuf,
    guest: String,
    #[serde(default)]
    writable: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsDocument {
    time_ms: Option<u64>,
    memory_bytes: Option<u64>,
    cost_micro_usd: Option<u64>,
}

impl RunDocument {
    /// Checks what depends on who asks, and from where.
    pub(super) fn check(&self, call: &Call<'_>) -> Result<(), Failure> {
        self.check_sizes()?;
        let said = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        for (name, list) in [("allow", &self.allow), ("secrets", &self.secrets), ("grant", &self.grant)] {
            if said(list) {
                gate::permit_also(&call.caller, Scope::Grants, &format!("`{name}`"))?;
            }
        }
        if said(&self.secrets) {
            // It says where a secret may go, which is its owner's to say.
            gate::permit_also(&call.caller, Scope::Secrets, "`secrets`")?;
        }
        if self.mounts.as_ref().is_some_and(|mounts| !mounts.is_empty()) && call.peer != Peer::InProcess {
            return Err(Failure::usage(
                "mount_refused",
                "the folders of a caller's machine cannot be mounted on a server",
            )
            .hint("orch run --local"));
        }
        let keys = self.keys.as_ref().is_some_and(|keys| !keys.is_empty())
            || self.env_keys.as_ref().is_some_and(|keys| !keys.is_empty());
        if keys { gate::check_private(call.peer, "keys") } else { Ok(()) }
    }

    /// Whether each field is of a size that somebody could mean: what is accepted may have to wait in memory.
    fn check_sizes(&self) -> Result<(), Failure> {
        within("provider", self.provider.iter().map(String::len))?;
        within("model", self.model.iter().map(String::len))?;
        let prefer = self.prefer.iter();
        within("prefer", prefer.map(|of| of.provider.len() + of.model.as_ref().map_or(0, String::len)))?;
        within("env", self.env.iter().flatten().map(|(name, value)| name.len() + value.len()))?;
        let keys = self.keys.iter().flatten();
        within("keys", keys.map(|of| of.provider.as_ref().map_or(0, String::len) + of.key.0.len()))?;
        within("env_keys", self.env_keys.iter().flatten().map(|(name, key)| name.len() + key.0.len()))?;
        for (field, list) in [("allow", &self.allow), ("secrets", &self.secrets), ("grant", &self.grant)] {
            within(field, list.iter().flatten().map(String::len))?;
        }
        within("trial", self.trial.iter().map(|list| list.get().len()))?;
        let mounts = self.mounts.iter().flatten();
        within("mounts", mounts.map(|mount| mount.host.as_os_str().len() + mount.guest.len()))?;
        let simulate = self.simulate.iter();
        within("simulate", simulate.map(|(Simulate::Scenario(of) | Simulate::File(of))| of.len()))
    }

    /// The request that this is, with the agent that it names.
    pub(super) async fn into_request(self, service: &Service) -> Result<RunRequest, Failure> {
        let agent = self.agent.find(service).await?;
        if let Some(asked) = self.digest.filter(|asked| *asked != agent.digest) {
            return Err(Failure::usage(
                "conflict",
                format!("{} is {} by now, and not {asked}", agent.manifest.name, agent.digest),
            )
            .hint("run it again: it asks anew for what it wants"));
        }
        let catalog = service.catalog();
        let limits = self.limits.unwrap_or_default();
        limits.check()?;
        let mut request = RunRequest {
            input: self.input.map(|input| input.get().to_owned()),
            provider: self.provider,
            model: self.model,
            prefer: self.prefer,
            byok: self.byok,
            env: self.env.unwrap_or_default().into_iter().collect(),
            allow: self.allow.unwrap_or_default(),
            secrets: self.secrets.unwrap_or_default(),
            granted: self.grant.unwrap_or_default().into_iter().collect(),
            trial: self.trial.as_deref().map(trial).transpose()?,
            limits: LimitRequest {
                time: limits.time_ms.map(Duration::from_millis),
                memory: limits.memory_bytes.map(ByteSize),
                max_cost: limits.cost_micro_usd.map(MicroUsd),
            },
            simulate: self.simulate,
            stream: self.stream.unwrap_or_default(),
            ..RunRequest::new(agent)
        };
        for (at, KeyDocument { provider, key }) in self.keys.unwrap_or_default().into_iter().enumerate() {
            let provider = provider
                .map(|name| {
                    let known = catalog.anybody(&name).map(|provider| provider.slug.to_string());
                    known.ok_or_else(|| {
                        let known: Vec<&str> = catalog.everybody().map(|p| p.slug.as_str()).collect();
                        Failure::usage(
                            "provider_unknown",
                            format!("`keys[{at}].provider` is no provider of this server"),
                        )
                        .hint(format!("known providers: {}", known.join(", ")))
                    })
                })
                .transpose()?;
            request.keys.push(FlagKey { provider, secret: key.0 });
        }
        for (name, key) in self.env_keys.unwrap_or_default() {
            if catalog.provider_of_key(&name).is_none() {
                return Err(Failure::usage(
                    "env_key_unknown",
                    format!("`env_keys`: {name:?} is no provider's key variable"),
                )
                .hint("other secrets are set in the vault: orch secrets set NAME --host HOST"));
            }
            request.env_keys.insert(name, key.0);
        }
        for (at, MountDocument { host, guest, writable }) in
            self.mounts.unwrap_or_default().into_iter().enumerate()
        {
            let guest = parse_guest_path(&guest).map_err(|why| {
                Failure::usage(
                    "bad_request",
                    format!("`mounts[{at}].guest`: {guest:?} is not a path inside the sandbox: {why}"),
                )
                .hint("it is an absolute path such as /data")
            })?;
            request.mounts.push(MountRequest { host, guest, writable });
        }
        Ok(request)
    }
}

/// The policy on trial. Bounded by the size of its text, and by what a manifest may hold.
fn trial(list: &RawValue) -> Result<Vec<EgressWant>, Failure> {
    let read = EgressWant::list_in(list.get(), Format::Json, "`trial`", &[]);
    let read = read.map_err(|e| Failure::usage("policy_invalid", e.to_string()).detail("field", "trial"))?;
    let list = read.unwrap_or_default();
    match list.len() {
        0..=MOST_ENTRIES => Ok(list),
        count => Err(Failure::usage(
            "field_too_large",
            format!("`trial` has {count} entries, and may have {MOST_ENTRIES}"),
        )
        .detail("field", "trial")),
    }
}

/// Whether a field's entries, of so many bytes each, are neither too many nor too large.
fn within(field: &str, entries: impl Iterator<Item = usize>) -> Result<(), Failure> {
    let (count, bytes) = entries.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry));
    let most = match (count > MOST_ENTRIES, bytes > MOST_TEXT) {
        (true, _) => format!("has {count} entries, and may have {MOST_ENTRIES}"),
        (_, true) => format!("is larger than {} MiB in all", MOST_TEXT >> 20),
        _ => return Ok(()),
    };
    Err(Failure::usage("field_too_large", format!("`{field}` {most}"))
        .detail("field", field)
        .hint("what is large belongs into the input"))
}

impl AgentDocument {
    async fn find(self, service: &Service) -> Result<Arc<Agent>, Failure> {
        let upload = match self {
            Self::Named(name) => {
                let reference: AgentRef =
                    name.parse().map_err(|e| Failure::usage("bad_agent", format!("`agent`: {e}")))?;
                return service.library().find(&reference).await;
            }
            Self::Uploaded(upload) => upload,
        };
        let module = blobs::module(service, &upload.module).await?;
        let agent = match (upload.manifest, upload.format, upload.name) {
            (Some(text), format, None) => {
                let format = format.map_or(Format::Yaml, Format::from);
                Agent::from_parts(&text, format, module, service.catalog())?
            }
            (None, None, Some(stem)) => {
                crate::agent::check_module(&module, "the module")?;
                Agent::bare(&stem, module)?
            }
            _ => {
                return Err(Failure::usage(
                    "bad_json",
                    "`agent`: beside `module` stand `manifest` and `format`, or `name`",
                ));
            }
        };
        // The same content as others uploaded is the same agent in memory.
        Ok(service.library().shared(Arc::new(agent)))
    }
}

impl LimitsDocument {
    /// More than any machine has is a mistake, and not a wish.
    fn check(&self) -> Result<(), Failure> {
        let bad = |field: &str, most: &str| {
            Err(Failure::usage("limit_invalid", format!("`limits.{field}` is at most {most}")))
        };
        if self.time_ms.is_some_and(|time| time > MOST_TIME) {
            return bad("time_ms", "30 days");
        }
        if self.memory_bytes.is_some_and(|memory| memory > MOST_MEMORY) {
            return bad("memory_bytes", "64 GiB");
        }
        Ok(())
    }
}

impl From<FormatWord> for Format {
    fn from(word: FormatWord) -> Self {
        match word {
            FormatWord::Yaml => Self::Yaml,
            FormatWord::Json => Self::Json,
        }
    }
}

impl<'de> Deserialize<'de> for AgentDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = AgentDocument;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("org/name[@version], or an object with `module`")
            }

            fn visit_str<E>(self, name: &str) -> Result<AgentDocument, E> {
                Ok(AgentDocument::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AgentDocument, A::Error> {
                Upload::deserialize(MapAccessDeserializer::new(map)).map(AgentDocument::Uploaded)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// An input of `null` is an input.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::parse;

    fn wrong(text: &str) -> (String, String) {
        let failure = parse::<RunDocument>(text.as_bytes()).err().expect(text);
        (failure.details()["field"].as_str().unwrap_or_default().to_owned(), failure.message().to_owned())
    }

    #[test]
    fn a_document_says_what_it_says() {
        let text = r#"{"agent":"acme/x@^1","input":{"b": [1.50, null]},"provider":null,"env":{"A":"1"},
            "keys":[{"provider":"openai","key":"sk-1"},{"key":"sk-2"}],"env_keys":{"OPENAI_API_KEY":"sk-3"},
            "grant":["talk to https://a.example (any method)"],"limits":{"time_ms":5},
            "simulate":{"scenario":"ok"},"stream":true}"#;
        let document: RunDocument = parse(text.as_bytes()).expect("a document");
        assert!(matches!(&document.agent, AgentDocument::Named(name) if name == "acme/x@^1"));
        assert_eq!(document.input.expect("an input").get(), r#"{"b": [1.50, null]}"#, "as it was written");
        let keys = document.keys.expect("keys");
        keys[1].key.0.expose(|key| assert_eq!(key, b"sk-2"));
        assert_eq!(document.simulate, Some(Simulate::Scenario("ok".to_owned())));

        let document: RunDocument = parse(br#"{"agent":"a/b","input":null}"#).expect("a document");
        assert_eq!(document.input.expect("null is an input").get(), "null");
        let document: RunDocument = parse(br#"{"agent":"a/b"}"#).expect("a document");
        assert!(document.input.is_none() && document.stream.is_none());

        let digest = Digest::of(b"x");
        let text = format!(r#"{{"agent":{{"module":"{digest}","manifest":"name: a/b","format":"yaml"}}}}"#);
        let document: RunDocument = parse(text.as_bytes()).expect("a document");
        assert!(matches!(&document.agent, AgentDocument::Uploaded(upload) if upload.module == digest));
    }

    #[test]
    fn a_policy_on_trial_is_read_as_a_manifest_s() {
        let read = |text: &str| {
            let document: RunDocument =
                parse(format!(r#"{{"agent":"a/b","trial":{text}}}"#).as_bytes()).expect(text);
            document.trial.as_deref().map(trial).transpose()
        };
        assert_eq!(read("null").expect("none"), None);
        assert_eq!(read("[]").expect("nothing is allowed"), Some(Vec::new()));
        let list = read(r#"[{"host":"a.example.com","methods":["GET"]}]"#).expect("a list").expect("there");
        assert_eq!(list[0].host.to_string(), "a.example.com");
        for (text, says) in [
            ("{}", "expected a list"),
            (r#"[{"hots":"a.example.com"}]"#, "[0].hots: unknown field"),
            (r#"[{"host":"10.0.0.1"}]"#, "IP address"),
        ] {
            let failure = read(text).expect_err(text);
            assert_eq!(failure.code(), "policy_invalid");
            assert!(failure.message().contains(says), "{failure}");
        }
        let many = vec![r#"{"host":"a.example.com"}"#; MOST_ENTRIES + 1].join(",");
        assert_eq!(read(&format!("[{many}]")).expect_err("too many").code(), "field_too_large");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, field) in [
            ("{}", "."),
            (r#"{"agent":7}"#, "agent"),
            (r#"{"agent":{"modul":"x"}}"#, "agent.modul"),
            (r#"{"agent":{"module":"sha256:00"}}"#, "agent.module"),
            (r#"{"agent":"a/b","inputs":1}"#, "inputs"),
            (r#"{"agent":"a/b","limits":{"time":5}}"#, "limits.time"),
            (r#"{"agent":"a/b","limits":{"time_ms":-5}}"#, "limits.time_ms"),
            (r#"{"agent":"a/b","keys":[{"kei":"sk-1"}]}"#, "keys[0].kei"),
            (r#"{"agent":"a/b","keys":["sk-1"]}"#, "keys[0]"),
            (r#"{"agent":"a/b","keys":"sk-1"}"#, "keys"),
            (r#"{"agent":"a/b","env_keys":{"OPENAI_API_KEY":["sk-1"]}}"#, "env_keys.OPENAI_API_KEY"),
            (r#"{"agent":"a/b","simulate":{"scenaro":"ok"}}"#, "simulate"),
            (r#"{"agent":"a/b","mounts":[{"host":"/a"}]}"#, "mounts[0]"),
        ] {
            let (place, message) = wrong(text);
            assert_eq!(place, field, "{text}: {message}");
            assert!(!message.contains("sk-1"), "{message}");
        }
    }
}
