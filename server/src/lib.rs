//! The broker: grants, doors and the life of a run; configuration and the home folder.
//!
//! It composes the other crates and executes no agent code. Read [`Broker::run`] first: one run, from what the caller
//! said to what the agent answered.

mod active;
mod afterwards;
mod agent;
mod api;
mod aws;
mod broker;
mod budgets;
mod byok;
mod caller;
mod config;
pub mod conformance;
mod credential;
mod decisions;
mod door;
mod egress;
mod environment;
mod execution;
mod failure;
mod home;
pub mod http;
mod keeper;
mod key_check;
mod keys;
mod limits;
mod llm;
#[doc(hidden)]
pub mod measured;
mod mounts;
mod outcome;
mod owner;
mod permissions;
mod policy;
mod prepare;
mod priority;
mod provider_keys;
pub mod records;
pub mod redact;
mod reload;
mod routing;
mod run;
mod schema;
mod secret;
pub mod secrets;
mod service;
#[cfg(test)]
mod stage;
pub mod store;
mod telemetry;
mod thinking;
mod upstream;
pub mod vault;
mod workers;

pub use agent::{Agent, MODULE_LIMIT};
pub use api::Api;
pub use broker::Broker;
pub use caller::{AdminToken, Caller, Client, Peer, Scope, Scopes, UnknownScope, ensure_admin_token};
pub use config::{ByokConfig, Config, EgressConfig, PlatformConfig, PlatformKeys};
pub use credential::token_file::FileReference;
pub use decisions::LocalDecisions;
pub use egress::{ClientPolicy, EgressClient, EgressRequest, NewClient};
pub use environment::{Environment, VARIABLES, Variable, documentation};
pub use failure::{Failure, Kind};
pub use home::{Home, private};
pub use keeper::{Keeper, VaultAt};
pub use key_check::{
    Described, KeyChecker, asked_host, check_file, check_shape, describe, document, refuse_rejected,
    rejected, tidy,
};
pub use keys::{CallerKeys, KeySources, flag_key};
pub use permissions::{
    AllowedHost, Answer, Capability, Lasting, Question, Remembered, RememberedAnswer, Whose, grant_words,
    refused_for_good,
};
pub use policy::{Outlook, account_rules, search_rules};
pub use provider_keys::checked as checked_key;
pub use reload::Reloaded;
pub use run::{
    EgressReport, Event, LimitRequest, LimitUse, LimitsReport, MountRequest, Observer, Report, RunRequest,
    Simulate, TrialReport, UsageReport,
};
pub use service::{Follower, Gauges, Library, Mode, Parts, Service, is_reserved};
pub use telemetry::{ProxyTelemetry, TraceParent};
