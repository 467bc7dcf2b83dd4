//! A home for one test: everything that a run may write lies below one folder, and the folder can be searched.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ca::Ca;
use crate::compiled;
use crate::needle::{Hit, Needle};

/// `ORCH_HOME`, the user's own home, a folder for temporary files and a working directory, below one root.
pub struct Home {
    root: TempDir,
    orch: PathBuf,
    user: PathBuf,
    temporary: PathBuf,
    work: PathBuf,
    /// Whether it has what was compiled in others.
    lent: bool,
}

impl Home {
    /// A home, 0700, that holds nothing but what was compiled in others.
    pub fn new() -> Self {
        let mut home = Self::cold();
        compiled::lend(&home.orch).expect("compiled guests are lent to an empty home");
        home.lent = true;
        home
    }

    /// An empty home, 0700.
    pub fn cold() -> Self {
        let root = tempfile::Builder::new().prefix("orch-e2e-").tempdir().expect("a temporary folder");
        let folder = |name: &str| {
            let path = root.path().join(name);
            fs::DirBuilder::new().mode(0o700).create(&path).expect("a folder in an empty folder");
            path
        };
        let (orch, user, temporary, work) = (folder("orch"), folder("user"), folder("tmp"), folder("work"));
        Self { root, orch, user, temporary, work, lent: false }
    }

    /// `ORCH_HOME`.
    pub fn orch(&self) -> &Path {
        &self.orch
    }

    /// `HOME`.
    pub fn user(&self) -> &Path {
        &self.user
    }

    /// `TMPDIR`.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The working directory.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Writes `config.yaml`.
    pub fn configure(&self, config: &Config) {
        self.write("config.yaml", &config.text());
    }

    /// Writes a file below `ORCH_HOME`, 0600.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.orch.join(name), text)
    }

    /// Writes a file below the working directory, 0600.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        write(&self.work.join(name), text)
    }

    /// Hits in every file below the root of a [cold](Home::cold) home.
    #[track_caller]
    pub fn search(&self, needle: &Needle) -> Vec<Hit> {
        assert!(
            !self.lent,
            "what was compiled in another home never met what is searched for: begin with a cold one"
        );
        needle.in_tree(self.root.path())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Whoever comes next compiles it again otherwise.
        let _ = compiled::keep(&self.orch);
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// The operator's `config.yaml`, of which tests need the part that leads to loopback.
#[derive(Default, Clone)]
pub struct Config {
    ca: Option<String>,
    connect_to: BTreeMap<String, SocketAddr>,
    name_servers: Vec<SocketAddr>,
    allow: Vec<String>,
    trial: Option<Value>,
    providers: BTreeMap<String, Value>,
    server: Option<Value>,
    sandbox: Option<Value>,
    limits: Option<Value>,
    sections: BTreeMap<String, Value>,
    records: Option<Value>,
}

impl Config {
    /// Trusts `ca` beside the public roots.
    pub fn trusting(ca: &Ca, home: &Home) -> Self {
        let path = home.orch().join("test-roots.pem");
        ca.write(&path);
        Self { ca: Some(path.display().to_string()), ..Self::default() }
    }

    /// Dials `address` for the origin `host:port`.
    pub fn connect(mut self, origin: &str, address: SocketAddr) -> Self {
        self.connect_to.insert(origin.to_owned(), address);
        self
    }

    /// Asks this name server instead of the machine's own.
    pub fn name_server(mut self, address: SocketAddr) -> Self {
        self.name_servers.push(address);
        self
    }

    /// Grants a host to every agent whose manifest asks for it.
    pub fn allow(mut self, host: &str) -> Self {
        self.allow.push(host.to_owned());
        self
    }

    /// Tries a policy, a list as a manifest's `egress`, beside the one in force.
    pub fn trial(mut self, policy: Value) -> Self {
        self.trial = Some(policy);
        self
    }

    /// Pins a provider to a base URL.
    pub fn pin(self, provider: &str, base_url: &str) -> Self {
        self.provider(provider, json!({ "base_url": base_url }))
    }

    /// Any entry under `providers`.
    pub fn provider(mut self, provider: &str, entry: Value) -> Self {
        self.providers.insert(provider.to_owned(), entry);
        self
    }

    /// The table `server`.
    pub fn server(mut self, entry: Value) -> Self {
        self.server = Some(entry);
        self
    }

    /// The table `sandbox`.
    pub fn sandbox(mut self, entry: Value) -> Self {
        self.sandbox = Some(entry);
        self
    }

    /// The table `limits`.
    pub fn limits(mut self, entry: Value) -> Self {
        self.limits = Some(entry);
        self
    }

    /// Any further section.
    pub fn section(mut self, name: &str, entry: Value) -> Self {
        self.sections.insert(name.to_owned(), entry);
        self
    }

    /// The table `records`.
    pub fn records(mut self, entry: Value) -> Self {
        self.records = Some(entry);
        self
    }

    /// The file's text. JSON is YAML, and quoting is not a test's business.
    pub fn text(&self) -> String {
        let mut egress = json!({ "allow": self.allow, "connect_to": self.connect_to });
        if !self.name_servers.is_empty() {
            egress["name_servers"] = json!(self.name_servers);
        }
        if let Some(ca) = &self.ca {
            egress["ca_file"] = json!(ca);
        }
        if let Some(trial) = &self.trial {
            egress["trial"] = trial.clone();
        }
        let mut config = json!({ "egress": egress, "providers": self.providers });
        if let Some(server) = &self.server {
            config["server"] = server.clone();
        }
        if let Some(sandbox) = &self.sandbox {
            config["sandbox"] = sandbox.clone();
        }
        if let Some(limits) = &self.limits {
            config["limits"] = limits.clone();
        }
        for (name, entry) in &self.sections {
            config[name] = entry.clone();
        }
        if let Some(records) = &self.records {
            config["records"] = records.clone();
        }
        serde_json::to_string_pretty(&config).expect("plain values")
    }
}

fn write(path: &Path, text: &str) -> PathBuf {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
    file.write_all(text.as_bytes()).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_home_is_private_and_searched_whole() {
        let home = Home::cold();
        for folder in [home.orch(), home.user(), home.temporary(), home.work()] {
            assert_eq!(fs::metadata(folder).expect("exists").permissions().mode() & 0o777, 0o700);
        }
        let needle = Needle::new("sk-canary-0123456789");
        assert_eq!(home.search(&needle), []);
        for folder in [home.orch(), home.user(), home.temporary(), home.work()] {
            write(&folder.join("f"), "x sk-canary-0123456789");
        }
        assert_eq!(home.search(&needle).len(), 4);
    }

    #[test]
    fn a_config_leads_to_loopback() {
        let home = Home::new();
        let config = Config::trusting(&Ca::new(), &home)
            .connect("api.openai.com:443", SocketAddr::from(([127, 0, 0, 1], 9)))
            .allow("api.example.com")
            .pin("ollama", "http://127.0.0.1:9/v1");
        let read: Value = serde_json::from_str(&config.text()).expect("JSON");
        assert_eq!(read["egress"]["connect_to"]["api.openai.com:443"], "127.0.0.1:9");
        assert_eq!(read["providers"]["ollama"]["base_url"], "http://127.0.0.1:9/v1");
        assert!(
            fs::read_to_string(home.orch().join("test-roots.pem")).expect("there").contains("CERTIFICATE")
        );
    }
}
