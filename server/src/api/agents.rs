//! `/v1/agents`: the registry, and the agents that come with `orch`.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Response, StatusCode};
use orch_manifests::{AgentName, AgentRef, AgentVersionReq, Digest, Format, Manifest};
use orch_proxy::Body;
use semver::Version;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::blobs;
use super::call::{Call, DOCUMENT};
use super::reply;
use super::runs::FormatWord;
use crate::agent::Agent;
use crate::failure::Failure;
use crate::permissions::{Capability, combined_risk};
use crate::service::is_reserved;
use crate::store::{AgentRow, Published, VersionRow};

/// `GET /v1/agents`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let mut agents: Vec<Value> = Vec::new();
    for agent in Agent::builtins() {
        let Manifest { name, version, description, .. } = agent?.manifest;
        agents.push(json!({
            "name": name.as_str(), "latest": version.to_string(), "versions": 1, "description": description,
            "builtin": true,
        }));
    }
    for agent in call.service().store().agents().await? {
        agents.push(json!({
            "name": agent.name.as_str(), "latest": agent.latest.to_string(), "versions": agent.versions,
            "description": agent.description, "builtin": false,
        }));
    }
    Ok(reply::ok(&json!({ "agents": agents })))
}

/// `GET /v1/agents/{org}/{name}`.
pub(super) async fn versions(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let name = name(&call)?;
    let mut rows = call.service().store().versions(&name).await?;
    if rows.is_empty() {
        let any = AgentRef { name, versions: AgentVersionReq::STAR };
        let agent = call.service().library().find(&any).await?;
        return Ok(reply::ok(&json!({
            "name": agent.manifest.name.as_str(),
            "description": agent.manifest.description,
            "versions": [{
                "version": agent.manifest.version.to_string(), "digest": agent.digest.to_string(),
                "size": agent.module.len(), "published_at": null, "publisher": "orch",
            }],
        })));
    }
    rows.sort_by(|a, b| b.version.cmp(&a.version));
    let described = rows.iter().find(|row| row.version.pre.is_empty()).or(rows.first());
    let versions: Vec<Value> = rows.iter().map(published).collect();
    Ok(reply::ok(&json!({
        "name": name.as_str(),
        "description": described.and_then(|row| row.description.as_deref()),
        "versions": versions,
    })))
}

fn published(row: &VersionRow) -> Value {
    json!({
        "version": row.version.to_string(), "digest": row.digest.to_string(), "size": row.size,
        "published_at": reply::time(row.published), "publisher": row.publisher,
    })
}

/// `GET /v1/agents/{org}/{name}/{version}`.
pub(super) async fn version(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let name = name(&call)?;
    let agent = find(&call, &name, call.segment(4)).await?;
    let Agent { manifest, digest, .. } = &*agent;
    let store = call.service().store();
    let row = store.versions(&name).await?.into_iter().find(|row| row.digest == *digest);
    let granted = store.grants_of(call.workspace(), &name).await?;
    let granted = granted.into_iter().find(|grant| grant.digest == *digest).map(|grant| grant.capabilities);
    let capabilities = capabilities(manifest);
    Ok(reply::ok(&json!({
        "name": name.as_str(),
        "version": manifest.version.to_string(),
        "digest": digest.to_string(),
        "module": Digest::of(&agent.module).to_string(),
        "size": agent.module.len(),
        "published_at": reply::time_or_null(row.as_ref().map(|row| row.published)),
        "publisher": row.map_or_else(|| "orch".to_owned(), |row| row.publisher),
        "manifest": &*agent.text,
        "format": match agent.format { Format::Yaml => "yaml", Format::Json => "json" },
        "capabilities": texts(&capabilities),
        "granted": granted.unwrap_or_default(),
        "combined_risk": combined_risk(name.as_str(), &capabilities, &[]),
    })))
}

/// `GET /v1/agents/{org}/{name}/{version}/diff?from=V`.
pub(super) async fn diff(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["from"])?;
    let from = query.text("from").filter(|from| !from.is_empty());
    let from = from.ok_or_else(|| super::query::wrong("from", "says which version to compare with"))?;
    let name = name(&call)?;
    let (before, after) = (find(&call, &name, from).await?, find(&call, &name, call.segment(4)).await?);
    let asked = |agent: &Agent| -> BTreeSet<String> {
        capabilities(&agent.manifest).iter().map(ToString::to_string).collect()
    };
    let (had, has) = (asked(&before), asked(&after));
    Ok(reply::ok(&json!({
        "from": before.manifest.version.to_string(),
        "to": after.manifest.version.to_string(),
        "added": has.difference(&had).collect::<Vec<_>>(),
        "removed": had.difference(&has).collect::<Vec<_>>(),
        "kept": has.intersection(&had).collect::<Vec<_>>(),
    })))
}

/// The body of `PUT /v1/agents/{org}/{name}/{version}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishDocument {
    manifest: String,
    format: FormatWord,
    module: Digest,
}

