//! A key as its provider reads it: some are JSON that names more than the key, and some stand for another tool's file.

use std::sync::Arc;

use http::request::Parts;
use orch_manifests::{Auth, Endpoint, Host, Site};
use orch_proxy::{AuthorizeError, Scrubber};
use orch_vault::Secret;

use super::azure::{self, AzureKey};
use super::fields;
use super::token_file::{NoToken, Token};
use crate::aws::{self, AwsKey};

/// What a key turned out to be.
pub(crate) enum Shaped {
    /// It travels as it is.
    Plain,
    /// It signs, and does not travel.
    Signs(AwsKey),
    /// It names a resource, and a part of it travels.
    Resource(AzureKey),
    /// It stands for a token.
    Token(Token),
}

/// Why a key cannot be read.
#[derive(Debug)]
pub(crate) enum Misshaped {
    /// A JSON credential that is none.
    Json(String),
    /// Another tool's credentials.
    Token(NoToken),
}

impl Misshaped {
    /// In words for a person, without a value.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Json(why) => why.clone(),
            Self::Token(none) => none.why.clone(),
        }
    }
}

impl Shaped {
    /// Reads a key. `refers`: whether it may name a file.
    pub(crate) fn read(auth: &Auth, secret: &Secret, refers: bool) -> Result<Self, Misshaped> {
        Ok(match auth {
            Auth::None | Auth::Bearer | Auth::Header(_) => Self::Plain,
            Auth::Aws => AwsKey::read(secret).map_err(Misshaped::Json)?.map_or(Self::Plain, Self::Signs),
            Auth::Azure | Auth::AzureFoundry => {
                AzureKey::read(auth, secret).map_err(Misshaped::Json)?.map_or(Self::Plain, Self::Resource)
            }
            Auth::TokenFile(tool) => {
                Token::now(*tool, secret, refers).map_err(Misshaped::Token)?.map_or(Self::Plain, Self::Token)
            }
        })
    }

    /// The place that it names.
    pub(crate) fn site(&self) -> Option<Site> {
        match self {
            Self::Plain => None,
            Self::Signs(key) => Some(key.site()),
            Self::Resource(key) => Some(key.site()),
            Self::Token(token) => token.site(),
        }
    }

    /// The part of it that travels; none where all of it does, or none.
    pub(crate) fn part(&self) -> Option<&[u8]> {
        match self {
            Self::Plain | Self::Signs(_) => None,
            Self::Resource(key) => Some(key.value()),
            Self::Token(token) => Some(token.value()),
        }
    }

    /// Whether it may go to an endpoint that no operator pinned: the one that it names, where it names one.
    pub(crate) fn check_place(&self, endpoint: &Endpoint) -> Result<(), AuthorizeError> {
        let host = match self {
            // Which checks that itself.
            Self::Plain | Self::Signs(_) => return Ok(()),
            Self::Resource(key) => match key.site() {
                Site::Resource { endpoint, .. } => endpoint.parse::<Endpoint>().ok().map(|named| named.host),
                _ => None,
            },
            Self::Token(token) => match token.host() {
                None => return Ok(()),
                Some(host) => host.parse().ok().map(Host::Name),
            },
        };
        let https = endpoint.scheme == orch_manifests::Scheme::Https && endpoint.port == 443;
        match host == Some(endpoint.host.clone()) && https {
            true => Ok(()),
            false => {
                Err(AuthorizeError::Unfit("it names another host than the one that was asked for".into()))
            }
        }
    }

    /// Signs a request, if it signs.
    pub(crate) fn sign(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        endpoint: &Endpoint,
        pinned: bool,
    ) -> Option<Result<(), AuthorizeError>> {
        let Self::Signs(key) = self else { return None };
        Some(key.sign(parts, body, endpoint, pinned))
    }
}

/// What finds the part of a JSON credential that is seen, by how its provider wants it.
#[derive(Default)]
pub(crate) struct Parted {
    signs: Option<Arc<Scrubber>>,
    resource: Option<Arc<Scrubber>>,
}

impl Parted {
    pub(crate) fn of(secret: &Secret) -> Self {
        if !secret.expose(fields::is_json) {
            return Self::default();
        }
        Self { signs: aws::scrubber(secret), resource: azure::scrubber(secret) }
    }

    /// What finds it where the key is used in this way; none where all of the value travels.
    pub(crate) fn scrubber(&self, auth: &Auth) -> Option<&Arc<Scrubber>> {
        match auth {
            Auth::Aws => self.signs.as_ref(),
            Auth::Azure | Auth::AzureFoundry => self.resource.as_ref(),
            Auth::None | Auth::Bearer | Auth::Header(_) | Auth::TokenFile(_) => None,
        }
    }
}
