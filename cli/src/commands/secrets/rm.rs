//! `orch secrets rm`: who uses a secret is said before it is gone.

use orch_server::secrets::secret_name;
use orch_server::{Failure, Kind};
use orch_vault::SecretName;
use serde::Deserialize;
use serde_json::json;

use super::Keeping;
use super::row::Row;
use crate::args::RmArgs;
use crate::moment::{read, short};
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

/// Who would miss it.
#[derive(Deserialize)]
struct Uses {
    #[serde(flatten)]
    secret: Row,
    granted: Vec<Granted>,
    agents: Vec<Asks>,
    /// None where nobody follows runs.
    under_way: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Granted {
    agent: String,
    by: String,
    host: Option<String>,
}

#[derive(Deserialize)]
struct Asks {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Removed {
    #[serde(default)]
    cut: Option<usize>,
}

pub(super) fn run<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &RmArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let name = secret_name(&args.name, &here.catalog)?;
    let keeping = find()?;
    let document = keeping.uses(&name).map_err(|failure| told(failure, &name))?;
    let uses: Uses = keeping.typed("GET /v1/secrets/{name}/uses", document.clone())?;
    if !printer.json() {
        for line in uses.lines() {
            printer.note(&line);
        }
    }
    if !args.yes {
        if !printer.interactive() {
            return Err(Failure::usage(
                "bad_usage",
                format!("removing {name} cannot be undone; nobody is here to ask"),
            )
            .hint(format!("orch secrets rm {name} --yes"))
            .detail("uses", document));
        }
        if !printer.confirmed(&format!("Remove {name}? It cannot be read back or restored. [y/N] "))? {
            return Err(Failure::new(Kind::Interrupted, "not_confirmed", "nothing was removed"));
        }
    }
    let mut answer = keeping.remove(&name, args.now).map_err(|failure| told(failure, &name))?;
    if printer.json() {
        answer["uses"] = json!({
            "granted": document["granted"], "agents": document["agents"], "under_way": document["under_way"],
            "last_used": document["last_used"],
        });
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let Removed { cut } = keeping.typed("DELETE /v1/secrets/{name}", answer)?;
    printer.note(&format!("removed {name}{}", keeping.elsewhere()));
    match (&keeping, cut) {
        (Keeping::Here(_), _) => printer.note("runs under way on this machine keep what they read"),
        (Keeping::Server(..), Some(1)) => printer.note("1 request under way was cut"),
        (Keeping::Server(..), Some(cut)) => printer.note(&format!("{cut} requests under way were cut")),
        (Keeping::Server(..), None) => {
            printer.note("requests under way end with what they began with; --now would have cut them");
        }
    }
    Ok(())
}

/// There is no secret of this name.
pub(super) fn missing(name: &SecretName) -> Failure {
    Failure::usage("secret_missing", format!("the vault holds no {name}")).hint("orch secrets list")
}

/// Whoever looks at what there is, or removes it, does not want to set it.
fn told(failure: Failure, name: &SecretName) -> Failure {
    if failure.code() == "secret_missing" { missing(name) } else { failure }
}

impl Uses {
    /// What is said before the question.
    fn lines(&self) -> Vec<String> {
        let Self { secret, granted, agents, under_way } = self;
        let used = match secret.last_used.as_deref() {
            None => "never used".to_owned(),
            Some(text) => match read(text) {
                Some(at) => format!("last used {} ago", short(time::OffsetDateTime::now_utc() - at)),
                None => format!("last used {text}"),
            },
        };
        let goes = if secret.goes_nowhere() {
            "goes nowhere yet".to_owned()
        } else {
            format!("goes to {}", secret.destination())
        };
        let mut lines = vec![format!("{}, version {}: {goes}; {used}", secret.name, secret.version)];
        if !granted.is_empty() {
            let list: Vec<String> = granted.iter().map(Granted::text).collect();
            lines.push(format!("granted to {}", list.join(", ")));
        }
        if !agents.is_empty() {
            let list: Vec<String> =
                agents.iter().map(|agent| format!("{} {}", agent.name, agent.version)).collect();
            lines.push(format!("asked for by {}", list.join(", ")));
        }
        match under_way.as_deref() {
            None => {}
            Some([]) => lines.push("no run under way uses it".to_owned()),
            Some(runs) => lines.push(format!("used by runs under way: {}", runs.join(", "))),
        }
        if granted.is_empty() && agents.is_empty() {
            lines.push("no agent that is known here was granted it or asks for it".to_owned());
        }
        lines
    }
}

impl Granted {
    fn text(&self) -> String {
        let toward = self.host.as_ref().map(|host| format!(" toward {host}")).unwrap_or_default();
        let by = match self.by.as_str() {
            "secret" => "",
            "workspace" => " (by the workspace)",
            _ => " (remembered)",
        };
        format!("{}{toward}{by}", self.agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_missed_is_said_line_by_line() {
        let mut document = json!({
            "name": "TOKEN", "version": 3, "mask": null, "updated": "", "expires": null, "expired": false,
            "last_used": null, "provider": null, "grants": [], "scrubbable": true, "never_in_header": false,
            "granted": [], "agents": [], "under_way": null,
        });
        let said = |document: &serde_json::Value| {
            let uses: Uses = serde_json::from_value(document.clone()).expect("the contract's words");
            uses.lines().join("\n")
        };
        insta::assert_snapshot!(said(&document), @r"
        TOKEN, version 3: goes nowhere yet; never used
        no agent that is known here was granted it or asks for it
        ");
        document["granted"] = json!([
            { "agent": "acme/x", "by": "secret", "host": "a.example" },
            { "agent": "acme/y", "by": "workspace", "host": "b.example" },
            { "agent": "acme/z", "by": "remembered", "host": "b.example" },
        ]);
        document["agents"] = json!([{ "name": "acme/x", "version": "1.0.0" }]);
        document["under_way"] = json!(["run_1", "run_2"]);
        insta::assert_snapshot!(said(&document), @r"
        TOKEN, version 3: goes nowhere yet; never used
        granted to acme/x toward a.example, acme/y toward b.example (by the workspace), acme/z toward b.example (remembered)
        asked for by acme/x 1.0.0
        used by runs under way: run_1, run_2
        ");
    }
}
