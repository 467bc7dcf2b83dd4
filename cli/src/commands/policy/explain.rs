//! `orch policy explain`: which rule decides about a URL, or what is missing.

use std::path::Path;
use std::process::ExitCode;

use http::Method;
use orch_manifests::{Catalog, Format, HostPattern, Manifest, PathGlob, ServerTools, Supported};
use orch_proxy::{Methods, Miss, Reason, Rule, RuleOrigin};
use orch_server::{Agent, Failure, Outlook, account_rules, search_rules};
use serde_json::{Value, json};

use super::{Judgement, POLICY_LIMIT, format_of, judge, line, method, origin, read, read_text};
use crate::args::ExplainArgs;
use crate::printer::{Printer, harmless};
use crate::wire::{Installation, broken_pipe};

pub(super) fn run(args: &ExplainArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let methods = match args.method.as_slice() {
        [] => vec![Method::GET],
        said => said.iter().map(|text| method(text)).collect::<Result<_, _>>()?,
    };
    let policy = Policy::of(args, &here)?;
    let mut answers = Vec::new();
    for url in &args.urls {
        for method in &methods {
            answers.push(policy.explain(url, method));
        }
    }
    if printer.json() {
        let answers: Vec<Value> = answers.iter().map(Explained::json).collect();
        let tools = policy.server_tools;
        let answer = json!({ "policy": policy.name, "server_tools": tools, "urls": answers });
        printer.result_json(&answer).or_else(broken_pipe)?;
    } else {
        let texts: Vec<String> = answers.iter().map(Explained::text).collect();
        let tools = match policy.server_tools.is_empty() {
            true => String::new(),
            false => format!(
                "\nonce granted, model providers may reach out by themselves (llm.server_tools: {})",
                policy.server_tools
            ),
        };
        let text = format!("policy: {}{tools}\n\n{}", policy.name, texts.join("\n\n"));
        printer.result(&harmless(&text)).or_else(broken_pipe)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A policy, and where it is from.
struct Policy {
    name: String,
    rules: Vec<Rule>,
    /// Of each rule, whether it is granted already.
    granted: Vec<bool>,
    /// Calls that the gateway carries, with the provider of each.
    carried: Vec<(String, Rule)>,
    /// Paths of providers' accounts that the manifest asks for, with the provider of each.
    accounts: Vec<(String, Rule)>,
    /// Calls of providers of web search, which the agent makes with their keys once they are granted.
    searches: Vec<(String, Rule)>,
    /// What providers may do by themselves, once it is granted.
    server_tools: ServerTools,
    /// What the operator allows to every agent that asks for it.
    config: Vec<Rule>,
}

impl Policy {
    fn of(args: &ExplainArgs, here: &Installation) -> Result<Self, Failure> {
        let (name, wants, manifest) = if let Some(file) = &args.manifest {
            (file.display().to_string(), Some(read(file)?), manifest_of(file))
        } else if let Some(agent) = &args.agent {
            let agent = Agent::load(agent, &here.catalog)?;
            let name = format!("{} {}", agent.manifest.name, agent.manifest.version);
            let wants = (!agent.bare).then(|| agent.manifest.egress.clone());
            (name, wants, Some(agent.manifest))
        } else if let Ok(file) = Manifest::find(Path::new(".")) {
            (file.display().to_string(), Some(read(&file)?), manifest_of(&file))
        } else {
            let name = "none (--manifest FILE or --agent AGENT names one)".to_owned();
            (name, None, None)
        };
        let llm = manifest.as_ref().and_then(|manifest| manifest.llm.as_ref());
        let accounts = account_rules(llm, &here.catalog).into_iter();
        let searches = manifest.as_ref().map(|manifest| search_rules(manifest, &here.catalog));
        let searches = searches.into_iter().flatten();
        let outlook = Outlook::of(wants.as_deref(), &args.allow, &here.config)?;
        Ok(Self {
            name,
            granted: outlook.iter().map(|outlook| outlook.granted).collect(),
            rules: outlook.into_iter().map(|outlook| outlook.rule).collect(),
            carried: carried(
                manifest.as_ref().map_or(&Supported::default(), |manifest| &manifest.supported_providers),
            ),
            accounts: accounts.map(|(provider, rule)| (provider.to_string(), rule)).collect(),
            searches: searches.map(|(provider, rule)| (provider.to_string(), rule)).collect(),
            server_tools: llm.map(|llm| llm.server_tools).unwrap_or_default(),
            config: here.config.egress.allow.iter().filter_map(|host| allowed(&host.to_string())).collect(),
        })
    }

    fn explain(&self, url: &str, method: &Method) -> Explained {
        let Judgement { target, verdict, nearest } = judge::request(&self.rules, url, method);
        let mut explained = Explained {
            url: url.to_owned(),
            method: method.clone(),
            decided: None,
            reason: None,
            nearest: None,
            hints: Vec::new(),
        };
        if let Some(target) = &target
            && let Some((provider, rule)) = self.carried.iter().find(|(_, rule)| {
                judge::request(std::slice::from_ref(rule), url, method).verdict.is_ok()
                    && rule.host.matches(&target.host)
            })
        {
            explained.decided = Some(Decided {
                number: None,
                text: line(rule),
                by: RuleOrigin::Catalog,
                granted: true,
                note: format!(
                    "the gateway carries calls to {provider}'s inference paths, with its key and its plan"
                ),
            });
            return explained;
        }
        let fits = |rule: &Rule| judge::request(std::slice::from_ref(rule), url, method).verdict.is_ok();
        if let Some((provider, rule)) = self.accounts.iter().find(|(_, rule)| fits(rule)) {
            explained.decided = Some(Decided {
                number: None,
                text: line(rule),
                by: RuleOrigin::Account,
                granted: false,
                note: format!(
                    "`llm.account`: with {provider}'s key, once it is granted (orch asks before a run, or --grant \
                     'llm.account:{provider}:METHOD:PATH'); a key of the vault needs its owner's --account as well"
                ),
            });
            return explained;
        }
        if let Some((provider, rule)) = self.searches.iter().find(|(_, rule)| fits(rule)) {
            explained.decided = Some(Decided {
                number: None,
                text: line(rule),
                by: RuleOrigin::Manifest,
                granted: false,
                note: format!(
                    "`search`: with {provider}'s key, once it is granted (orch asks before a run, or --grant \
                     search:{provider})"
                ),
            });
            return explained;
        }
        match verdict {
            Ok(rule) => explained.decided = Some(self.decided(rule)),
            Err(reason) => {
                explained.nearest = nearest.map(|(rule, miss)| (self.decided(rule), miss));
                if let Some(missing) = &reason.rule_missing {
                    explained.hints.push(format!("add to `egress` in orch.yaml: {}", missing.line()));
                    let config = judge::request(&self.config, url, method).verdict.is_ok();
                    explained.hints.push(if config {
                        "config.yaml allows this host to every agent whose manifest asks for it".to_owned()
                    } else {
                        let place = match missing.port {
                            443 => missing.host.clone(),
                            port => format!("{}:{port}", missing.host),
                        };
                        format!("then whoever runs the agent allows it: --allow {place}")
                    });
                }
                explained.reason = Some(reason);
            }
        }
        explained
    }

    fn decided(&self, at: usize) -> Decided {
        let rule = &self.rules[at];
        let granted = self.granted[at];
        Decided {
            number: Some(at + 1),
            text: line(rule),
            by: rule.origin,
            granted,
            note: match (granted, rule.origin) {
                (false, _) => {
                    "nobody has granted it yet: orch asks before a run, or --allow says so".to_owned()
                }
                (true, RuleOrigin::Config) => "granted by `egress.allow` in config.yaml".to_owned(),
                (true, _) => "granted by --allow".to_owned(),
            },
        }
    }
}

/// The manifest in a file; none in one that is only a policy. What is wrong with it was said by its reading.
fn manifest_of(path: &Path) -> Option<Manifest> {
    let text = Manifest::find(path)
        .ok()
        .and_then(|file| Some((read_text(&file, POLICY_LIMIT, "the manifest").ok()?, format_of(&file))));
    text.and_then(|(text, format): (String, Format)| Manifest::parse(&text, format, "").ok())
}

/// The calls that the gateway carries for an agent of these providers. An operator's pins are for requests that the
/// gateway builds itself.
fn carried(supported: &Supported) -> Vec<(String, Rule)> {
    let catalog = Catalog::builtin();
    let providers = catalog.providers().filter(|provider| !provider.local_only && supported.allows(provider));
    let mut rules = Vec::new();
    for provider in providers {
        let Some(host) = provider.public_host() else { continue };
        for inference in &provider.inference {
            let paths: Result<Vec<PathGlob>, _> =
                inference.patterns().iter().map(|path| path.parse()).collect();
            let Ok(paths) = paths else { continue };
            // No path at all would stand for every one.
            if paths.is_empty() {
                continue;
            }
            let rule = Rule {
                scheme: provider.endpoint.scheme,
                host: HostPattern::Exact(host.clone()),
                port: provider.endpoint.port,
                methods: Methods::Only(vec![inference.method.clone()]),
                paths,
                origin: RuleOrigin::Catalog,
            };
            rules.push((provider.slug.to_string(), rule));
        }
    }
    rules
}

/// A rule for all that an operator's `HOST[:PORT]` allows to those who ask.
fn allowed(host: &str) -> Option<Rule> {
    let outlook = Outlook::of(None, &[host.to_owned()], &orch_server::Config::default()).ok()?;
    Some(outlook.into_iter().next()?.rule)
}

/// A rule that decides, or came near.
struct Decided {
    /// Its place in the manifest's list, from 1; none for the catalog's.
    number: Option<usize>,
    text: String,
    by: RuleOrigin,
    granted: bool,
    note: String,
}

impl Decided {
    fn name(&self) -> String {
        match (self.number, self.by) {
            (Some(number), _) => format!("rule {number}"),
            (None, RuleOrigin::Account) => "`llm.account`".to_owned(),
            (None, _) => "a rule of the catalog".to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "number": self.number, "text": self.text, "origin": origin(self.by), "granted": self.granted,
            "note": self.note,
        })
    }
}

/// What is said about one request.
struct Explained {
    url: String,
    method: Method,
    decided: Option<Decided>,
    reason: Option<Reason>,
    nearest: Option<(Decided, Miss)>,
    hints: Vec<String>,
}

impl Explained {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(decided) = &self.decided {
            lines.push(format!(
                "{} {}\n  allowed by {} ({})",
                self.method,
                self.url,
                decided.name(),
                origin(decided.by)
            ));
            lines.push(format!("    {}", decided.text));
            lines.push(format!("  {}", decided.note));
        }
        if let Some(reason) = &self.reason {
            lines.push(format!("{} {}\n  denied ({}): {reason}", self.method, self.url, reason.code));
        }
        if let Some((near, miss)) = &self.nearest {
            lines.push(format!(
                "  nearest is {} ({}), whose `{}` does not fit",
                near.name(),
                origin(near.by),
                miss.field()
            ));
            lines.push(format!("    {}", near.text));
        }
        lines.extend(self.hints.iter().map(|hint| format!("  {hint}")));
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let decision = if self.decided.is_some() { "allow" } else { "deny" };
        let mut object = json!({ "url": self.url, "method": self.method.as_str(), "decision": decision });
        if let Some(decided) = &self.decided {
            object["rule"] = decided.json();
        }
        if let Some(Reason { code, text, next, rule_missing }) = &self.reason {
            object["code"] = json!(code);
            object["reason"] = json!(text);
            object["rule_missing"] = json!(rule_missing);
            object["manifest_line"] = json!(next);
        }
        if let Some((near, miss)) = &self.nearest {
            object["nearest"] = near.json();
            object["nearest"]["missing"] = json!(miss.field());
        }
        object["next_steps"] = json!(self.hints);
        object
    }
}