/// `PUT /v1/agents/{org}/{name}/{version}`.
pub(super) async fn publish(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let name = name(&call)?;
    let version: Version = call
        .segment(4)
        .parse()
        .map_err(|e| Failure::usage("bad_version", format!("{:?} is not a version: {e}", call.segment(4))))?;
    if is_reserved(&name) {
        return Err(Failure::usage(
            "org_reserved",
            format!("agents of {} are not published: the name is orch's own", name.org()),
        )
        .hint("give the agent a name of your own in its manifest"));
    }
    // Requirements do not see it, so that two versions that differ in it alone would be one.
    if !version.build.is_empty() {
        return Err(Failure::usage(
            "bad_version",
            format!("{version} has build metadata, which no version here has"),
        )
        .hint(format!("publish it as {}.{}.{}", version.major, version.minor, version.patch + 1)));
    }
    let document: PublishDocument = call.json(DOCUMENT).await?;
    let service = call.service();
    let bytes = blobs::module(service, &document.module).await?;
    let agent = Agent::from_parts(&document.manifest, document.format.into(), bytes, service.catalog())?;
    let manifest = &agent.manifest;
    if (&manifest.name, &manifest.version) != (&name, &version) {
        return Err(Failure::usage(
            "manifest_differs",
            format!("the manifest is of {} {}, not of {name} {version}", manifest.name, manifest.version),
        ));
    }
    let store = service.store();
    let content = AgentRow {
        digest: agent.digest,
        name: name.clone(),
        version: version.clone(),
        manifest: document.manifest,
        format: agent.format,
        module: document.module,
        bare: false,
    };
    store.put_agent(content.clone()).await?;
    let row = VersionRow {
        name: name.clone(),
        version: version.clone(),
        digest: agent.digest,
        description: manifest.description.clone(),
        size: agent.module.len() as u64,
        published: OffsetDateTime::now_utc(),
        publisher: call.caller.name.to_string(),
        workspace: call.caller.workspace.to_string(),
    };
    let status = match store.publish(row).await? {
        Published::New => StatusCode::CREATED,
        Published::Same => StatusCode::OK,
        Published::Foreign => {
            return Err(Failure::usage(
                "org_reserved",
                format!("agents of {} are published by another workspace, which was first", name.org()),
            )
            .hint("give the agent a name of your own in its manifest"));
        }
        Published::Other(there) => {
            return Err(Failure::usage(
                "version_exists",
                format!("{name} {version} is published with other content, which stays"),
            )
            .hint("give the new content a new version")
            .detail("digest", there.to_string()));
        }
    };
    // Somebody may have uploaded the same content in other words; what is read under the name is the publisher's.
    store.retell_agent(content).await?;
    service.library().retell(&Arc::new(agent.clone()));
    let document = json!({
        "name": name.as_str(), "version": version.to_string(), "digest": agent.digest.to_string(),
    });
    Ok(reply::json(status, &document))
}

/// The agent's name in the path.
fn name(call: &Call<'_>) -> Result<AgentName, Failure> {
    let name = format!("{}/{}", call.segment(2), call.segment(3));
    name.parse().map_err(|e| Failure::usage("bad_agent", format!("{e}")))
}

/// A version of an agent: exactly that one, the newest that fits a requirement, or `latest`.
async fn find(call: &Call<'_>, name: &AgentName, version: &str) -> Result<Arc<Agent>, Failure> {
    let exactly = || version.parse::<Version>().ok().map(|version| format!("={version}"));
    let versions: AgentVersionReq = match version {
        "latest" => AgentVersionReq::STAR,
        // Alone, a version is a requirement that later ones fit as well.
        version => exactly().as_deref().unwrap_or(version).parse().map_err(|e| {
            Failure::usage("bad_version", format!("{version:?} is neither a version nor a requirement: {e}"))
        })?,
    };
    call.service().library().find(&AgentRef { name: name.clone(), versions }).await
}

/// What a manifest asks for and somebody has to grant. A secret that it narrows to no host is for its owner to bind.
fn capabilities(manifest: &Manifest) -> Vec<Capability> {
    let egress = manifest.egress.iter().cloned().map(Capability::Egress);
    let secrets = manifest.secrets.iter().flat_map(|secret| {
        let host = |host: String| Capability::Secret { name: secret.name.to_string(), host };
        let anywhere = secret.hosts.is_empty().then(|| host("wherever its owner allows".to_owned()));
        secret.hosts.iter().map(move |named| host(named.to_string())).chain(anywhere).collect::<Vec<_>>()
    });
    let llm = manifest.llm.iter();
    let tools = llm.clone().flat_map(|llm| llm.server_tools.iter()).map(Capability::ServerTool);
    let account = llm.flat_map(|llm| llm.account.iter().cloned()).map(Capability::Account);
    let search = manifest.search.iter().cloned().map(Capability::Search);
    egress.chain(search).chain(secrets).chain(tools).chain(account).collect()
}

fn texts(capabilities: &[Capability]) -> Vec<String> {
    capabilities.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_s_wishes_have_the_texts_that_grants_hold() {
        let manifest = Manifest::parse(
            "name: acme/x\nversion: 1.0.0\nmodule: x.wasm\nsupported_providers: [any]\n\
             llm: {primary: gpt-4o, server_tools: [search], account: [{provider: openai, methods: [GET], paths: [/v1/files]}]}\n\
             egress: [{host: api.github.com, methods: [GET], paths: [\"/repos/**\"]}]\n\
             secrets: [{name: GITHUB_TOKEN, hosts: [api.github.com]}, {name: OTHER}]\n",
            Format::Yaml,
            "x",
        )
        .expect("a manifest");
        assert_eq!(
            texts(&capabilities(&manifest)),
            [
                "talk to https://api.github.com (GET; /repos/**)",
                "use the secret GITHUB_TOKEN toward api.github.com",
                "use the secret OTHER toward wherever its owner allows",
                "let model providers search the web (llm.server_tools: search)",
                "use the account of the openai key, uncounted (GET; /v1/files)",
            ]
        );
    }
}
