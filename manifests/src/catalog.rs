//! The provider catalog: data files, and what an operator adds to them.

mod check;
mod file;
mod operator;
mod place;
mod quirks;
mod region;
mod site;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use http::{HeaderName, HeaderValue, Method};
use time::Date;

pub use self::check::{Check, CheckPlace, CheckRequest, Meaning, Pages};
pub use self::operator::OperatorProvider;
pub use self::place::PlaceError;
pub use self::quirks::{Lack, Quirks, ReasoningField};
pub use self::site::{Site, Tool};
use crate::endpoint::{Endpoint, Host};
use crate::host::{HostName, HostPattern};
use crate::identity::Slug;
use crate::limits::MicroUsd;
use crate::text::quote;

/// The providers that are known: the built-in ones, changed and joined by the operator's.
///
/// Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Those that serve models.
    providers: Vec<Arc<Provider>>,
    /// Those that do not, and are called by agents themselves.
    others: Vec<Arc<Provider>>,
}

impl Catalog {
    /// The catalog that ships with the program.
    ///
    /// # Panics
    /// Never: the data is part of the program, and a test reads it.
    pub fn builtin() -> Self {
        static BUILTIN: LazyLock<Catalog> = LazyLock::new(|| {
            #[expect(clippy::expect_used, reason = "the data is compiled in, and a test reads it")]
            file::joined(include_str!(concat!(env!("OUT_DIR"), "/catalog.json"))).expect("a test has read it")
        });
        BUILTIN.clone()
    }

    /// The provider of models with this slug or alias.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers().find(|provider| provider.goes_by(name))
    }

    /// All providers of models: the built-in ones in the order of the catalog, then the operator's.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter().map(Arc::as_ref)
    }

    /// Everybody who has keys, or could have: the providers of models, then those that serve none.
    pub fn everybody(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter().chain(&self.others).map(Arc::as_ref)
    }

    /// As [`Catalog::provider`], whether it serves models or not.
    pub fn anybody(&self, name: &str) -> Option<&Provider> {
        self.everybody().find(|provider| provider.goes_by(name))
    }

    /// Providers that agents search the web with; some of them serve models as well.
    pub fn searchers(&self) -> impl Iterator<Item = &Provider> {
        self.everybody().filter(|provider| !provider.calls.is_empty())
    }

    /// The one of them with this slug or alias.
    pub fn searcher(&self, name: &str) -> Option<&Provider> {
        self.searchers().find(|provider| provider.goes_by(name))
    }

    /// The provider whose key goes by this name, if any; a further key has a number behind its name, as in
    /// `OPENAI_API_KEY_2`. Such names are the catalog's: a manifest cannot claim them.
    pub fn provider_of_key(&self, name: &str) -> Option<&Provider> {
        self.everybody().find(|provider| provider.takes_key(name))
    }

    /// This catalog, with the operator's providers: new ones, and built-in ones that are reached elsewhere.
    ///
    /// # Errors
    /// When an entry is incomplete, repeats another, or claims another provider's key.
    pub fn with_operator(&self, providers: Vec<OperatorProvider>) -> Result<Self, CatalogError> {
        operator::extend(self, providers)
    }
}

