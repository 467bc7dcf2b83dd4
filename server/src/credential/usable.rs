//! Whether a value can be a provider's key at all, judged by itself: nothing is sent for that.

use orch_manifests::{Auth, Provider};
use orch_vault::Secret;

use super::shaped::{Misshaped, Shaped};
use crate::failure::{Failure, Kind};

/// Why a value cannot be a provider's key.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// No header can carry it.
    Odd,
    /// It cannot be read as what it has to be.
    Misshaped(Misshaped),
    /// The place that it names is none of the provider's.
    Place(String),
    /// It does not say where the customer's resource is.
    NoPlace,
}

/// Whether a value can be this provider's key. `refers`: whether it may name a file of another tool.
pub(crate) fn usable(provider: &Provider, secret: &Secret, refers: bool) -> Result<(), Unusable> {
    let shaped = Shaped::read(&provider.auth, secret, refers).map_err(Unusable::Misshaped)?;
    match shaped.site() {
        Some(site) => provider.at(&site).map(drop).map_err(Unusable::Place)?,
        None if provider.needs_endpoint() => return Err(Unusable::NoPlace),
        None => {}
    }
    if matches!(shaped, Shaped::Plain) && is_odd(secret) { Err(Unusable::Odd) } else { Ok(()) }
}

/// Whether this is no key of anybody's, as it stands: empty, or with blanks, other characters that no key has, or the quotes
/// of a shell or a file around it.
pub(crate) fn is_odd(secret: &Secret) -> bool {
    secret.expose(|bytes| {
        let quoted = match bytes {
            [first, .., last] => first == last && b"\"'`".contains(first),
            _ => false,
        };
        bytes.is_empty() || quoted || !bytes.iter().all(|b| (0x21..=0x7e).contains(b))
    })
}

impl Unusable {
    /// What is wrong, in words that begin with a verb.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Odd => {
                "is empty, stands in quotes, or holds blanks, line breaks or other characters that no key has"
                    .to_owned()
            }
            Self::Misshaped(wrong) => format!("cannot be used: {}", wrong.why()),
            Self::Place(why) => format!("cannot be used: {why}"),
            Self::NoPlace => "does not say which resource it is for".to_owned(),
        }
    }

    /// As a failure; `what` names the key and where it comes from.
    pub(crate) fn failure(&self, what: &str, provider: &Provider) -> Failure {
        let failure = Failure::new(Kind::NoKey, "key_unusable", format!("{what} {}", self.why()));
        match self {
            Self::Odd => failure.hint("copy the key again, without quotes and blanks around it"),
            Self::Misshaped(Misshaped::Token(none)) => failure.hint(none.hint.clone()),
            Self::Misshaped(Misshaped::Json(_)) | Self::Place(_) | Self::NoPlace => {
                match example(&provider.auth) {
                    Some(example) => failure.hint(format!("give {example}")),
                    None => failure,
                }
            }
        }
    }
}

/// What a JSON credential looks like.
pub(crate) fn example(auth: &Auth) -> Option<&'static str> {
    match auth {
        Auth::Aws => Some(
            r#"{"accessKeyId":"…","secretAccessKey":"…","region":"eu-central-1"}, or a Bedrock API key as it is"#,
        ),
        Auth::Azure => Some(
            r#"{"endpoint":"https://RESOURCE.openai.azure.com","apiKey":"…"}, and deploymentName and apiVersion where you need them"#,
        ),
        Auth::AzureFoundry => Some(
            r#"{"endpoint":"https://RESOURCE.services.ai.azure.com","apiKey":"…"}, and deploymentName where you need it"#,
        ),
        Auth::None | Auth::Bearer | Auth::Header(_) | Auth::TokenFile(_) => None,
    }
}
