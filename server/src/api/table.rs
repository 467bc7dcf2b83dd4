//! What the API has, where, and who may use it.

use http::Method;

use super::path::Path;
use crate::caller::Scope;
use crate::failure::Failure;

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody, without a token.
    Open,
    /// Whoever has a token.
    Known,
    /// Whoever has one of these scopes.
    Any(&'static [Scope]),
    /// Whoever is admin of the workspace that the server belongs to.
    Operator,
}

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Audit,
    BackUpVault,
    CancelRun,
    CompactVault,
    DiffVersions,
    GetActive,
    GetAgent,
    GetBlob,
    GetPolicy,
    GetRoute,
    GetRun,
    GetSecret,
    GetVersion,
    GrantSecret,
    HasBlob,
    Health,
    ImportSecrets,
    ListAgents,
    ListBudgets,
    ListGrants,
    ListProviderKeys,
    ListProviders,
    ListRoutes,
    ListRuns,
    ListSecrets,
    ListTokens,
    Llm,
    Logs,
    LogOfRequest,
    MakeToken,
    Metrics,
    Publish,
    PutActive,
    PutBlob,
    PutBudget,
    PutGrant,
    PutPolicy,
    PutRoute,
    PutSecret,
    Ready,
    ReleaseBudget,
    Reload,
    ResetProvider,
    RemoveActive,
    RemoveBudget,
    RemoveGrant,
    RemovePolicy,
    RemoveProviderKey,
    RemoveRoute,
    RemoveSecret,
    RevokeToken,
    CheckSecret,
    RotateSecret,
    RunDecisions,
    RunEvents,
    SecretUses,
    SetProviderKey,
    SubmitRun,
    UngrantSecret,
    Usage,
    VaultStatus,
    VerifyVault,
    WhoAmI,
}

/// One row of the API.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: Method,
    /// Its path; a segment in braces stands for any, and a last one with dots for any number of them.
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) action: Action,
}

const fn row(method: Method, path: &'static str, access: Access, action: Action) -> Endpoint {
    Endpoint { method, path, access, action }
}

const GET: Method = Method::GET;
const HEAD: Method = Method::HEAD;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

const RUN: Access = Access::Any(&[Scope::Run]);
const LLM: Access = Access::Any(&[Scope::Llm]);
/// Whoever runs agents sees them, and so does whoever publishes them.
const AGENTS: Access = Access::Any(&[Scope::Run, Scope::Publish]);
const PUBLISH: Access = Access::Any(&[Scope::Publish]);
const SECRETS: Access = Access::Any(&[Scope::Secrets]);
const GRANTS: Access = Access::Any(&[Scope::Grants]);
/// Whoever has models called, and whoever keeps the keys for that.
const CALLS: Access = Access::Any(&[Scope::Run, Scope::Llm, Scope::Secrets]);
const ADMIN: Access = Access::Any(&[Scope::Admin]);
const BILLS: Access = Access::Any(&[Scope::Run, Scope::Llm]);