/// Why the catalog, or the operator's part of it, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A new provider lacks something that a built-in one would have brought along.
    #[error("provider `{provider}` is not built in{}, so it needs `{field}`", meant(.near.as_deref()))]
    Missing {
        /// Which provider.
        provider: Slug,
        /// The field of its configuration.
        field: &'static str,
        /// The name of a built-in one that may have been meant.
        near: Option<String>,
    },
    /// A built-in provider is to speak another dialect, and nothing says where.
    #[error("provider `{0}` is to speak a dialect in which nothing is known of it, so it needs `base_url`")]
    Elsewhere(Slug),
    /// The same provider is configured twice.
    #[error("provider `{0}` is configured twice")]
    Repeated(Slug),
    /// A key's name belongs to another provider, whose key would go to this one.
    #[error("provider `{provider}` cannot take `{env}`: that is the key of `{owner}`")]
    KeyOfAnother {
        /// Which provider asks.
        provider: Slug,
        /// The name of the key.
        env: String,
        /// Whose key it is.
        owner: Slug,
    },
    /// The name of a key is no variable name, or starts with `ORCH_`.
    #[error("provider `{provider}`: {} cannot name a key", quote(.env))]
    KeyName {
        /// Which provider.
        provider: Slug,
        /// The name.
        env: String,
    },
    /// A model pattern is empty or holds characters that no model name has.
    #[error("provider `{provider}`: {} is not a model or a pattern of models such as `llama-*`", quote(.pattern))]
    ModelPattern {
        /// Which provider.
        provider: Slug,
        /// The pattern.
        pattern: String,
    },
    /// A model has two prices, by two of its names.
    #[error("provider `{provider}`: {} has another price, by another name", quote(.model))]
    PricedTwice {
        /// Which provider.
        provider: Slug,
        /// The second name.
        model: String,
    },
    /// Configured as a provider of models, and it serves none.
    #[error("provider `{0}` serves no models, so that nothing can be configured of it")]
    NoModels(Slug),
    /// Not a dialect.
    #[error(
        "{} is not a dialect: use `openai`, `openai-responses`, `anthropic`, `gemini`, `cohere`, `ollama` or `bedrock`",
        quote(.0)
    )]
    Dialect(String),
    /// A data file is broken.
    #[error("the provider catalog is broken: {0}")]
    File(String),
}

fn meant(near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// A wire format for inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions, and whoever is compatible with them.
    OpenAiChat,
    /// OpenAI's responses.
    OpenAiResponses,
    /// Anthropic's messages.
    AnthropicMessages,
    /// Google's `generateContent` and `streamGenerateContent`.
    GeminiGenerateContent,
    /// Amazon Bedrock's `Converse` and `ConverseStream`; for vectors, `InvokeModel` with the body of the model's maker.
    BedrockConverse,
    /// Cohere's chat, version 2.
    CohereChat,
    /// Ollama's own chat.
    OllamaChat,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::AnthropicMessages,
        Self::GeminiGenerateContent,
        Self::CohereChat,
        Self::OllamaChat,
        Self::BedrockConverse,
    ];

    /// The dialect's name in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::AnthropicMessages => "anthropic-messages",
            Self::GeminiGenerateContent => "gemini-generate-content",
            Self::BedrockConverse => "bedrock-converse",
            Self::CohereChat => "cohere-chat",
            Self::OllamaChat => "ollama-chat",
        }
    }
}

impl FromStr for Dialect {
    type Err = CatalogError;

    /// Reads the catalog's names and the short ones of the configuration: `openai`, `openai-responses`, `anthropic`,
    /// `gemini`, `cohere`, `ollama` and `bedrock`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "openai-chat" | "openai" => Ok(Self::OpenAiChat),
            "openai-responses" => Ok(Self::OpenAiResponses),
            "anthropic-messages" | "anthropic" => Ok(Self::AnthropicMessages),
            "gemini-generate-content" | "gemini" => Ok(Self::GeminiGenerateContent),
            "bedrock-converse" | "bedrock" => Ok(Self::BedrockConverse),
            "cohere-chat" | "cohere" => Ok(Self::CohereChat),
            "ollama-chat" | "ollama" => Ok(Self::OllamaChat),
            other => Err(CatalogError::Dialect(other.into())),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a provider wants its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// There is no key.
    None,
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The key alone in this header.
    Header(HeaderName),
    /// `Authorization: Bearer KEY`, or a signature (AWS Signature Version 4) where the key is a JSON object of
    /// `accessKeyId`, `secretAccessKey`, `region` and, for temporary ones, `sessionToken`.
    Aws,
    /// `api-key: KEY`, where the key is a JSON object of `endpoint` and `apiKey`, and of `deploymentName` and `apiVersion`
    /// where there is more than one way to a model; or a plain key, where an operator says where the resource is.
    Azure,
    /// The same without deployments and versions.
    AzureFoundry,
    /// `Authorization: Bearer TOKEN`, with the token of another tool's credential file.
    TokenFile(Tool),
}

