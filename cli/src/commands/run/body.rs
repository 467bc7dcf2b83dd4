//! The body of `POST /v1/runs`, from what the command line says.

use std::collections::BTreeMap;

use bytes::Bytes;
use orch_gateway::Preference;
use orch_manifests::{AgentRef, ByteSize, Digest, EgressWant, MicroUsd};
use orch_server::{Failure, LimitRequest, Simulate};
use orch_vault::Secret;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::said::Said;
use crate::client::{Revealed, json};

/// What is run, as the server is told.
pub(super) enum Subject {
    /// A published agent, or one that comes with the server.
    Name(AgentRef),
    /// A manifest, and a module that was uploaded.
    Manifest {
        /// As its author wrote it.
        text: String,
        /// `yaml` or `json`.
        format: &'static str,
        /// The module's.
        module: Digest,
    },
    /// A module alone that was uploaded.
    Bare {
        /// The module's.
        module: Digest,
        /// What it is called.
        name: String,
    },
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => name.serialize(serializer),
            Self::Manifest { text, format, module } => BTreeMap::from([
                ("manifest", text.clone()),
                ("format", (*format).to_owned()),
                ("module", module.to_string()),
            ])
            .serialize(serializer),
            Self::Bare { module, name } => {
                BTreeMap::from([("module", module.to_string()), ("name", name.clone())]).serialize(serializer)
            }
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    agent: &'a Subject,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer: Option<&'a Preference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    byok: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Key<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env_keys: BTreeMap<&'a str, Revealed<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allow: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    secrets: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grant: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trial: Option<&'a [EgressWant]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount<'a>>,
    #[serde(skip_serializing_if = "Limits::is_empty")]
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulate: Option<&'a Simulate>,
    stream: bool,
}

#[derive(Serialize)]
struct Key<'a> {
    provider: Option<&'a str>,
    key: Revealed<'a>,
}

#[derive(Serialize)]
struct Mount<'a> {
    host: String,
    guest: &'a str,
    writable: bool,
}

#[derive(Serialize)]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_micro_usd: Option<u64>,
}

impl Limits {
    fn of(limits: &LimitRequest) -> Self {
        Self {
            time_ms: limits.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            memory_bytes: limits.memory.map(ByteSize::bytes),
            cost_micro_usd: limits.max_cost.map(MicroUsd::micros),
        }
    }

    fn is_empty(&self) -> bool {
        self.time_ms.is_none() && self.memory_bytes.is_none() && self.cost_micro_usd.is_none()
    }
}

/// What the person at the terminal granted for this run, and to exactly which agent.
pub(super) struct Granted {
    pub(super) digest: Digest,
    pub(super) capabilities: Vec<String>,
}

/// The body, in memory that is cleared when the last user of it is gone: it may hold keys.
///
/// # Errors
/// When the input is not JSON, or a key is not text.
pub(super) fn write(
    subject: &Subject,
    said: &Said,
    env_keys: &BTreeMap<String, Secret>,
    granted: Option<&Granted>,
) -> Result<Bytes, Failure> {
    let input = said.input.as_deref().map(serde_json::from_str::<&RawValue>).transpose().map_err(|e| {
        Failure::usage("input_invalid", format!("the input is not JSON: {e}"))
            .hint("--input takes JSON, @FILE, or - for standard input")
    })?;
    let keys = said
        .keys
        .iter()
        .map(|flag| Ok(Key { provider: flag.provider.as_deref(), key: revealed(&flag.secret)? }));
    let env_keys = env_keys.iter().map(|(name, key)| Ok((name.as_str(), revealed(key)?)));
    let mounts = said.mounts.iter().map(|mount| {
        let host = std::path::absolute(&mount.host)
            .map_err(|e| Failure::file("mount_refused", "mount", &mount.host, &e))?;
        let host = host.to_str().ok_or_else(|| {
            let why = format!("{} cannot be mounted: its path is not text", host.display());
            Failure::usage("mount_refused", why)
                .hint("run it from a folder whose path is text, or name the whole path")
        })?;
        Ok(Mount { host: host.to_owned(), guest: &mount.guest, writable: mount.writable })
    });
    let body = Body {
        agent: subject,
        input,
        provider: said.provider.as_deref(),
        model: said.model.as_deref(),
        prefer: said.prefer.as_ref(),
        byok: said.byok,
        env: said.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        keys: keys.collect::<Result<_, Failure>>()?,
        env_keys: env_keys.collect::<Result<_, Failure>>()?,
        allow: &said.allow,
        secrets: &said.secrets,
        trial: said.trial.as_deref(),
        grant: said
            .granted
            .iter()
            .chain(granted.into_iter().flat_map(|granted| &granted.capabilities))
            .map(String::as_str)
            .collect(),
        digest: granted.map(|granted| granted.digest.to_string()),
        mounts: mounts.collect::<Result<_, Failure>>()?,
        limits: Limits::of(&said.limits),
        simulate: said.simulate.as_ref(),
        stream: said.stream,
    };
    json(&body)
}

