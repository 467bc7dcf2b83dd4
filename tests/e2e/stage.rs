//! A stage: a home whose configuration leads every provider to a fake of it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use orch_tests::ca::Ca;
use orch_tests::fakes::anthropic::{Messages, anthropic};
use orch_tests::fakes::gemini::{Generate, gemini};
use orch_tests::fakes::openai::{Chat, openai};
use orch_tests::guests::{self, Agent};
use orch_tests::home::{Config, Home};
use orch_tests::orch::{Orch, Outcome};
use orch_tests::server::Server;
use orch_tests::upstream::Upstream;
use serde_json::{Value, json};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_orch");

pub(crate) const OPENAI_KEY: &str = "sk-proj-e2eQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5Jv0Xa";
pub(crate) const ANTHROPIC_KEY: &str = "sk-ant-api03-e2eTb5Nw8Rq2Mz7Kx4Lp9Vd1Hs6Fj3Gc0Ya";
pub(crate) const GEMINI_KEY: &str = "AIzaSyE2e-Wq8Rn3Tz6Lx1Vp5Kd9Hb2Mf7Gj4Cs0Y";

pub(crate) const OPENAI_SAYS: &str = "OpenAI says that ships wait for rain.";
pub(crate) const ANTHROPIC_SAYS: &str = "Anthropic says that rain waits for no ship.";
pub(crate) const GEMINI_SAYS: &str = "Gemini says that both arrive.";

pub(crate) const INPUT: &str = r#"{"text":"Ships came. Rain fell. Everyone waited for the other."}"#;

/// Where a run takes place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// In the command's own process and its worker.
    Local,
    /// On a server inside the command's own process.
    Embedded,
    /// On the server of this home, which the command finds by its socket.
    Served,
}

impl Mode {
    /// The flags of `orch run` that ask for it.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Mode::Local => &["--local"],
            Mode::Embedded | Mode::Served => &[],
        }
    }
}

/// Makes a test of each of these functions in each [`Mode`]; they take the mode.
macro_rules! in_every_mode {
    ($($name:ident)*) => {
        mod local {
            $(#[test]
            fn $name() {
                super::$name(crate::stage::Mode::Local);
            })*
        }

        mod embedded {
            $(#[test]
            fn $name() {
                super::$name(crate::stage::Mode::Embedded);
            })*
        }

        mod served {
            $(#[test]
            fn $name() {
                super::$name(crate::stage::Mode::Served);
            })*
        }
    };
}
pub(crate) use in_every_mode;

/// The three public providers, played, and a home that is led to them.
pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) ca: Ca,
    pub(crate) openai: Upstream,
    pub(crate) anthropic: Upstream,
    pub(crate) gemini: Upstream,
    config: Config,
    /// The server of this home, once a run has asked for one.
    server: OnceCell<Server>,
}

/// The fake of OpenAI that a [`Stage`] plays, for its words of failure and its streams.
pub(crate) fn fake_openai() -> Chat {
    openai(OPENAI_KEY, OPENAI_SAYS)
}

/// As [`fake_openai`].
pub(crate) fn fake_anthropic() -> Messages {
    anthropic(ANTHROPIC_KEY, ANTHROPIC_SAYS)
}

