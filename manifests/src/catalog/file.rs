//! The written form of the catalog and its reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, de};
use time::{Date, Month};

mod proof;

use proof::{CheckEntry, EnvPartEntry, PagesEntry};

use super::{
    Auth, Call, Catalog, CatalogError, Dialect, Embedding, InferencePath, Model, Price, PriceTier, Provider,
    Quirks, Task, Tool, Variant,
};
use crate::endpoint::Endpoint;
use crate::host::HostPattern;
use crate::identity::Slug;
use crate::limits::MicroUsd;

/// Reads the entries of all files, as the build has joined them.
pub(super) fn joined(text: &str) -> Result<Catalog, CatalogError> {
    let entries: Vec<ProviderEntry> =
        serde_json::from_str(text).map_err(|error| CatalogError::File(error.to_string()))?;
    let all: Vec<Arc<Provider>> = entries
        .into_iter()
        .map(|entry| entry.into_provider().map(Arc::new))
        .collect::<Result<_, _>>()
        .map_err(CatalogError::File)?;
    let (providers, others) = all.into_iter().partition(|provider| !provider.inference.is_empty());
    Ok(Catalog { providers, others })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    slug: Slug,
    name: String,
    #[serde(default)]
    aliases: Vec<Slug>,
    #[serde(default)]
    variants: BTreeMap<Slug, String>,
    base_url: Endpoint,
    region: Option<String>,
    #[serde(default)]
    hosts: Vec<HostPattern>,
    /// Left out where there is no `inference`.
    #[serde(default, deserialize_with = "some_from_text")]
    dialect: Option<Dialect>,
    auth: AuthEntry,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    env: Vec<String>,
    key_pattern: Option<String>,
    #[serde(default)]
    inference: Vec<InferenceEntry>,
    #[serde(default)]
    calls: Vec<CallEntry>,
    #[serde(default)]
    models: Vec<ModelEntry>,
    #[serde(default)]
    local_only: bool,
    #[serde(default)]
    free: bool,
    #[serde(default)]
    hosts_others: bool,
    #[serde(default)]
    quirks: Quirks,
    check: Option<CheckEntry>,
    #[serde(default)]
    pages: PagesEntry,
    #[serde(default)]
    env_parts: Vec<EnvPartEntry>,
}

