//! Paths of a provider's account: files, batches, usage. What the manifest asks for and was granted becomes rules, and,
//! where the key's owner lets it go there, bindings. The proxy carries these requests; no plan, budget or receipt covers them.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use orch_manifests::{AccountWant, Auth, Catalog, Dialect, EgressWant, HostPattern, Llm, Provider, Slug};
use orch_proxy::{Binding, Credential, Methods, Place, Placeholder, Rule, RuleOrigin, Target};

/// The rules of a manifest's account wants, each with its provider, as if they were granted.
#[must_use]
pub fn account_rules(llm: Option<&Llm>, catalog: &Catalog) -> Vec<(Slug, Rule)> {
    let wants = llm.into_iter().flat_map(|llm| &llm.account);
    let rule = |want: &AccountWant| {
        let provider = catalog.provider(want.provider.as_str())?;
        let egress = at(provider, want)?;
        Some((provider.slug.clone(), Rule::of_want(&egress, RuleOrigin::Account)))
    };
    wants.filter_map(rule).collect()
}

/// A want as one of hosts; none where the provider has no host that guests may address.
pub(super) fn at(provider: &Provider, want: &AccountWant) -> Option<EgressWant> {
    Some(EgressWant {
        host: HostPattern::Exact(provider.public_host()?.clone()),
        port: Some(provider.endpoint.port),
        scheme: provider.endpoint.scheme,
        methods: want.methods.clone(),
        paths: want.paths.clone(),
    })
}

/// Where the key goes with these requests: in each header that the provider reads one from.
pub(super) fn bindings(
    provider: &Provider,
    want: &AccountWant,
    placeholder: &Placeholder,
    credential: &Arc<dyn Credential>,
    own: &Place,
) -> Vec<Binding> {
    let Some(host) = provider.public_host() else { return Vec::new() };
    let target = Target {
        scheme: provider.endpoint.scheme,
        host: HostPattern::Exact(host.clone()),
        port: provider.endpoint.port,
        methods: Methods::Only(want.methods.clone()),
        paths: want.paths.clone(),
    };
    let places = [Some(own.clone()), second_place(provider)].into_iter().flatten();
    let binding = |place| Binding {
        placeholder: placeholder.clone(),
        credential: Arc::clone(credential),
        targets: vec![target.clone()],
        place,
    };
    places.map(binding).collect()
}

/// Anthropic takes a key as everybody's too, and its client libraries send it so since October 2026. The gateway takes
/// either from them.
fn second_place(provider: &Provider) -> Option<Place> {
    let own_header = matches!(&provider.auth, Auth::Header(name) if *name != AUTHORIZATION);
    (own_header && provider.speaks(Dialect::AnthropicMessages)).then_some(Place::Header(AUTHORIZATION))
}