impl Auth {
    /// The header that the key stands in, and what stands before it; none where there is no key.
    pub fn header(&self) -> Option<(HeaderName, &'static str)> {
        match self {
            Self::None => None,
            Self::Bearer | Self::Aws | Self::TokenFile(_) => Some((http::header::AUTHORIZATION, "Bearer ")),
            Self::Header(name) => Some((name.clone(), "")),
            Self::Azure | Self::AzureFoundry => Some((HeaderName::from_static("api-key"), "")),
        }
    }
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name in manifests, on the command line and in receipts.
    pub slug: Slug,
    /// Its name for people.
    pub name: String,
    /// Other names that it goes by.
    pub aliases: Vec<Slug>,
    /// Names that stand for this provider and one of the further dialects that it speaks.
    pub variants: Vec<Variant>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// The region that its host's name holds, for providers that have one host for each; see [`Provider::in_region`].
    pub region: Option<String>,
    /// The hosts of its customers, of which a key names one; see [`Provider::at_endpoint`].
    pub hosts: Vec<HostPattern>,
    /// The query of every request, where a key has named a version of the API.
    pub query: Option<String>,
    /// What it speaks with whoever has no better reason for another; see [`Provider::spoken_with`]. It means nothing
    /// where `inference` is empty.
    pub dialect: Dialect,
    /// How it wants its key.
    pub auth: Auth,
    /// Headers that go with every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Names of its key: the first is the name in the vault, all are looked up in the environment in this order.
    pub env: Vec<String>,
    /// A regular expression that its keys match, for warnings and redaction only.
    pub key_pattern: Option<String>,
    /// The requests that its key is bound to.
    pub inference: Vec<InferencePath>,
    /// Requests that are no inference, which agents make themselves: web search.
    pub calls: Vec<Call>,
    /// Its models that are known. The provider may have others. Shared by all copies: there are hundreds.
    pub models: Arc<[Model]>,
    /// What the operator says that models of it cost, by the name that the provider is asked for.
    pub prices: Arc<BTreeMap<String, Price>>,
    /// Patterns of further model names that the operator says it has; `*` stands for any characters.
    pub model_patterns: Vec<String>,
    /// Only for local runs, or where the operator pinned it.
    pub local_only: bool,
    /// Whether the endpoint is the operator's: exactly this host and port become reachable for this provider.
    pub pinned: bool,
    /// Whether its models cost nothing, as a model server of one's own.
    pub free: bool,
    /// Whether it serves models of others, so that a bare model name never means it.
    pub hosts_others: bool,
    /// Where it differs from others of its dialect.
    pub quirks: Quirks,
    /// How its key is proven.
    pub check: Check,
    /// Where a person can do something about its key.
    pub pages: Pages,
    /// Names of variables that make up a key together, where the environment has no whole one.
    pub env_parts: Vec<EnvPart>,
    /// What is asked for in the place of a model, where the key names a deployment.
    pub deployment: Option<String>,
    /// The project that is billed, where the key names one (Google).
    pub project: Option<String>,
}

/// A variable of the environment that is a part of a provider's key; the key and its parts come from one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvPart {
    /// The field of the JSON credential that it fills.
    pub field: String,
    /// Its names, in the order in which they are looked up.
    pub names: Vec<String>,
    /// What is written around the value: `{}` stands for it.
    pub form: Option<String>,
    /// Whether there is no key without it.
    pub required: bool,
}

impl Provider {
    /// Whether this is the provider's slug, one of its aliases or one of its variants.
    pub fn goes_by(&self, name: &str) -> bool {
        self.slug.as_str() == name
            || self.aliases.iter().any(|alias| alias.as_str() == name)
            || self.named_dialect(name).is_some()
    }

    /// The dialect that a name of this provider asks for; `None` where the name says nothing of it.
    pub fn named_dialect(&self, name: &str) -> Option<Dialect> {
        self.variants.iter().find(|variant| variant.slug.as_str() == name).map(|variant| variant.dialect)
    }