/// The whole API. The gateway comes first because it is asked most.
static TABLE: &[Endpoint] = &[
    row(POST, "/v1/chat/completions", LLM, Action::Llm),
    row(POST, "/v1/responses", LLM, Action::Llm),
    row(POST, "/v1/messages", LLM, Action::Llm),
    row(POST, "/v1/embeddings", LLM, Action::Llm),
    row(GET, "/v1/models", LLM, Action::Llm),
    row(POST, "/api/v1/chat/completions", LLM, Action::Llm),
    row(POST, "/api/v1/responses", LLM, Action::Llm),
    row(POST, "/api/v1/messages", LLM, Action::Llm),
    row(POST, "/api/v1/embeddings", LLM, Action::Llm),
    row(GET, "/api/v1/models", LLM, Action::Llm),
    row(POST, "/v2/chat", LLM, Action::Llm),
    row(POST, "/v2/embed", LLM, Action::Llm),
    row(POST, "/api/v2/chat", LLM, Action::Llm),
    row(POST, "/api/v2/embed", LLM, Action::Llm),
    row(POST, "/api/chat", LLM, Action::Llm),
    row(POST, "/api/embed", LLM, Action::Llm),
    row(GET, "/api/tags", LLM, Action::Llm),
    // A model may have its provider before it and slashes in it; Gemini names model and method in the path.
    row(GET, "/v1/models/{model...}", LLM, Action::Llm),
    row(POST, "/v1/models/{method...}", LLM, Action::Llm),
    row(GET, "/v1beta/models", LLM, Action::Llm),
    row(GET, "/v1beta/models/{model...}", LLM, Action::Llm),
    row(POST, "/v1beta/models/{method...}", LLM, Action::Llm),
    row(GET, "/api/v1/models/{model...}", LLM, Action::Llm),
    row(POST, "/api/v1/models/{method...}", LLM, Action::Llm),
    row(GET, "/api/v1beta/models", LLM, Action::Llm),
    row(GET, "/api/v1beta/models/{model...}", LLM, Action::Llm),
    row(POST, "/api/v1beta/models/{method...}", LLM, Action::Llm),
    //
    row(POST, "/v1/runs", RUN, Action::SubmitRun),
    row(GET, "/v1/runs", RUN, Action::ListRuns),
    row(GET, "/v1/runs/{id}", RUN, Action::GetRun),
    row(DELETE, "/v1/runs/{id}", RUN, Action::CancelRun),
    row(GET, "/v1/runs/{id}/events", RUN, Action::RunEvents),
    row(GET, "/v1/runs/{id}/decisions", RUN, Action::RunDecisions),
    row(GET, "/v1/logs", BILLS, Action::Logs),
    row(GET, "/v1/logs/{request}", BILLS, Action::LogOfRequest),
    row(GET, "/v1/usage", BILLS, Action::Usage),
    row(GET, "/v1/budgets", BILLS, Action::ListBudgets),
    row(PUT, "/v1/budgets/{name}", ADMIN, Action::PutBudget),
    row(DELETE, "/v1/budgets/{name}", ADMIN, Action::RemoveBudget),
    row(POST, "/v1/budgets/{name}/release", ADMIN, Action::ReleaseBudget),
    //
    row(HEAD, "/v1/blobs/{digest}", AGENTS, Action::HasBlob),
    row(GET, "/v1/blobs/{digest}", AGENTS, Action::GetBlob),
    row(PUT, "/v1/blobs/{digest}", AGENTS, Action::PutBlob),
    row(GET, "/v1/agents", AGENTS, Action::ListAgents),
    row(GET, "/v1/agents/{org}/{name}", AGENTS, Action::GetAgent),
    row(GET, "/v1/agents/{org}/{name}/{version}", AGENTS, Action::GetVersion),
    row(GET, "/v1/agents/{org}/{name}/{version}/diff", AGENTS, Action::DiffVersions),
    row(PUT, "/v1/agents/{org}/{name}/{version}", PUBLISH, Action::Publish),
    //
    row(GET, "/v1/grants", GRANTS, Action::ListGrants),
    row(PUT, "/v1/grants/{digest}", GRANTS, Action::PutGrant),
    row(DELETE, "/v1/grants/{digest}", GRANTS, Action::RemoveGrant),
    row(GET, "/v1/secrets", SECRETS, Action::ListSecrets),
    row(POST, "/v1/secrets/import", SECRETS, Action::ImportSecrets),
    row(GET, "/v1/secrets/{name}", SECRETS, Action::GetSecret),
    row(PUT, "/v1/secrets/{name}", SECRETS, Action::PutSecret),
    row(DELETE, "/v1/secrets/{name}", SECRETS, Action::RemoveSecret),
    row(GET, "/v1/secrets/{name}/uses", SECRETS, Action::SecretUses),
    row(POST, "/v1/secrets/{name}/check", SECRETS, Action::CheckSecret),
    row(POST, "/v1/secrets/{name}/rotate", SECRETS, Action::RotateSecret),
    row(POST, "/v1/secrets/{name}/grants", SECRETS, Action::GrantSecret),
    row(DELETE, "/v1/secrets/{name}/grants/{id}", SECRETS, Action::UngrantSecret),
    row(GET, "/v1/routes", CALLS, Action::ListRoutes),
    row(GET, "/v1/routes/{name}", CALLS, Action::GetRoute),
    row(PUT, "/v1/routes/{name}", ADMIN, Action::PutRoute),
    row(DELETE, "/v1/routes/{name}", ADMIN, Action::RemoveRoute),
    row(GET, "/v1/providers", CALLS, Action::ListProviders),
    row(POST, "/v1/providers/{name}/reset", SECRETS, Action::ResetProvider),
    row(GET, "/v1/byok", CALLS, Action::GetPolicy),
    row(PUT, "/v1/byok", ADMIN, Action::PutPolicy),
    row(DELETE, "/v1/byok", ADMIN, Action::RemovePolicy),
    row(GET, "/v1/byok/active", CALLS, Action::GetActive),
    row(PUT, "/v1/byok/active", CALLS, Action::PutActive),
    row(DELETE, "/v1/byok/active", CALLS, Action::RemoveActive),
    // Whose token it is decides whose keys these are.
    row(GET, "/api/user/provider-keys", CALLS, Action::ListProviderKeys),
    row(POST, "/api/user/provider-keys", CALLS, Action::SetProviderKey),
    row(DELETE, "/api/user/provider-keys", CALLS, Action::RemoveProviderKey),
    row(GET, "/v1/audit", ADMIN, Action::Audit),
    // The store holds every workspace: whether it is sound is not for one of them to ask.
    row(GET, "/v1/vault", Access::Operator, Action::VaultStatus),
    row(GET, "/v1/vault/verify", Access::Operator, Action::VerifyVault),
    row(POST, "/v1/vault/backup", Access::Operator, Action::BackUpVault),
    row(POST, "/v1/vault/compact", Access::Operator, Action::CompactVault),
    row(POST, "/v1/reload", Access::Operator, Action::Reload),
    row(GET, "/v1/whoami", Access::Known, Action::WhoAmI),
    row(POST, "/v1/tokens", ADMIN, Action::MakeToken),
    row(GET, "/v1/tokens", ADMIN, Action::ListTokens),
    row(DELETE, "/v1/tokens/{id}", ADMIN, Action::RevokeToken),
    //
    row(GET, "/healthz", Access::Open, Action::Health),
    row(GET, "/readyz", Access::Open, Action::Ready),
    row(GET, "/metrics", Access::Operator, Action::Metrics),
];