fn revealed(key: &Secret) -> Result<Revealed<'_>, Failure> {
    Revealed::new(key).ok_or_else(|| {
        Failure::usage("key_unusable", "a key holds bytes that are not text, which no key does")
            .hint("copy the key again, without quotes and blanks around it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_manifests::Format;
    use orch_server::MountRequest;
    use orch_vault::FlagKey;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn nothing() -> Said {
        Said {
            input: None,
            keys: Vec::new(),
            provider: None,
            model: None,
            prefer: None,
            byok: None,
            env: Vec::new(),
            allow: Vec::new(),
            secrets: Vec::new(),
            granted: BTreeSet::new(),
            trial: None,
            mounts: Vec::new(),
            limits: LimitRequest::default(),
            stream: false,
            simulate: None,
        }
    }

    fn name() -> Subject {
        Subject::Name("acme/x@^1".parse().expect("a name"))
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    fn written(subject: &Subject, said: &Said, env: &BTreeMap<String, Secret>) -> Value {
        serde_json::from_slice(&write(subject, said, env, None).expect("written")).expect("JSON")
    }

    #[test]
    fn what_is_not_said_is_left_out() {
        let body = written(&name(), &nothing(), &BTreeMap::new());
        assert_eq!(body, json!({ "agent": "acme/x@^1", "stream": false }));
    }

    #[test]
    fn everything_that_can_be_said_is_in_the_contract_s_words() {
        let said = Said {
            input: Some(r#"{"n": 12345678901234567890123, "b": 1, "a": 2}"#.to_owned()),
            keys: vec![
                FlagKey { provider: Some("openai".to_owned()), secret: secret("sk-1") },
                FlagKey { provider: None, secret: secret("sk-2") },
            ],
            provider: Some("openai".to_owned()),
            model: Some("gpt-4o".to_owned()),
            prefer: Some(Preference { provider: "openai".to_owned(), model: Some("gpt-4o".to_owned()) }),
            byok: Some(true),
            env: vec![("A".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned())],
            allow: vec!["api.example.com:8443".to_owned()],
            secrets: vec!["T@api.example.com".to_owned()],
            granted: BTreeSet::from(["llm.server_tools:search".to_owned()]),
            trial: EgressWant::list_in("[{ host: a.example.com, methods: [GET] }]", Format::Yaml, "x", &[])
                .expect("a list"),
            mounts: vec![MountRequest { host: "/srv/x".into(), guest: "/data".to_owned(), writable: true }],
            limits: LimitRequest {
                time: Some(Duration::from_millis(1500)),
                memory: Some(ByteSize(1024)),
                max_cost: Some(MicroUsd(500_000)),
            },
            stream: true,
            simulate: Some(Simulate::Scenario("ok".to_owned())),
        };
        let env = BTreeMap::from([("OPENAI_API_KEY".to_owned(), secret("sk-3"))]);
        let module = Digest::of(b"m");
        let subject = Subject::Manifest { text: "name: acme/x\n".to_owned(), format: "yaml", module };
        let granted = Granted { digest: module, capabilities: vec!["talk to https://a".to_owned()] };
        let bytes = write(&subject, &said, &env, Some(&granted)).expect("written");
        let text = std::str::from_utf8(&bytes).expect("UTF-8");
        assert!(text.contains("12345678901234567890123"), "no number is rounded: {text}");
        assert!(text.find("\"b\": 1") < text.find("\"a\": 2"), "the input is passed on as it was written");
        let mut body: Value = serde_json::from_str(text).expect("JSON");
        body["input"] = Value::Null;
        assert_eq!(
            body,
            json!({
                "agent": { "manifest": "name: acme/x\n", "format": "yaml", "module": module.to_string() },
                "input": null,
                "provider": "openai", "model": "gpt-4o", "env": { "A": "2" },
                "prefer": { "provider": "openai", "model": "gpt-4o" }, "byok": true,
                "keys": [{ "provider": "openai", "key": "sk-1" }, { "provider": null, "key": "sk-2" }],
                "env_keys": { "OPENAI_API_KEY": "sk-3" },
                "allow": ["api.example.com:8443"], "secrets": ["T@api.example.com"],
                "trial": [{ "host": "a.example.com", "methods": ["GET"] }],
                "grant": ["llm.server_tools:search", "talk to https://a"], "digest": module.to_string(),
                "mounts": [{ "host": "/srv/x", "guest": "/data", "writable": true }],
                "limits": { "time_ms": 1500, "memory_bytes": 1024, "cost_micro_usd": 500_000 },
                "simulate": { "scenario": "ok" }, "stream": true,
            })
        );
    }

    #[test]
    fn what_cannot_be_sent_is_said_before_anything_is() {
        let bare = Subject::Bare { module: Digest::of(b"m"), name: "x".to_owned() };
        let said = Said { input: Some("{".to_owned()), ..nothing() };
        let failure = write(&bare, &said, &BTreeMap::new(), None).expect_err("not JSON");
        assert_eq!(failure.code(), "input_invalid");
        let env = BTreeMap::from([("K".to_owned(), Secret::new(vec![0xff, 0xfe]))]);
        let failure = write(&bare, &nothing(), &env, None).expect_err("not text");
        assert_eq!(failure.code(), "key_unusable");
    }
}