    /// The host that guests may address; none where requests go to an address, or where an operator pinned it, which is for
    /// requests of the gateway alone.
    pub fn public_host(&self) -> Option<&HostName> {
        match &self.endpoint.host {
            Host::Name(host) if !self.pinned && !self.local_only && !self.needs_endpoint() => Some(host),
            _ => None,
        }
    }

    /// Whether it takes chat requests in this dialect.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.chats().any(|path| path.dialect == dialect)
    }

    fn chats(&self) -> impl Iterator<Item = &InferencePath> {
        self.inference.iter().filter(|path| path.task == Task::Chat)
    }

    /// In which dialect it is asked for embeddings for a client of `client`'s: the client's own where the provider knows it,
    /// else the provider's own, else any that it has. `None` for a provider that has no embeddings.
    pub fn embeds_with(&self, client: Dialect) -> Option<Dialect> {
        let has = |dialect: &Dialect| self.embeddings_path(*dialect, true).is_some();
        let any =
            || self.inference.iter().find(|path| path.task == Task::Embeddings).map(|path| path.dialect);
        [client, self.dialect].into_iter().find(has).or_else(any)
    }

    /// The request for embeddings that the gateway makes in a dialect. `alone`: for one input, which Gemini has a path of its
    /// own for.
    pub fn embeddings_path(&self, dialect: Dialect, alone: bool) -> Option<&InferencePath> {
        let fits = |path: &&InferencePath| {
            path.task == Task::Embeddings
                && path.dialect == dialect
                && (dialect != Dialect::GeminiGenerateContent
                    || path.path.ends_with(":embedContent") == alone)
        };
        self.inference.iter().find(fits)
    }

    /// What is spoken to it for a client of `client`'s dialect: the client's own where the provider knows it, because
    /// then nothing has to be translated.
    pub fn spoken_with(&self, client: Dialect) -> Dialect {
        if self.speaks(client) { client } else { self.dialect }
    }

    /// The known model with this id or alias.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == name || model.aliases.iter().any(|alias| alias == name))
    }

    /// What a model costs: what the operator says, or else the catalog. `None` when that is unknown.
    pub fn price(&self, model: &str) -> Option<Price> {
        let listed = || self.model(model).and_then(|model| model.price);
        self.own_price(model).or_else(listed).or_else(|| self.free.then_some(Price::FREE))
    }

    /// What the operator says that a model costs.
    pub fn own_price(&self, model: &str) -> Option<Price> {
        let id = self.model(model).map_or(model, |known| known.id.as_str());
        self.prices.get(id).copied()
    }

    /// The key's name in the vault; `None` when there is no key.
    pub fn key_name(&self) -> Option<&str> {
        self.env.first().map(String::as_str)
    }

    /// The inference request that the gateway makes for a whole answer or a stream: the first one in the provider's own
    /// dialect.
    pub fn inference_path(&self, stream: bool) -> Option<&InferencePath> {
        self.inference_path_in(self.dialect, stream)
    }

    /// The same in another dialect that it speaks.
    pub fn inference_path_in(&self, dialect: Dialect, stream: bool) -> Option<&InferencePath> {
        self.chats().find(|path| path.dialect == dialect && path.answers(stream))
    }
}

/// A name that stands for a provider and one of the dialects that it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The name.
    pub slug: Slug,
    /// What is spoken to the provider when it is called by this name.
    pub dialect: Dialect,
}

/// A request that a provider's key is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferencePath {
    /// The method.
    pub method: Method,
    /// The exact path on the host, base path included. Where the dialect names the model in the path, one `*` stands in
    /// its place.
    pub path: String,
    /// What is spoken there.
    pub dialect: Dialect,
    /// What is asked for there.
    pub task: Task,
    /// The path on the host in a version of the API that has a date, where that is another.
    pub dated: Option<String>,
    /// The names of the models whose requests these are, where the path is that of others as well: at Bedrock every maker's
    /// own body goes there, and only those of models that make vectors are known.
    pub models: Option<Arc<[String]>>,
}

/// A request that is no inference, and that a provider's key may go with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path on the host, base path included; `*` stands for one segment.
    pub path: String,
}

/// What an inference request asks a model for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// An answer.
    #[default]
    Chat,
    /// A vector for each input.
    Embeddings,
}

