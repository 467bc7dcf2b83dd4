//! The one place that reads environment variables.
//!
//! Every variable is declared in [`VARIABLES`], which also generates the documentation; key variables come from the
//! provider catalog. No provider's base URL is ever read from the environment: a planted variable must not redirect a key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use orch_manifests::{Catalog, EnvPart};
use orch_vault::Secret;

use crate::credential::fields;

/// A variable that `orch` reads.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
}

/// Every variable that `orch` reads, beside the key variables of the provider catalog.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "ORCH_HOME",
        meaning: "Folder that holds configuration, data and cache, instead of the XDG folders.",
    },
    Variable { name: "HOME", meaning: "Where the XDG folders are when their own variables are not set." },
    Variable { name: "XDG_CONFIG_HOME", meaning: "Parent of the configuration folder `orch`." },
    Variable { name: "XDG_DATA_HOME", meaning: "Parent of the data folder `orch`." },
    Variable { name: "XDG_CACHE_HOME", meaning: "Parent of the cache folder `orch`." },
    Variable {
        name: "ORCH_SERVER",
        meaning: "URL of the server that commands address, instead of `server.url` in the configuration.",
    },
    Variable {
        name: "ORCH_TOKEN",
        meaning: "Token for that server, instead of the one that `orch login` stored.",
    },
    Variable {
        name: "ORCH_BYOK_PROVIDER",
        meaning: "Provider that is thought with first, instead of what `orch byok` chose; its key has to be in the environment, too.",
    },
    Variable { name: "ORCH_BYOK_MODEL", meaning: "The model of that provider which comes first." },
    Variable {
        name: "ORCH_PASSPHRASE_FILE",
        meaning: "File (0600) that holds the vault's passphrase, where nobody is there to type it.",
    },
    Variable {
        name: "CREDENTIALS_DIRECTORY",
        meaning: "Folder of the credentials that systemd gives a service; the vault's key is `orch-vault-key` in it.",
    },
    Variable {
        name: "DBUS_SESSION_BUS_ADDRESS",
        meaning: "Where the session's bus is, on which the keychain is looked for.",
    },
    Variable {
        name: "XDG_RUNTIME_DIR",
        meaning: "Folder of this session; its socket `bus` is the session's bus where no address says otherwise.",
    },
    Variable {
        name: "ORCH_KEY_CHECK",
        meaning: "When `off`, no provider is asked about keys: not when one is stored, and not by `orch doctor`.",
    },
    Variable { name: "TERM", meaning: "When `dumb`, output has no colour and no progress is drawn." },
    Variable { name: "NO_COLOR", meaning: "When set and not empty, output has no colour." },
    Variable {
        name: "CI",
        meaning: "When set and not empty, nothing is asked on the terminal and no progress is drawn.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        meaning: "OpenTelemetry collector, where `telemetry.otlp_endpoint` names none; it is sent JSON over HTTP.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        meaning: "The URL that traces are sent to, in place of `/v1/traces` there.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        meaning: "The URL that metrics are sent to, in place of `/v1/metrics` there.",
    },
    Variable {
        name: "OTEL_EXPORTER_OTLP_HEADERS",
        meaning: "Headers of what is sent to the collector that the environment names, over TLS or on this machine: `KEY=VALUE`, \
                  separated by commas.",
    },
    Variable { name: "OTEL_EXPORTER_OTLP_TRACES_HEADERS", meaning: "The same for traces alone." },
    Variable { name: "OTEL_EXPORTER_OTLP_METRICS_HEADERS", meaning: "The same for metrics alone." },
    Variable {
        name: "OTEL_EXPORTER_OTLP_PROTOCOL",
        meaning: "`http/json` or `http/protobuf`; with another one nothing is exported, and a warning says so.",
    },
    Variable { name: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", meaning: "The same for traces alone." },
    Variable { name: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", meaning: "The same for metrics alone." },
    Variable { name: "OTEL_TRACES_EXPORTER", meaning: "When `none`, no traces are exported." },
    Variable { name: "OTEL_METRICS_EXPORTER", meaning: "When `none`, no metrics are exported." },
    Variable {
        name: "OTEL_SERVICE_NAME",
        meaning: "What this service is called in telemetry, instead of `orch`, where `telemetry.service_name` does not say.",
    },
    Variable {
        name: "OTEL_RESOURCE_ATTRIBUTES",
        meaning: "Further attributes of all telemetry: `KEY=VALUE`, separated by commas.",
    },
    Variable {
        name: "OTEL_TRACES_SAMPLER",
        meaning: "Which traces are kept: `always_on`, `always_off` or `traceidratio`, also with `parentbased_` in front; \
                  `telemetry.trace_ratio` goes before the ratio.",
    },
    Variable { name: "OTEL_TRACES_SAMPLER_ARG", meaning: "The ratio of `traceidratio`, from 0 to 1." },
    Variable {
        name: "OTEL_BSP_SCHEDULE_DELAY",
        meaning: "Milliseconds between two exports of traces; 5000 when not said.",
    },
    Variable {
        name: "OTEL_METRIC_EXPORT_INTERVAL",
        meaning: "Milliseconds between two exports of metrics; 15000 when not said.",
    },
    Variable {
        name: "OTEL_SDK_DISABLED",
        meaning: "When `true`, nothing is exported, whatever else is said.",
    },
    // Read before `main`, by the allocator itself.
    Variable {
        name: "MIMALLOC_*",
        meaning: "Settings of the memory allocator, mimalloc, which has them documented; no worker sees them.",
    },
];

/// The documentation of all variables, as a Markdown table: [`VARIABLES`], then the catalog's key variables.
#[must_use]
pub fn documentation(catalog: &Catalog) -> String {
    let row = |name: &str, meaning: &str| format!("| `{name}` | {meaning} |\n");
    let mut table = "| variable | meaning |\n|---|---|\n".to_owned();
    table.extend(VARIABLES.iter().map(|variable| row(variable.name, variable.meaning)));
    for provider in catalog.everybody() {
        for (position, name) in provider.env.iter().enumerate() {
            let other = if position == 0 { "" } else { ", another name" };
            table.push_str(&row(name, &format!("Key of {}{other}.", provider.name)));
        }
        for part in &provider.env_parts {
            for name in part.names.iter().filter(|name| !provider.env.contains(name)) {
                let meaning =
                    format!("`{}` of the key of {}, with its other parts.", part.field, provider.name);
                if !table.contains(&format!("| `{name}` |")) {
                    table.push_str(&row(name, &meaning));
                }
            }
        }
    }
    table
}

/// Where variables come from: the process, or a fixed set in tests.
#[derive(Debug)]
pub enum Environment {
    /// The environment of this process.
    Process,
    /// A fixed set.
    Fixed(BTreeMap<String, String>),
}

impl Environment {
    /// The value of a declared variable; empty counts as unset.
    ///
    /// # Panics
    /// When `name` is not in [`VARIABLES`]: an undeclared variable is a defect that any test of its caller finds.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<OsString> {
        assert!(VARIABLES.iter().any(|v| v.name == name), "{name} is not declared in VARIABLES");
        self.raw(name)
    }

    /// Whether providers are asked about keys before they are stored.
    #[must_use]
    pub fn checks_keys(&self) -> bool {
        self.get("ORCH_KEY_CHECK").is_none_or(|word| word != "off")
    }

    /// The same as a path; relative values are ignored, as the XDG specification asks.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The key in a variable, exactly as it stands but for one trailing newline, in either form. White space alone is no key.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<Secret> {
        use std::os::unix::ffi::OsStringExt;
        let mut bytes = self.raw(name)?.into_vec();
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        let secret = Secret::new(bytes);
        secret.expose(|key| !key.trim_ascii().is_empty()).then_some(secret)
    }

    /// The key that goes by a name of the catalog: what the variable holds, or what its parts make up together (a key and
    /// its resource, the two halves of a key that signs). All parts come from here, so that no key meets another's place.
    #[must_use]
    pub fn provider_key(&self, name: &str, catalog: &Catalog) -> Option<Secret> {
        let provider = catalog.provider_of_key(name)?;
        let parts = &provider.env_parts;
        let own = self.key(name);
        // A further key stands for itself, and so does what is a whole credential already.
        let whole = own.as_ref().is_some_and(|key| key.expose(fields::is_json));
        if parts.is_empty() || whole || !provider.env.iter().any(|known| known == name) {
            return own;
        }
        let is_part = parts.iter().any(|part| part.names.iter().any(|part| part == name));
        // Azure's key is a part of itself; a key of Bedrock's is another kind of key than the one that signs.
        if own.is_some() != is_part || (own.is_none() && provider.key_name() != Some(name)) {
            return own;
        }
        self.composed(parts).or(own)
    }

    /// A JSON credential of its parts; none where one that is required is missing, or nothing but the key is there.
    fn composed(&self, parts: &[EnvPart]) -> Option<Secret> {
        let mut fields: Vec<(&str, Secret)> = Vec::new();
        for part in parts {
            if fields.iter().any(|(field, _)| *field == part.field) {
                continue;
            }
            match part.names.iter().find_map(|name| self.key(name)) {
                Some(value) => fields.push((&part.field, part.written(&value))),
                None if part.required => return None,
                None => {}
            }
        }
        if fields.len() < 2 {
            return None;
        }
        let mut text =
            Vec::with_capacity(fields.iter().map(|(field, value)| field.len() + 2 * value.len() + 8).sum());
        for (field, value) in &fields {
            text.extend_from_slice(if text.is_empty() { b"{" } else { b"," });
            text.extend_from_slice(format!("\"{field}\":").as_bytes());
            value.expose(|value| json_text(&mut text, value))?;
        }
        text.push(b'}');
        Some(Secret::new(text))
    }

    fn raw(&self, name: &str) -> Option<OsString> {
        let value = match self {
            Self::Process => std::env::var_os(name),
            Self::Fixed(set) => set.get(name).map(OsString::from),
        };
        value.filter(|value| !value.is_empty())
    }
}