#[cfg(test)]
mod tests {
    use orch_manifests::EgressWant;

    use super::*;

    fn policy() -> Policy {
        let text = "[{ host: api.example.com, methods: [GET], paths: [/v1/**] }, { host: b.example.com }]";
        let wants = EgressWant::list_in(text, Format::Yaml, "x", &[]).expect("a list").expect("there");
        let outlook =
            Outlook::of(Some(&wants), &["b.example.com".to_owned()], &orch_server::Config::default());
        let outlook = outlook.expect("rules");
        Policy {
            name: "x".to_owned(),
            granted: outlook.iter().map(|outlook| outlook.granted).collect(),
            rules: outlook.into_iter().map(|outlook| outlook.rule).collect(),
            carried: carried(&Supported::Any),
            accounts: Vec::new(),
            searches: Vec::new(),
            server_tools: ServerTools::NONE,
            config: allowed("c.example.com").into_iter().collect(),
        }
    }

    #[track_caller]
    fn said(url: &str, method: &Method) -> String {
        policy().explain(url, method).text()
    }

    #[test]
    fn the_deciding_rule_is_named_with_who_wrote_it() {
        insta::assert_snapshot!(said("https://api.example.com/v1/x", &Method::GET), @r#"
        GET https://api.example.com/v1/x
          allowed by rule 1 (manifest)
            - { host: api.example.com, methods: [GET], paths: ["/v1/**"] }
          nobody has granted it yet: orch asks before a run, or --allow says so
        "#);
        insta::assert_snapshot!(said("https://b.example.com", &Method::PUT), @r"
        PUT https://b.example.com
          allowed by rule 2 (flag)
            - { host: b.example.com }
          granted by --allow
        ");
        insta::assert_snapshot!(said("https://api.openai.com/v1/chat/completions", &Method::POST), @r#"
        POST https://api.openai.com/v1/chat/completions
          allowed by a rule of the catalog (catalog)
            - { host: api.openai.com, methods: [POST], paths: ["/v1/chat/completions"] }
          the gateway carries calls to openai's inference paths, with its key and its plan
        "#);
    }

    #[test]
    fn what_is_missing_is_a_line_to_paste() {
        insta::assert_snapshot!(said("https://api.example.com/v2/x?q=1", &Method::GET), @r#"
        GET https://api.example.com/v2/x?q=1
          denied (path_not_allowed): GET /v2/x at api.example.com is not allowed
          nearest is rule 1 (manifest), whose `paths` does not fit
            - { host: api.example.com, methods: [GET], paths: ["/v1/**"] }
          add to `egress` in orch.yaml: - { host: api.example.com, methods: [GET], paths: ["/v2/x"] }
          then whoever runs the agent allows it: --allow api.example.com
        "#);
        insta::assert_snapshot!(said("https://c.example.com/", &Method::GET), @r#"
        GET https://c.example.com/
          denied (host_not_allowed): c.example.com is not allowed: no egress rule names it
          add to `egress` in orch.yaml: - { host: c.example.com, methods: [GET], paths: ["/"] }
          config.yaml allows this host to every agent whose manifest asks for it
        "#);
        insta::assert_snapshot!(said("https://user@api.example.com/v1/x", &Method::GET), @r"
        GET https://user@api.example.com/v1/x
          denied (target_refused): the authority has user information
        ");
        let json = policy().explain("https://api.example.com/v2", &Method::GET).json();
        assert_eq!((&json["decision"], &json["nearest"]["missing"]), (&json!("deny"), &json!("paths")));
        assert_eq!(json["rule_missing"]["path"], "/v2");
    }
}
