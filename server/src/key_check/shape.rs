//! What a key looks like, judged before it is stored. A JSON credential that is none is refused, since it could never be
//! used; a key that only looks odd is stored, with a word about it.

use orch_manifests::{Auth, Catalog, Provider};
use orch_vault::Secret;
use regex::bytes::RegexBuilder;
use serde_json::Value;

use crate::credential::token_file::{self, FileReference};
use crate::credential::{Unusable, fields, usable};
use crate::failure::Failure;

/// Longest value whose shape is looked at. Keys are short, and expressions are not for free.
const LONGEST: usize = 4096;
/// Letters that a shape has to begin with to say for certain whose a key is: `sk-` is many people's, and `gsk_` one's.
const CERTAIN: usize = 4;

/// Judges a value that is to be a provider's key. Gives back what deserves a word.
///
/// # Errors
/// A JSON credential with a field that is missing, unknown or of another type, a place that is none of the provider's, or a
/// reference to a file, which only `--credential-file` makes. No value is in the words.
pub fn check_shape(
    catalog: &Catalog,
    provider: &Provider,
    name: &str,
    secret: &Secret,
) -> Result<Vec<String>, Failure> {
    if let Auth::TokenFile(tool) = &provider.auth {
        let named = FileReference::read(secret);
        if !matches!(named, Ok(None)) {
            return Err(Failure::usage(
                "secret_refused",
                format!("{name} names a credential file, which cannot be said in a value"),
            )
            .hint(format!(
                "orch secrets set {name} --credential-file PATH, on the machine that has the file"
            )));
        }
        let mut warnings = Vec::new();
        warnings.extend(tool.forbids().map(|why| format!("{why}: use an API key instead")));
        warnings.extend(tool.remark().map(str::to_owned));
        usable(provider, secret, false).map_err(|wrong| refused(name, provider, &wrong))?;
        return Ok(warnings);
    }
    match usable(provider, secret, false) {
        Ok(()) => {}
        // The vault says that itself, with what it takes of other secrets.
        Err(Unusable::Odd) if secret.expose(is_the_vaults) => {}
        Err(wrong) => return Err(refused(name, provider, &wrong)),
    }
    if secret.expose(fields::is_json) {
        return Ok(match provider.auth {
            Auth::Aws | Auth::Azure | Auth::AzureFoundry => Vec::new(),
            _ => {
                vec![format!("{name} looks like a JSON credential, and {} takes a plain key", provider.name)]
            }
        });
    }
    Ok(secret.expose(|bytes| looks(catalog, provider, name, bytes)).into_iter().collect())
}

/// Judges a reference to another tool's file, whose owner is at this machine: whether there is a token in it now.
///
/// # Errors
/// The provider takes no such file, or there is no token in it.
pub fn check_file(provider: &Provider, name: &str, secret: &Secret) -> Result<Vec<String>, Failure> {
    let Auth::TokenFile(tool) = &provider.auth else {
        return Err(Failure::usage(
            "bad_usage",
            format!("{name} is a plain key of {}, and no other tool's credential file", provider.name),
        )
        .hint(format!("orch secrets set {name} --from-file FILE")));
    };
    usable(provider, secret, true).map_err(|wrong| refused(name, provider, &wrong))?;
    Ok(tool.remark().map(str::to_owned).into_iter().collect())
}

/// Whether the vault refuses a value whoever it is for: nothing, blanks around it, and line breaks.
fn is_the_vaults(value: &[u8]) -> bool {
    let edges = [value.first(), value.last()];
    value.is_empty()
        || edges.iter().flatten().any(|edge| edge.is_ascii_whitespace())
        || value.iter().any(|byte| matches!(byte, b'\r' | b'\n'))
}

fn refused(name: &str, provider: &Provider, wrong: &Unusable) -> Failure {
    let failure = wrong.failure(&format!("the value of {name}"), provider);
    let told = Failure::usage("secret_refused", failure.message().to_owned()).detail("name", name);
    failure.hints().iter().cloned().fold(told, Failure::hint)
}