/// The endpoint of a request.
///
/// # Errors
/// `not_found` when nothing has this path, `method_not_allowed` when something has and is not asked for this way.
pub(super) fn find(method: &Method, path: &Path) -> Result<&'static Endpoint, Failure> {
    let here = || TABLE.iter().filter(|endpoint| fits(endpoint.path, path));
    if let Some(endpoint) = here().find(|endpoint| endpoint.method == *method) {
        return Ok(endpoint);
    }
    let methods: Vec<&str> = here().map(|endpoint| endpoint.method.as_str()).collect();
    if methods.is_empty() {
        return Err(Failure::usage("not_found", "the API has nothing at this path")
            .hint("paths begin with /v1, and have no slash at their end"));
    }
    Err(Failure::usage("method_not_allowed", format!("this path takes {}", methods.join(", ")))
        .detail("allowed", methods))
}

fn fits(pattern: &str, path: &Path) -> bool {
    let mut segments = path.segments().iter();
    let mut parts = pattern.split('/').skip(1);
    loop {
        match (parts.next(), segments.next()) {
            (None, None) => return true,
            (Some(part), Some(segment)) if part.ends_with("...}") => {
                return !segment.is_empty() && segments.all(|segment| !segment.is_empty());
            }
            (Some(part), Some(segment)) if part == segment => {}
            (Some(part), Some(segment)) if part.starts_with('{') && !segment.is_empty() => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(method: &Method, path: &str) -> Result<Action, String> {
        find(method, &Path::of(path)).map(|endpoint| endpoint.action).map_err(|f| f.code().to_owned())
    }

    #[test]
    fn a_path_and_a_method_are_one_endpoint() {
        assert_eq!(at(&Method::GET, "/v1/runs"), Ok(Action::ListRuns));
        assert_eq!(at(&Method::POST, "/v1/runs"), Ok(Action::SubmitRun));
        assert_eq!(at(&Method::GET, "/v1/agents/a/b/^1/diff"), Ok(Action::DiffVersions));
        assert_eq!(at(&Method::GET, "/v1/agents/a/b/%5E1"), Ok(Action::GetVersion));
        for path in [
            "/v1beta/models/m:generateContent",
            "/api/v1/models/openai/m:streamGenerateContent",
            "/v2/chat",
            "/api/v2/chat",
            "/api/chat",
        ] {
            assert_eq!(at(&Method::POST, path), Ok(Action::Llm), "{path}");
        }
        for path in ["/v1/models/gpt-4o", "/api/v1/models/openai/a/b:1", "/v1beta/models/google/x"] {
            assert_eq!(at(&Method::GET, path), Ok(Action::Llm), "{path}");
        }
        for path in [
            "/",
            "/v1/models/",
            "/v1/models/x//y",
            "/v1/models/x/",
            "/v1",
            "/v1/runs/",
            "/v1/runs/x/y",
            "/v2/runs",
            "/V1/runs",
            "//v1/runs",
            "/v1/agents//b",
            "*",
        ] {
            assert_eq!(at(&Method::GET, path), Err("not_found".to_owned()), "{path}");
        }
        assert_eq!(at(&Method::PATCH, "/v1/runs"), Err("method_not_allowed".to_owned()));
        let failure = find(&Method::PUT, &Path::of("/v1/runs/x")).expect_err("refused");
        assert_eq!(failure.details()["allowed"], serde_json::json!(["GET", "DELETE"]));
    }

    /// Two rows that fit the same request would make the second unreachable.
    #[test]
    fn every_row_can_be_reached() {
        for endpoint in TABLE {
            let path = endpoint.path.replace(['{', '}'], "");
            let found = find(&endpoint.method, &Path::of(&path)).expect("found");
            assert!(std::ptr::eq(found, endpoint), "{} {}", endpoint.method, endpoint.path);
        }
    }

    #[test]
    fn only_health_is_open() {
        let open: Vec<&str> =
            TABLE.iter().filter(|row| row.access == Access::Open).map(|row| row.path).collect();
        assert_eq!(open, ["/healthz", "/readyz"]);
    }
}
