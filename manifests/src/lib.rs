//! Agent manifests, host patterns and the provider catalog.
//!
//! The leaf crate of the workspace: it turns what people write (an `orch.yaml`, a host, a path pattern, a limit, a
//! model name) into types that hold only valid values, and carries the provider catalog as data. It does no network
//! I/O, reads no environment and makes no policy decision; it only reads the manifest file it is pointed at.
//!
//! Start at [`Manifest::parse`], then [`HostPattern`] and [`PathGlob`] for what egress rules are made of, and
//! [`Catalog`] with [`resolve_model`] for how a model name becomes a provider.

mod catalog;
mod endpoint;
mod guest_path;
mod host;
mod identity;
mod limits;
mod manifest;
mod path;
mod resolve;
mod routes;
mod server_tools;
mod text;
mod whose;

pub use catalog::{
    Auth, Call, Catalog, CatalogError, Check, CheckPlace, CheckRequest, Dialect, Embedding, EnvPart,
    InferencePath, Lack, Meaning, Model, OperatorProvider, Pages, PlaceError, Price, PriceTier, PricedTokens,
    Provider, Quirks, ReasoningField, Site, Task, Tool, Variant,
};
pub use endpoint::{Endpoint, EndpointError, Host, Scheme};
pub use guest_path::{GuestPathError, parse_guest_path};
pub use host::{HostError, HostName, HostPattern};
pub use identity::{
    AgentName, AgentRef, AgentVersionReq, Digest, Digesting, IdentityError, ModelName, RunId, SecretName,
    Slug,
};
pub use limits::{
    ByteSize, HostLimits, LimitError, Limits, MicroUsd, Rate, format_duration, parse_count, parse_duration,
};
pub use manifest::{
    Access, AccountWant, EgressWant, FileWant, Format, Llm, MANIFEST_FILES, Manifest, ManifestError, Policy,
    Problem, SecretWant, Supported,
};
pub use path::{CanonicalPath, GlobError, PathError, PathGlob};
pub use resolve::{
    ModelAt, ModelRoute, NotThere, UnknownModel, Unresolved, nearest_at, nearest_provider, resolve_at,
    resolve_model,
};
pub use routes::{After, KeyChoice, OnError, Route, RouteError, RouteName, Routes, Target};
pub use server_tools::{ServerTool, ServerTools, UnknownServerTool};
pub use whose::{UnknownWhose, Whose};