/// As [`fake_openai`].
pub(crate) fn fake_gemini() -> Generate {
    gemini(GEMINI_KEY, GEMINI_SAYS)
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::at(Home::new())
    }

    /// One whose home can be searched for secrets: every guest is compiled in it.
    pub(crate) fn cold() -> Self {
        Self::at(Home::cold())
    }

    fn at(home: Home) -> Self {
        let ca = Ca::new();
        let openai = Upstream::https(&ca, &["api.openai.com"], fake_openai());
        let anthropic = Upstream::https(&ca, &["api.anthropic.com"], fake_anthropic());
        let gemini = Upstream::https(&ca, &["generativelanguage.googleapis.com"], fake_gemini());
        let config = Config::trusting(&ca, &home)
            .connect("api.openai.com:443", openai.address())
            .connect("api.anthropic.com:443", anthropic.address())
            .connect("generativelanguage.googleapis.com:443", gemini.address());
        home.configure(&config);
        Self { home, ca, openai, anthropic, gemini, config, server: OnceCell::new() }
    }

    /// Changes the configuration.
    pub(crate) fn configure(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(std::mem::take(&mut self.config));
        self.home.configure(&self.config);
    }

    /// `orch` in this home, without any key.
    pub(crate) fn orch<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Orch {
        orch(&self.home).args(args)
    }

    /// `orch run --local --json AGENT --input …`, without any key.
    pub(crate) fn run(&self, agent: &Agent, input: &str) -> Orch {
        self.run_in(Mode::Local, agent.path(), input)
    }

    /// `orch run --json AGENT --input …` in a mode, without any key. The agent is a folder or a name.
    pub(crate) fn run_in(&self, mode: Mode, agent: impl AsRef<std::ffi::OsStr>, input: &str) -> Orch {
        self.shown_in(mode, agent, input).arg("--json")
    }

    /// The same for a person: without `--json`.
    pub(crate) fn shown_in(&self, mode: Mode, agent: impl AsRef<std::ffi::OsStr>, input: &str) -> Orch {
        if matches!(mode, Mode::Served) {
            self.server.get_or_init(|| Server::start(PROGRAM, &self.home));
        }
        self.orch(["run"]).args(mode.flags()).arg(agent).args(["--input", input])
    }

    /// The same with a key of every provider in the environment.
    pub(crate) fn run_with_keys(&self, agent: &Agent, input: &str) -> Orch {
        with_keys(self.run(agent, input))
    }

    /// Stores a secret in the vault.
    #[track_caller]
    pub(crate) fn store(&self, name: &str, value: &str, flags: &[&str]) {
        self.orch(["secrets", "set", name, "-"]).args(flags).stdin(value).run().expect(0);
    }
}

/// A key of every provider in the environment.
pub(crate) fn with_keys(orch: Orch) -> Orch {
    orch.env("OPENAI_API_KEY", OPENAI_KEY)
        .env("ANTHROPIC_API_KEY", ANTHROPIC_KEY)
        .env("GEMINI_API_KEY", GEMINI_KEY)
}

/// The real binary in a home.
pub(crate) fn orch(home: &Home) -> Orch {
    Orch::new(PROGRAM, home)
}

/// The summarizer with a plan of its own.
pub(crate) fn summarizer(models: &[&str]) -> Agent {
    let fields = json!({
        "supported_providers": ["openai", "anthropic", "gemini", "ollama"],
        "llm": { "primary": models[0], "fallbacks": models[1..] },
    });
    Agent::new("summarizer", &guests::example("summarizer"), &fields)
}

/// A guest of the tests, with further manifest fields.
pub(crate) fn guest(name: &str, fields: &Value) -> Agent {
    Agent::new(name, &guests::guest(name), fields)
}

/// The only receipt of a run.
#[track_caller]
pub(crate) fn receipt(report: &Value) -> &Value {
    let calls = report["calls"].as_array().unwrap_or_else(|| panic!("no calls in {report:#}"));
    assert_eq!(calls.len(), 1, "{report:#}");
    &calls[0]
}

/// Which providers were tried, in order, and the class of each failure; `served` for the one that answered.
#[track_caller]
pub(crate) fn attempts(report: &Value) -> Vec<(String, String)> {
    let text =
        |value: &Value| value.as_str().unwrap_or_else(|| panic!("not a text in {report:#}")).to_owned();
    let attempts =
        receipt(report)["attempts"].as_array().unwrap_or_else(|| panic!("no attempts in {report:#}"));
    let class = |attempt: &Value| attempt.get("class").map_or_else(|| "served".to_owned(), text);
    attempts.iter().map(|a| (text(&a["provider"]), class(a))).collect()
}

/// Fails unless the run answered with this summary.
#[track_caller]
pub(crate) fn summary(outcome: Outcome, expected: &str) -> Value {
    let outcome = outcome.expect(0);
    let report = outcome.json();
    assert_eq!(report["output"]["summary"], expected, "{outcome}");
    report
}

/// Whether a request of the `wanderer` was refused: by an error, or by an answer that the proxy wrote.
pub(crate) fn refused(result: &Value) -> bool {
    let said = result["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
    result["error"].is_string() || said.is_some_and(|body| body["error"]["type"] == "egress_denied")
}

/// A path as an argument.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// A file outside of every home, so that what a test hands over is not found by its own search.
pub(crate) struct Outside(tempfile::TempDir);

impl Outside {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("orch-outside-").tempdir().expect("a temporary folder"))
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file in our own folder");
        path
    }
}
