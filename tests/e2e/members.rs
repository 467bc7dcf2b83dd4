//! A server with members: providers that know several accounts, and tokens of several people.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use orch_tests::ca::Ca;
use orch_tests::fakes::Failure;
use orch_tests::fakes::anthropic::anthropic;
use orch_tests::fakes::openai::openai;
use orch_tests::home::{Config, Home};
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::server::{Answer, Server};
use orch_tests::upstream::{Host, Upstream};
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{ANTHROPIC_KEY, OPENAI_SAYS, PROGRAM, orch};

pub(crate) const ALICES: &str = "sk-proj-aliceQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3GcAl1C";
pub(crate) const ALICES_NEW: &str = "sk-proj-aliceNewZpLx4Vn8Rt2Ys6Hd1Kf9Bm3GcAl2N";
pub(crate) const BOBS: &str = "sk-proj-bobbyQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5B0b";
pub(crate) const TEAMS: &str = "sk-proj-teamsQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3GcT3am";
pub(crate) const PLATFORMS: &str = "sk-proj-platfQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3GcP1at";

/// Every key of OpenAI here.
pub(crate) const ALL: [&str; 5] = [ALICES, ALICES_NEW, BOBS, TEAMS, PLATFORMS];

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// OpenAI, where each of [`ALL`] is an account, until it is rejected.
#[derive(Clone, Default)]
pub(crate) struct Accounts {
    rejected: Arc<Mutex<BTreeSet<String>>>,
}

impl Accounts {
    /// The account is closed: its key is good for nothing any more.
    pub(crate) fn reject(&self, key: &str) {
        self.rejected.lock().expect("whole").insert(key.to_owned());
    }
}

/// The key that a request carries.
pub(crate) fn key_of(request: &Received) -> String {
    let said = request.header("authorization").unwrap_or_default();
    said.strip_prefix("Bearer ").unwrap_or(said).to_owned()
}

impl Host for Accounts {
    fn answer(&self, request: &Received) -> Reply {
        let key = key_of(request);
        let known = ALL.contains(&key.as_str()) && !self.rejected.lock().expect("whole").contains(&key);
        match known {
            // What a key is checked with.
            true if (request.method.as_str(), request.path.as_str()) == ("GET", "/v1/models") => {
                Reply::json(200, &json!({ "object": "list", "data": [] }))
            }
            true => openai(&key, OPENAI_SAYS).answer(request),
            false => openai("none", OPENAI_SAYS).failure(Failure::BadKey),
        }
    }
}

/// A server, and the providers that it asks.
pub(crate) struct Members {
    pub(crate) home: Home,
    pub(crate) accounts: Accounts,
    pub(crate) openai: Upstream,
    pub(crate) anthropic: Upstream,
    pub(crate) server: Server,
}

impl Members {
    /// A server of the usual configuration, with what `change` makes of it, in an environment.
    pub(crate) fn with(change: impl FnOnce(Config) -> Config, env: &[(&str, &str)]) -> Self {
        let (home, ca, accounts) = (Home::cold(), Ca::new(), Accounts::default());
        let openai = Upstream::https(&ca, &["api.openai.com"], accounts.clone());
        let anthropic = Upstream::https(&ca, &["api.anthropic.com"], anthropic(ANTHROPIC_KEY, "Hm."));
        let config = Config::trusting(&ca, &home)
            .connect("api.openai.com:443", openai.address())
            .connect("api.anthropic.com:443", anthropic.address());
        home.configure(&change(config));
        let program = env.iter().fold(Orch::new(PROGRAM, &home), |orch, (name, value)| orch.env(name, value));
        let server = Server::begin(program, &home, &[]);
        Self { home, accounts, openai, anthropic, server }
    }

    pub(crate) fn new() -> Self {
        Self::with(|config| config, &[])
    }