impl InferencePath {
    /// Whether this is the path of a request. `path` is canonical and without its query. A `*` stands for a plain model
    /// name: letters, digits, `.`, `_` and `-`, and no other separator in which a second method could hide. Where a slash
    /// ends the name (Bedrock), it may hold colons, too. Where the path is some models' only, it is the name of one of them.
    pub fn covers(&self, path: &str) -> bool {
        let Some((before, after)) = self.path.split_once('*') else { return self.path == path };
        let model = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        let Some(model) = model.filter(|model| !model.is_empty()) else { return false };
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !after.starts_with('/') {
            return plain(model);
        }
        let model = model.replace("%3A", ":");
        self.models.as_ref().is_none_or(|models| models.contains(&model)) && plain(&model.replace(':', ""))
    }

    /// Patterns of the paths that it covers: its own, or where that is some models' only, one for each spelling of each name.
    pub fn patterns(&self) -> Vec<String> {
        let Some(models) = &self.models else { return vec![self.path.clone()] };
        let mut names: Vec<String> = Vec::new();
        for model in models.iter() {
            for name in [model.clone(), model.replace(':', "%3A")] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.iter().map(|name| self.path.replacen('*', name, 1)).collect()
    }

    /// The models whose requests a path is, where it is not every model's: see [`InferencePath::models`].
    fn only(dialect: Dialect, task: Task, models: &[Model]) -> Option<Arc<[String]>> {
        let names = || {
            let embedding = models.iter().filter(|model| model.embedding.is_some());
            embedding.flat_map(|model| model.aliases.iter().chain([&model.id]).cloned()).collect()
        };
        (dialect == Dialect::BedrockConverse && task == Task::Embeddings).then(names)
    }

    /// Whether a path is this one, whatever stands in the place of the model: a request there is meant for this path even
    /// where that is no name of a model. Where the path is some models' only, it is others' as well, and these are asked for.
    /// `path` is canonical and without its query.
    pub fn is_at(&self, path: &str) -> bool {
        if self.models.is_some() {
            return self.covers(path);
        }
        let Some((before, after)) = self.path.split_once('*') else { return self.path == path };
        let model = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        model.is_some_and(|model| !model.contains('/'))
    }

    /// The path of a request for this model; `None` when the path names the model and this is no name that it can hold.
    /// Where a slash ends the name (Bedrock), names of resources with slashes are names as well, percent-encoded.
    pub fn for_model(&self, model: &str) -> Option<String> {
        match self.path.split_once('*') {
            Some((before, after)) if after.starts_with('/') => {
                Some(format!("{before}{}{after}", region::escaped_model(model)?))
            }
            _ => {
                let path = self.path.replacen('*', model, 1);
                self.covers(&path).then_some(path)
            }
        }
    }

    /// Whether whole answers, or streams, are to be had here. Gemini and Bedrock have a path for each; the other dialects
    /// have one path, and the body says which is wanted.
    fn answers(&self, stream: bool) -> bool {
        match self.dialect {
            Dialect::OpenAiChat
            | Dialect::OpenAiResponses
            | Dialect::AnthropicMessages
            | Dialect::CohereChat
            | Dialect::OllamaChat => true,
            Dialect::GeminiGenerateContent => self.path.ends_with(":streamGenerateContent") == stream,
            Dialect::BedrockConverse => self.path.ends_with("/converse-stream") == stream,
        }
    }
}

/// A model that the catalog knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name that the provider is asked for.
    pub id: String,
    /// Other names that people use for it.
    pub aliases: Vec<String>,
    /// Tokens of input and output together; of a model that makes vectors, tokens of one input.
    pub context: u64,
    /// Most tokens of output; none where it makes vectors.
    pub max_output: u64,
    /// Calls tools.
    pub tools: bool,
    /// Takes images.
    pub vision: bool,
    /// Keeps its output to a JSON Schema.
    pub json_schema: bool,
    /// Thinks before it answers, which costs output tokens; many such models refuse a temperature.
    pub reasoning: bool,
    /// Set for models that make vectors, and do not chat.
    pub embedding: Option<Embedding>,
    /// What it costs; `None` when unknown.
    pub price: Option<Price>,
}