impl ProviderEntry {
    fn into_provider(self) -> Result<Provider, String> {
        let auth = match self.auth {
            AuthEntry::Word(AuthWord::None) => Auth::None,
            AuthEntry::Word(AuthWord::Bearer) => Auth::Bearer,
            AuthEntry::Word(AuthWord::Aws) => Auth::Aws,
            AuthEntry::Word(AuthWord::Azure) => Auth::Azure,
            AuthEntry::Word(AuthWord::AzureFoundry) => Auth::AzureFoundry,
            AuthEntry::Header { header } => Auth::Header(header_name(&header)?),
            AuthEntry::TokenFile { token_file } => Auth::TokenFile(token_file),
        };
        let dialect = match (self.dialect, self.inference.is_empty()) {
            (Some(dialect), false) => dialect,
            (None, true) => Dialect::OpenAiChat,
            (Some(_), true) => return Err(format!("{}: it has a dialect and no inference", self.slug)),
            (None, false) => return Err(format!("{}: it has inference and no dialect", self.slug)),
        };
        let call = |entry: CallEntry| Call { method: entry.method, path: self.base_url.path(&entry.path) };
        let calls = self.calls.into_iter().map(call).collect();
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).map_err(|error| format!("{name}: {error}"))?;
                Ok((header_name(name)?, value))
            })
            .collect::<Result<_, String>>()?;
        let models: Arc<[Model]> = self.models.into_iter().map(ModelEntry::into_model).collect();
        let inference = self
            .inference
            .into_iter()
            .map(|entry| {
                let task = match entry.task {
                    TaskEntry::Chat => Task::Chat,
                    TaskEntry::Embeddings => Task::Embeddings,
                };
                InferencePath {
                    method: entry.method,
                    path: self.base_url.path(&entry.path),
                    dialect: entry.dialect,
                    task,
                    dated: entry.dated,
                    models: InferencePath::only(entry.dialect, task, &models),
                }
            })
            .collect();
        let variant = |(slug, dialect): (Slug, String)| {
            let dialect = dialect.parse().map_err(|error| format!("{slug}: {error}"))?;
            Ok(Variant { slug, dialect })
        };
        Ok(Provider {
            slug: self.slug,
            name: self.name,
            aliases: self.aliases,
            variants: self.variants.into_iter().map(variant).collect::<Result<_, String>>()?,
            endpoint: self.base_url,
            region: self.region,
            hosts: self.hosts,
            query: None,
            dialect,
            auth,
            headers,
            env: self.env,
            key_pattern: self.key_pattern,
            inference,
            calls,
            models,
            prices: Arc::default(),
            model_patterns: Vec::new(),
            local_only: self.local_only,
            pinned: false,
            free: self.free,
            hosts_others: self.hosts_others,
            quirks: self.quirks,
            check: CheckEntry::or_unknown(self.check)?,
            pages: self.pages.into_pages(),
            env_parts: self.env_parts.into_iter().map(EnvPartEntry::into_part).collect(),
            deployment: None,
            project: None,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum AuthEntry {
    Word(AuthWord),
    Header {
        header: String,
    },
    TokenFile {
        #[serde(deserialize_with = "from_text")]
        token_file: Tool,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AuthWord {
    None,
    Bearer,
    Aws,
    Azure,
    AzureFoundry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InferenceEntry {
    #[serde(deserialize_with = "from_text")]
    method: Method,
    path: String,
    #[serde(deserialize_with = "from_text")]
    dialect: Dialect,
    #[serde(default)]
    task: TaskEntry,
    dated: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallEntry {
    #[serde(deserialize_with = "from_text")]
    method: Method,
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum TaskEntry {
    #[default]
    Chat,
    Embeddings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    context: u64,
    /// Left out where `embedding` stands.
    #[serde(default)]
    max_output: u64,
    #[serde(default)]
    can: Vec<Ability>,
    embedding: Option<EmbeddingEntry>,
    price: Option<PriceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddingEntry {
    dimensions: u64,
    #[serde(default)]
    shortens: bool,
}

impl ModelEntry {
    fn into_model(self) -> Model {
        let can = |ability| self.can.contains(&ability);
        Model {
            tools: can(Ability::Tools),
            vision: can(Ability::Vision),
            json_schema: can(Ability::JsonSchema),
            reasoning: can(Ability::Reasoning),
            embedding: self
                .embedding
                .map(|entry| Embedding { dimensions: entry.dimensions, shortens: entry.shortens }),
            price: self.price.map(PriceEntry::into_price),
            id: self.id,
            aliases: self.aliases,
            context: self.context,
            max_output: self.max_output,
        }
    }
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Ability {
    Tools,
    Vision,
    JsonSchema,
    Reasoning,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceEntry {
    #[serde(deserialize_with = "dollars")]
    input: MicroUsd,
    /// Left out where there is none: vectors cost what their input does.
    #[serde(default, deserialize_with = "some_dollars")]
    output: Option<MicroUsd>,
    #[serde(default, deserialize_with = "some_dollars")]
    cached_input: Option<MicroUsd>,
    #[serde(default, deserialize_with = "some_dollars")]
    cache_write: Option<MicroUsd>,
    /// Left out by operators alone, of whose prices nobody else has published anything.
    #[serde(default, deserialize_with = "some_date")]
    as_of: Option<Date>,
    tier: Option<TierEntry>,
}

impl PriceEntry {
    fn into_price(self) -> Price {
        Price {
            input_per_mtok: self.input,
            output_per_mtok: self.output.unwrap_or(MicroUsd(0)),
            cached_input_per_mtok: self.cached_input,
            cache_write_per_mtok: self.cache_write,
            tier: self.tier.map(|tier| PriceTier {
                above_input_tokens: tier.above_input_tokens,
                input_per_mtok: tier.input,
                output_per_mtok: tier.output,
                cached_input_per_mtok: tier.cached_input,
            }),
            as_of: self.as_of,
        }
    }
}

/// As the operator writes it, in the form of the catalog's files.
impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entry = PriceEntry::deserialize(deserializer)?;
        if entry.output.is_none() {
            return Err(de::Error::custom("output is missing; it is 0 for models that make vectors"));
        }
        let price = entry.into_price();
        // What is set aside for a call is the price of plain input, and of long input for what is counted as long.
        let dearer_cached =
            |cached: Option<MicroUsd>, input: MicroUsd| cached.is_some_and(|cached| cached > input);
        if dearer_cached(price.cached_input_per_mtok, price.input_per_mtok) {
            return Err(de::Error::custom("cached_input is more than input"));
        }
        if let Some(tier) = price.tier {
            if dearer_cached(tier.cached_input_per_mtok, tier.input_per_mtok) {
                return Err(de::Error::custom("tier.cached_input is more than tier.input"));
            }
            if tier.input_per_mtok < price.input_per_mtok || tier.output_per_mtok < price.output_per_mtok {
                return Err(de::Error::custom("tier: long input costs no less than other input"));
            }
        }
        Ok(price)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierEntry {
    above_input_tokens: u64,
    #[serde(deserialize_with = "dollars")]
    input: MicroUsd,
    #[serde(deserialize_with = "dollars")]
    output: MicroUsd,
    #[serde(default, deserialize_with = "some_dollars")]
    cached_input: Option<MicroUsd>,
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|error| format!("{text}: {error}"))
}

fn from_text<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn some_from_text<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    from_text(deserializer).map(Some)
}

/// Dollars with at most six decimals, of which there are so many that they are not read as text.
fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MicroUsd, D::Error> {
    let dollars = f64::deserialize(deserializer)?;
    let micros = (dollars * 1e6).round();
    if !(0.0..1e12).contains(&micros) || (dollars * 1e6 - micros).abs() > 1e-3 {
        return Err(de::Error::custom(format!(
            "{dollars} is no amount in dollars with at most six decimals"
        )));
    }
    Ok(MicroUsd(micros as u64))
}

fn some_dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MicroUsd>, D::Error> {
    dollars(deserializer).map(Some)
}

fn some_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    date(deserializer).map(Some)
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut parts = text.splitn(3, '-');
    let mut next = |digits: usize| parts.next().filter(|part| part.len() == digits);
    let (year, month, day) = (next(4), next(2), next(2));
    let date = || {
        let month = Month::try_from(month?.parse::<u8>().ok()?).ok()?;
        Date::from_calendar_date(year?.parse().ok()?, month, day?.parse().ok()?).ok()
    };
    date().ok_or_else(|| de::Error::custom(format!("{text:?} is no date such as 2026-07-02")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// Reads one file as it is written, so that an error names its line.
    fn read(path: &str, text: &str) -> Result<Provider, String> {
        let entry: ProviderEntry = serde_yaml::from_str(text).map_err(|error| format!("{path}: {error}"))?;
        entry.into_provider().map_err(|error| format!("{path}: {error}"))
    }

    fn file(slug: &str) -> (String, String) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("catalog/{slug}.yaml"));
        (format!("catalog/{slug}.yaml"), fs::read_to_string(path).unwrap())
    }

    #[test]
    fn every_file_is_well_formed_and_says_the_same_once_it_is_joined() {
        let catalog = Catalog::builtin();
        for provider in catalog.everybody() {
            let (path, text) = file(provider.slug.as_str());
            assert_eq!(read(&path, &text).unwrap_or_else(|error| panic!("{error}")), *provider);
        }
        assert!(catalog.everybody().count() > 30);
    }

    #[test]
    fn a_broken_file_says_where() {
        let (path, text) = file("openai");
        let line = 1 + text.lines().position(|line| line.contains("max_output: 16384")).unwrap();
        let broken = text.replacen("max_output: 16384", "max_outptu: 16384", 1);
        let error = read(&path, &broken).unwrap_err();
        assert!(error.starts_with("catalog/openai.yaml: ") && error.contains("max_outptu"), "{error}");
        assert!(error.contains("models[0]") && error.contains(&format!("line {line} ")), "{error}");
        for (from, to, why) in [
            ("auth: bearer", "auth: barer", "did not match any variant"),
            ("dialect: openai-chat\n", "dialect: openai-chatt\n", "`openai-chatt` is not a dialect"),
            ("stream_options: true", "stream_options: true, lacks: [wings]", "wings"),
            ("input: 2.5,", "input: 2.50000001,", "six decimals"),
            ("as_of: 2026-07-02", "as_of: 2026-02-30", "is no date"),
        ] {
            let error = read(&path, &text.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with("catalog/openai.yaml: ") && error.contains(why), "{error}");
        }
        let (path, text) = file("tavily");
        let error = read(&path, &format!("{text}dialect: openai-chat\n")).unwrap_err();
        assert_eq!(error, "catalog/tavily.yaml: tavily: it has a dialect and no inference");
    }
}
