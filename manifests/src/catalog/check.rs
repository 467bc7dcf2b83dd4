//! How a provider's key is proven without spending: which request is made, and how its answer is read.
//!
//! Providers differ in what proves a key. Some list their models to anybody, so that a list proves nothing; some answer
//! 403 to a key that is restricted and good; some say in a 200 that the key is blocked. The catalog says which is which,
//! and the gateway's `check` module asks.

use std::collections::BTreeMap;

use http::Method;

use super::{Auth, Dialect, InferencePath, Provider, Task};
use crate::endpoint::Endpoint;

/// How a key is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// No request proves a key and costs nothing, and why.
    Impossible(String),
    /// This request does.
    Asks(CheckRequest),
}

/// The request that proves a key, and what its answers mean beyond what every error of providers means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRequest {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub place: CheckPlace,
    /// The body, as JSON.
    pub body: Option<String>,
    /// What an answer means, by its status or by the code in it. Codes go before statuses.
    pub means: BTreeMap<String, Meaning>,
    /// Fields of a 200 of which a true one says that the key is blocked.
    pub blocked: Vec<String>,
    /// Whether the provider may give the same answer to anybody: then a made-up key is sent as well, and an answer that
    /// is good for both proves nothing.
    pub control: bool,
}

/// Where the request of a check goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckPlace {
    /// This path below the provider's base URL.
    Below(String),
    /// This path on the provider's host.
    On(String),
    /// This path on another host of the provider's. Where an operator moved the provider, its check stays with it.
    At(Endpoint, String),
}

/// What an answer says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It is good.
    Valid,
    /// It is good, and not for everything.
    Restricted,
    /// It is good, and nothing is left to spend.
    OutOfMoney,
    /// It is good, and was used too often just now.
    RateLimited,
    /// It is none.
    Invalid,
    /// It was one.
    Revoked,
}

impl Provider {
    /// Where the request of its check goes: the endpoint, and the path with its query.
    pub fn check_target(&self, check: &CheckRequest) -> (Endpoint, String) {
        match &check.place {
            CheckPlace::Below(path) => (self.endpoint.clone(), self.endpoint.path(path)),
            CheckPlace::On(path) => (self.endpoint.clone(), path.clone()),
            CheckPlace::At(endpoint, path) if !self.pinned => (endpoint.clone(), path.clone()),
            CheckPlace::At(_, path) => (self.endpoint.clone(), self.endpoint.path(path)),
        }
    }
}

/// The check of an operator's own server of a dialect: a list of models, where dialects have one. Nobody promised that the
/// list is not everybody's, so a made-up key is sent as well.
pub(super) fn of_dialect(auth: &Auth, dialect: Dialect, inference: &[InferencePath]) -> Check {
    let unknown =
        || Check::Impossible("it is a server of the operator's own, whose check is not known".to_owned());
    if *auth == Auth::None {
        return Check::Impossible("it takes no key".to_owned());
    }
    let chats = |path: &&InferencePath| path.task == Task::Chat && path.dialect == dialect;
    let Some(chat) = inference.iter().find(chats) else { return unknown() };
    let ends = ["/chat/completions", "/responses", "/messages"];
    match ends.iter().find_map(|end| chat.path.strip_suffix(end)) {
        Some(base) => Check::Asks(CheckRequest {
            method: Method::GET,
            place: CheckPlace::On(format!("{base}/models")),
            body: None,
            means: BTreeMap::new(),
            blocked: Vec::new(),
            control: true,
        }),
        None => unknown(),
    }
}

/// Pages of a provider where a person can do something about a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Where keys are made and taken back.
    pub keys: Option<String>,
    /// Where money is paid in, and limits are raised.
    pub billing: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalog, OperatorProvider};

    #[test]
    fn a_check_stays_with_a_provider_that_an_operator_moved() {
        let entry = OperatorProvider {
            slug: "openrouter".parse().unwrap(),
            dialect: None,
            base_url: Some("https://127.0.0.1:8443".parse().unwrap()),
            env: Vec::new(),
            models: Vec::new(),
            free: false,
        };
        let builtin = Catalog::builtin();
        let moved = builtin.with_operator(vec![entry]).unwrap();
        let target = |catalog: &Catalog| {
            let provider = catalog.provider("openrouter").unwrap();
            let Check::Asks(check) = &provider.check else { panic!("openrouter has a check") };
            let (endpoint, path) = provider.check_target(check);
            (endpoint.authority(), path)
        };
        assert_eq!(target(&builtin), ("openrouter.ai".to_owned(), "/api/v1/key".to_owned()));
        assert_eq!(target(&moved), ("127.0.0.1:8443".to_owned(), "/api/v1/key".to_owned()));
    }

    #[test]
    fn every_provider_says_how_its_key_is_proven_or_why_it_is_not() {
        for provider in Catalog::builtin().providers() {
            match &provider.check {
                Check::Impossible(why) => assert!(why.len() > 10, "{}: {why}", provider.slug),
                Check::Asks(check) => {
                    let (_, path) = provider.check_target(check);
                    assert!(path.starts_with('/'), "{}: {path}", provider.slug);
                    // A check that spends would be an inference; only a model that is none may be asked for.
                    let inference = provider.inference.iter().any(|own| own.covers(&path));
                    let spends =
                        inference && check.body.as_ref().is_none_or(|body| !body.contains("invalid-model"));
                    assert!(!spends || provider.slug.as_str() == "vercel", "{}", provider.slug);
                    assert_eq!(check.method == Method::POST, check.body.is_some(), "{}", provider.slug);
                }
            }
            if provider.auth != Auth::None && !provider.local_only {
                assert!(provider.pages.keys.is_some(), "{}: no page where keys are made", provider.slug);
            }
        }
    }
}