/// What is odd about a plain key, if anything is. The shape that says most about a key is the one that begins with the most
/// letters that are its own: `sk-ant-` is Anthropic's, although OpenAI's begin with `sk-`.
fn looks(catalog: &Catalog, provider: &Provider, name: &str, key: &[u8]) -> Option<String> {
    let own = provider.key_pattern.as_deref().map(|pattern| fits(pattern, key));
    let mut best: Option<(&Provider, usize)> = None;
    for other in catalog.everybody().filter(|other| other.slug != provider.slug) {
        let Some(length) = other.key_pattern.as_deref().and_then(|pattern| fits(pattern, key)) else {
            continue;
        };
        if best.is_none_or(|(_, longest)| length > longest) {
            best = Some((other, length));
        }
    }
    match (own, best) {
        // A beginning of under three letters is anybody's.
        (Some(Some(own)), Some((other, length))) if length > own && length >= 3 => {
            Some(looks_like(name, other))
        }
        (Some(Some(_)), _) => None,
        (_, Some((other, length))) if length >= 3 => Some(looks_like(name, other)),
        (Some(None), _) => Some(format!(
            "{name} does not look like a key of {}: check that it was copied whole, if calls fail",
            provider.name
        )),
        (None, _) => None,
    }
}

fn looks_like(name: &str, other: &Provider) -> String {
    let own = other.key_name().map(|own| format!(", which goes by {own}")).unwrap_or_default();
    format!("{name} looks like a key of {}{own}", other.name)
}

/// What stands in the place of a provider's key that is somebody else's for certain.
pub(crate) enum Misplaced {
    /// The key of another provider.
    Of(Box<Provider>),
    /// A JSON credential, where a plain key is wanted: all of it would travel.
    Json,
}

impl Misplaced {
    /// Judges a value by itself.
    pub(crate) fn judge(provider: &Provider, secret: &Secret) -> Option<Self> {
        let plain = matches!(provider.auth, Auth::Bearer | Auth::Header(_));
        if plain && secret.expose(fields::is_json) {
            return Some(Self::Json);
        }
        of_another(provider, secret).map(|other| Self::Of(Box::new(other)))
    }

    /// What it is.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Of(other) => format!("a key of {}", other.name),
            Self::Json => "a JSON credential".to_owned(),
        }
    }
}

/// Whose key this is for certain, where it is not this provider's: it has the whole shape of another one's, and begins with
/// letters that nobody else's begin with. Such a key goes nowhere, since whoever it is shown to has it. An operator's own
/// server, and a provider that an operator moved, may take anybody's.
fn of_another(provider: &Provider, secret: &Secret) -> Option<Provider> {
    let catalog = Catalog::builtin();
    let takes_anything = provider.pinned
        || matches!(provider.auth, Auth::None | Auth::TokenFile(_))
        || catalog.anybody(provider.slug.as_str()).is_none();
    if takes_anything || secret.expose(fields::is_json) {
        return None;
    }
    secret.expose(|key| {
        let fit = |of: &Provider| {
            of.key_pattern.as_deref().and_then(|pattern| fits(pattern, key)).unwrap_or_default()
        };
        let own = fit(provider);
        let others = catalog.everybody().filter(|other| other.slug != provider.slug);
        let (other, letters) = others.map(|other| (other, fit(other))).max_by_key(|(_, letters)| *letters)?;
        (letters >= CERTAIN && letters > own).then(|| other.clone())
    })
}

/// How many letters of its own a key begins with, of an expression that it fits.
fn fits(pattern: &str, key: &[u8]) -> Option<usize> {
    if key.len() > LONGEST {
        return None;
    }
    let literal =
        |text: &str| text.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).count();
    let parts = pattern.split('|').map(|part| part.trim_start_matches('('));
    let letters =
        parts.filter(|part| key.starts_with(&part.as_bytes()[..literal(part)])).map(literal).max()?;
    // Last, as it costs most.
    let whole =
        RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).size_limit(1 << 20).build().ok()?;
    whole.is_match(key).then_some(letters)
}

/// A JSON credential on one line, as no header and no row has line breaks; of another tool's credentials the token alone.
/// Anything else stays as it is.
#[must_use]
pub fn tidy(provider: &Provider, secret: Secret) -> Secret {
    match &provider.auth {
        Auth::TokenFile(tool) => token_file::pared(*tool, &secret).unwrap_or(secret),
        Auth::Aws | Auth::Azure | Auth::AzureFoundry if secret.expose(fields::is_json) => {
            let Ok(mut fields) = secret.expose(fields::object) else { return secret };
            let text = fields.iter().map(|(name, value)| format!("{}:{value}", Value::String(name.clone())));
            let text = zeroize::Zeroizing::new(format!("{{{}}}", text.collect::<Vec<_>>().join(",")));
            for (_, value) in &mut fields {
                fields::wipe(value);
            }
            Secret::new(text.as_bytes().to_vec())
        }
        _ => secret,
    }
}