/// What the vectors of a model are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedding {
    /// Numbers of a vector, unless the request asks for fewer.
    pub dimensions: u64,
    /// Whether a request may ask for fewer.
    pub shortens: bool,
}

/// Prices in millionths of a US dollar per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// For input.
    pub input_per_mtok: MicroUsd,
    /// For output, thinking included.
    pub output_per_mtok: MicroUsd,
    /// For input that the provider has in its cache; `None` when it costs the same.
    pub cached_input_per_mtok: Option<MicroUsd>,
    /// For input that is written to the cache; `None` when it costs the same.
    pub cache_write_per_mtok: Option<MicroUsd>,
    /// Dearer prices for long input.
    pub tier: Option<PriceTier>,
    /// The day on which these prices were published; `None` for what is free by nature.
    pub as_of: Option<Date>,
}

impl Price {
    /// What is free.
    pub const FREE: Self = Self {
        input_per_mtok: MicroUsd(0),
        output_per_mtok: MicroUsd(0),
        cached_input_per_mtok: None,
        cache_write_per_mtok: None,
        tier: None,
        as_of: None,
    };

    /// The cost of one call, rounded up, so that a cap errs on the side of the payer.
    ///
    /// `input_tokens` counts all input; `cached` and `cache_write` say how much of it came from the cache or was
    /// written to it.
    pub fn cost(&self, input_tokens: u64, cached: u64, cache_write: u64, output_tokens: u64) -> MicroUsd {
        let (input, output) = (input_tokens, output_tokens);
        self.cost_of(&PricedTokens { input, cached, cache_write, cache_write_1h: 0, output })
    }

    /// As [`Price::cost`], of all kinds of tokens.
    pub fn cost_of(&self, tokens: &PricedTokens) -> MicroUsd {
        let tier = self.tier.filter(|tier| tokens.input > tier.above_input_tokens);
        let (input, output, cached_price) = match tier {
            Some(tier) => (tier.input_per_mtok, tier.output_per_mtok, tier.cached_input_per_mtok),
            None => (self.input_per_mtok, self.output_per_mtok, self.cached_input_per_mtok),
        };
        let cached = tokens.cached.min(tokens.input);
        let written = tokens.cache_write.min(tokens.input - cached);
        let for_an_hour = tokens.cache_write_1h.min(written);
        let plain = tokens.input - cached - written;
        // In a tier the catalog gives no price for cache writes; the dearer of the two known ones stands in.
        let write_price = self.cache_write_per_mtok.map_or(input, |price| price.max(input));
        // Anthropic, who alone has two kinds of writes, asks twice the price of input for those of an hour.
        let hour_price = match self.cache_write_per_mtok {
            Some(_) => MicroUsd(input.micros().saturating_mul(2)).max(write_price),
            None => write_price,
        };
        let total: u128 = [
            (plain, input),
            (cached, cached_price.unwrap_or(input)),
            (written - for_an_hour, write_price),
            (for_an_hour, hour_price),
            (tokens.output, output),
        ]
        .iter()
        .map(|(tokens, price)| u128::from(*tokens) * u128::from(price.micros()))
        .sum();
        MicroUsd(u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

/// The tokens of a call, by what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PricedTokens {
    /// All input.
    pub input: u64,
    /// Of the input, what came from the provider's cache.
    pub cached: u64,
    /// Of the input, what was written to the cache.
    pub cache_write: u64,
    /// Of what was written, what is kept for an hour.
    pub cache_write_1h: u64,
    /// All output, thinking included.
    pub output: u64,
}

/// Prices that hold when the input is longer than a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceTier {
    /// The bound, in tokens of input.
    pub above_input_tokens: u64,
    /// For input.
    pub input_per_mtok: MicroUsd,
    /// For output.
    pub output_per_mtok: MicroUsd,
    /// For input that the provider has in its cache; `None` when it costs the same.
    pub cached_input_per_mtok: Option<MicroUsd>,
}

#[cfg(test)]
mod tests;