    /// A token of a member of a workspace.
    #[track_caller]
    pub(crate) fn token(&self, name: &str, workspace: &str, scopes: &[&str]) -> String {
        let body = json!({ "name": name, "scopes": scopes, "workspace": workspace });
        let made = self.server.ask("POST", "/v1/tokens", Some(&body)).expect(201).json();
        made["token"].as_str().expect("a token").to_owned()
    }

    /// A member who asks models and nothing else.
    #[track_caller]
    pub(crate) fn member(&self, name: &str) -> String {
        self.token(name, "default", &["llm"])
    }

    /// Stores a secret of the workspace of this token.
    #[track_caller]
    pub(crate) fn team_has(&self, token: &str, name: &str, key: &str) {
        let path = format!("/v1/secrets/{name}");
        self.server.ask_as(Some(token), "PUT", &path, Some(&json!({ "value": key }))).expect(200);
    }

    /// Registers a member's own key of OpenAI.
    #[track_caller]
    pub(crate) fn register(&self, token: &str, key: &str) -> Value {
        let body = json!({ "provider": "openai", "key": key });
        self.server.ask_as(Some(token), "POST", KEYS, Some(&body)).expect(200).json()
    }

    /// Asks OpenAI's small model for an answer.
    #[track_caller]
    pub(crate) fn chat(&self, token: &str, headers: &[(&str, &str)], more: Value) -> Answer {
        let mut body = json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Hi" }] });
        if let Value::Object(more) = more {
            body.as_object_mut().expect("an object").extend(more);
        }
        self.server.ask_with(token, ("POST", CHAT), headers, Some(&body))
    }

    /// Fails unless the call is answered with this key, and says whose it was.
    #[track_caller]
    pub(crate) fn served(&self, token: &str, headers: &[(&str, &str)], more: Value, key: &str, whose: &str) {
        let before = self.openai.received().len();
        let answer = self.chat(token, headers, more).expect(200);
        let received = self.openai.received();
        assert_eq!(received.len(), before + 1, "one request and no more");
        assert_eq!(key_of(&received[before]), key);
        let byok = if whose == "platform" { "false" } else { "true" };
        assert_eq!(
            (answer.header("x-orch-key-owner"), answer.header("x-orch-byok")),
            (Some(whose), Some(byok))
        );
        let receipt: Value =
            serde_json::from_str(answer.header("x-orch-receipt").expect("a receipt")).expect("JSON");
        assert_eq!(
            (&receipt["credential"]["whose"], &receipt["byok"]),
            (&json!(whose), &json!(whose != "platform"))
        );
    }

    /// Fails unless the call is refused with this status and code before any byte leaves.
    #[track_caller]
    pub(crate) fn refused(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        more: Value,
        expected: (u16, &str),
    ) -> Value {
        let before = self.openai.received().len() + self.anthropic.received().len();
        let answer = self.chat(token, headers, more).expect(expected.0).json();
        assert_eq!(answer["error"]["code"], expected.1, "{answer:#}");
        assert_eq!(self.openai.received().len() + self.anthropic.received().len(), before, "nothing leaves");
        answer["error"].clone()
    }

    /// Sets the policy of the workspace of this token.
    #[track_caller]
    pub(crate) fn policy(&self, token: &str, policy: &str) {
        let body = json!({ "policy": policy });
        let said = self.server.ask_as(Some(token), "PUT", "/v1/byok", Some(&body)).expect(200).json();
        assert_eq!((&said["policy"], &said["decided_by"]), (&json!(policy), &json!("workspace")));
    }

    /// A command on another machine, as who holds this token.
    pub(crate) fn elsewhere<'a>(
        &self,
        client: &Home,
        token: &str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Orch {
        orch(client).args(args).env("ORCH_SERVER", self.server.url()).env("ORCH_TOKEN", token)
    }
}

/// Where a member's own keys are.
pub(crate) const KEYS: &str = "/api/user/provider-keys";

/// The header that asks for a key of one's own.
pub(crate) const ASKS: (&str, &str) = ("x-use-byok", "true");
