//! Web search by the agent itself: what the manifest asks for and was granted becomes rules and a binding of the provider's
//! key to the calls that the catalog lists. The proxy carries these requests; no plan, budget or receipt covers them.

use std::sync::Arc;

use orch_manifests::{Call, Catalog, EgressWant, HostPattern, Manifest, Provider, Slug};
use orch_proxy::{Binding, Credential, Methods, Placeholder, Rule, RuleOrigin, Target};

/// The rules of the searches that a manifest asks for, each with its provider, as if they were granted.
#[must_use]
pub fn search_rules(manifest: &Manifest, catalog: &Catalog) -> Vec<(Slug, Rule)> {
    let providers = manifest.search.iter().filter_map(|slug| catalog.searcher(slug.as_str()));
    let rules = providers.flat_map(|provider| {
        let rule = |want: EgressWant| (provider.slug.clone(), Rule::of_want(&want, RuleOrigin::Manifest));
        wants(provider).into_iter().map(rule)
    });
    rules.collect()
}

/// The calls of a provider as wants of hosts; none where it has no host that guests may address.
pub(super) fn wants(provider: &Provider) -> Vec<EgressWant> {
    let Some(host) = provider.public_host() else { return Vec::new() };
    let want = |call: &Call| {
        Some(EgressWant {
            host: HostPattern::Exact(host.clone()),
            port: Some(provider.endpoint.port),
            scheme: provider.endpoint.scheme,
            methods: vec![call.method.clone()],
            paths: vec![call.path.parse().ok()?],
        })
    };
    provider.calls.iter().filter_map(want).collect()
}

/// Where the key goes with these calls, in the header that the provider reads.
pub(super) fn binding(
    provider: &Provider,
    placeholder: Placeholder,
    credential: Arc<dyn Credential>,
) -> Option<Binding> {
    let target = |want: EgressWant| Target {
        scheme: want.scheme,
        host: want.host,
        port: provider.endpoint.port,
        methods: Methods::Only(want.methods),
        paths: want.paths,
    };
    let targets = wants(provider).into_iter().map(target).collect();
    Some(Binding { placeholder, credential, targets, place: super::place(provider)? })
}