impl Written for EnvPart {
    fn written(&self, value: &Secret) -> Secret {
        let Some((before, after)) = self.form.as_deref().and_then(|form| form.split_once("{}")) else {
            return value.expose(|value| Secret::new(value.to_vec()));
        };
        value.expose(|value| Secret::new([before.as_bytes(), value, after.as_bytes()].concat()))
    }
}

/// A part as its field has it.
trait Written {
    fn written(&self, value: &Secret) -> Secret;
}

/// A text as JSON has it; `None` for what is no text. Nothing of it is copied elsewhere.
fn json_text(to: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    std::str::from_utf8(value).ok()?;
    to.push(b'"');
    for byte in value {
        match byte {
            b'"' | b'\\' => to.extend_from_slice(&[b'\\', *byte]),
            0..0x20 => to.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => to.push(*byte),
        }
    }
    to.push(b'"');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_place_are_of_one_environment() {
        let catalog = Catalog::builtin();
        let key = |pairs: &[(&str, &str)], name: &str| {
            let key = fixed(pairs).provider_key(name, &catalog)?;
            Some(key.expose(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        };
        const AWS: &str = "AWS_BEARER_TOKEN_BEDROCK";
        let both =
            [("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", "a\"b"), ("AWS_REGION", "eu-west-1")];
        let composed = r#"{"accessKeyId":"AKIA1","secretAccessKey":"a\"b","region":"eu-west-1"}"#;
        assert_eq!(key(&both, AWS).as_deref(), Some(composed));
        assert_eq!(key(&both[..2], AWS), None, "no region, no key");
        let all = [&both[..], &[(AWS, "ABSK")]].concat();
        assert_eq!(key(&all, AWS).as_deref(), Some("ABSK"), "what is a whole key goes first");
        assert_eq!(key(&[("OPENAI_API_KEY", "sk")], "OPENAI_API_KEY").as_deref(), Some("sk"));
        assert_eq!(key(&both, "AWS_BEARER_TOKEN_BEDROCK_2"), None, "a further key stands for itself");
    }

    fn fixed(pairs: &[(&str, &str)]) -> Environment {
        Environment::Fixed(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn empty_is_unset() {
        let env = fixed(&[("CI", ""), ("OPENAI_API_KEY", "")]);
        assert!(env.get("CI").is_none());
        assert!(env.key("OPENAI_API_KEY").is_none());
        assert!(fixed(&[("OPENAI_API_KEY", " \t\n")]).key("OPENAI_API_KEY").is_none());
    }

    #[test]
    fn the_readme_says_what_the_table_says() {
        let readme = include_str!("../../README.md");
        let begin = readme.find("<!-- environment:").expect("where the table begins");
        let (_, after) = readme[begin..].split_once("-->\n").expect("the end of the remark");
        let (written, _) = after.split_once("<!-- /environment -->").expect("where the table ends");
        let table = documentation(&Catalog::builtin());
        assert_eq!(written, table, "README.md and VARIABLES differ; the table is:\n{table}");
        // Each name once, and a key variable is not declared as something else.
        let mut names: Vec<&str> = table.lines().filter_map(|line| line.split('`').nth(1)).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn relative_folders_are_ignored() {
        assert!(fixed(&[("XDG_DATA_HOME", "data")]).path("XDG_DATA_HOME").is_none());
    }

    #[test]
    fn a_trailing_newline_is_not_part_of_a_key() {
        for text in ["abc\n", "abc\r\n"] {
            let key = fixed(&[("K", text)]).key("K").expect("a key");
            key.expose(|value| assert_eq!(value, b"abc"));
        }
    }
}
