//! The written form of the catalog and its reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, de};
use time::Date;
use time::macros::format_description;

mod proof;

use proof::{CheckEntry, EnvPartEntry, PagesEntry};

use super::{
    Auth, Catalog, CatalogError, Dialect, Embedding, InferencePath, Model, Price, PriceTier, Provider,
    Quirks, Task, Tool, Variant,
};
use crate::endpoint::Endpoint;
use crate::identity::Slug;
use crate::limits::MicroUsd;

/// Reads a catalog file.
pub(super) fn parse(text: &str) -> Result<Catalog, CatalogError> {
    let file: File = serde_yaml::from_str(text).map_err(|error| CatalogError::File(error.to_string()))?;
    let providers = file
        .providers
        .into_iter()
        .map(|entry| entry.into_provider().map(Arc::new))
        .collect::<Result<_, _>>()
        .map_err(CatalogError::File)?;
    Ok(Catalog { providers })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    providers: Vec<ProviderEntry>,
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
    #[serde(deserialize_with = "from_text")]
    dialect: Dialect,
    auth: AuthEntry,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    env: Vec<String>,
    key_pattern: Option<String>,
    inference: Vec<InferenceEntry>,
    models: Vec<ModelEntry>,
    #[serde(default)]
    local_only: bool,
    #[serde(default)]
    free: bool,
    quirks: QuirksEntry,
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
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).map_err(|error| format!("{name}: {error}"))?;
                Ok((header_name(name)?, value))
            })
            .collect::<Result<_, String>>()?;
        let inference = self
            .inference
            .into_iter()
            .map(|entry| InferencePath {
                method: entry.method,
                path: self.base_url.path(&entry.path),
                dialect: entry.dialect,
                task: match entry.task {
                    TaskEntry::Chat => Task::Chat,
                    TaskEntry::Embeddings => Task::Embeddings,
                },
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
            dialect: self.dialect,
            auth,
            headers,
            env: self.env,
            key_pattern: self.key_pattern,
            inference,
            models: self.models.into_iter().map(ModelEntry::into_model).collect(),
            model_patterns: Vec::new(),
            local_only: self.local_only,
            pinned: false,
            free: self.free,
            quirks: Quirks {
                max_completion_tokens: self.quirks.max_completion_tokens,
                max_tokens_required: self.quirks.max_tokens_required,
                stream_options: self.quirks.stream_options,
                no_done: self.quirks.no_done,
                code_assist: self.quirks.code_assist,
            },
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
struct QuirksEntry {
    #[serde(default)]
    max_completion_tokens: bool,
    #[serde(default)]
    max_tokens_required: bool,
    #[serde(default)]
    stream_options: bool,
    #[serde(default)]
    no_done: bool,
    #[serde(default)]
    code_assist: bool,
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
    #[serde(deserialize_with = "date")]
    as_of: Date,
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
            as_of: Some(self.as_of),
        }
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

/// Dollars. The shortest decimal text of the parsed number is the number that was written.
fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MicroUsd, D::Error> {
    f64::deserialize(deserializer)?.to_string().parse().map_err(de::Error::custom)
}

fn some_dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MicroUsd>, D::Error> {
    dollars(deserializer).map(Some)
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = String::deserialize(deserializer)?;
    Date::parse(&text, format_description!("[year]-[month]-[day]")).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_file_is_well_formed() {
        parse(include_str!("../../catalog.yaml")).unwrap();
    }

    #[test]
    fn a_broken_file_says_where() {
        let text = include_str!("../../catalog.yaml").replacen("max_output: 16384", "max_outptu: 16384", 1);
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains("providers[0].models[0]") && error.contains("max_outptu"), "{error}");
    }
}
