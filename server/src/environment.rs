//! The one place that reads environment variables.
//!
//! Every variable is declared in [`VARIABLES`], which also generates the documentation; key variables come from the
//! provider catalog. No provider's base URL is ever read from the environment: a planted variable must not redirect a key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use orch_manifests::Catalog;
use orch_vault::Secret;

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
    for provider in catalog.providers() {
        for (position, name) in provider.env.iter().enumerate() {
            let other = if position == 0 { "" } else { ", another name" };
            table.push_str(&row(name, &format!("Key of {}{other}.", provider.name)));
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

    /// The same as a path; relative values are ignored, as the XDG specification asks.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The key in a variable, exactly as it stands but for one trailing newline. White space alone is no key.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<Secret> {
        use std::os::unix::ffi::OsStringExt;
        let mut bytes = self.raw(name)?.into_vec();
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let secret = Secret::new(bytes);
        secret.expose(|key| !key.trim_ascii().is_empty()).then_some(secret)
    }

    fn raw(&self, name: &str) -> Option<OsString> {
        let value = match self {
            Self::Process => std::env::var_os(name),
            Self::Fixed(set) => set.get(name).map(OsString::from),
        };
        value.filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let key = fixed(&[("K", "abc\n")]).key("K").expect("a key");
        key.expose(|value| assert_eq!(value, b"abc"));
    }
}
