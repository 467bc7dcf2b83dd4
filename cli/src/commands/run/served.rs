//! A run on a server: the configured one, the one of this home, or one inside this process for this run alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use orch_manifests::{Catalog, Digest, Format, RunId};
use orch_server::{Agent, Answer, Failure, Kind, Remembered, refused_for_good};
use orch_vault::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::body::{self, Granted, Subject};
use super::follow::{Following, RunResource};
use super::question::{Asked, Asking};
use super::said::Said;
use super::terminal::Terminal;
use super::{Interrupts, interrupted_more_than, print};
use crate::agent_ref;
use crate::args::RunArgs;
use crate::client::{Client, json};
use crate::printer::Printer;
use crate::upload;
use crate::wire::{Installation, broken_pipe, with_client};

#[cfg(test)]
mod tests;

pub(super) fn run(args: &RunArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let said = Said::read(args, &here, printer)?;
    with_client(&here, async |client| {
        let interrupts = Interrupts::listen();
        let flow = Flow { here: &here, client, args, said: &said, printer, stop: interrupts.count.clone() };
        flow.go().await
    })
}

/// What a workspace's owner granted.
#[derive(Deserialize)]
struct Grants {
    grants: Vec<Grant>,
}

#[derive(Deserialize)]
struct Grant {
    digest: Digest,
    capabilities: Vec<String>,
}

/// One run, from the upload to the answer.
struct Flow<'a> {
    here: &'a Installation,
    client: &'a Client,
    args: &'a RunArgs,
    said: &'a Said,
    printer: Printer,
    stop: watch::Receiver<u8>,
}

impl Flow<'_> {
    async fn go(&self) -> Result<ExitCode, Failure> {
        self.check()?;
        let quiet = if self.said.stream { self.printer.without_status() } else { self.printer };
        let terminal = Terminal::new(quiet, self.stop.clone());
        let subject = tokio::select! {
            subject = self.subject() => subject?,
            () = interrupted_more_than(0, &self.stop) => return Err(before_the_start()),
        };
        let accepted = self.accepted(&subject, |asked| terminal.answer(asked)).await;
        quiet.erase_status();
        let accepted = accepted?;
        if self.args.detach {
            return self.detached(&accepted);
        }
        let following = Following {
            client: self.client,
            run: &accepted.id,
            terminal: &terminal,
            printer: self.printer,
            stop: self.stop.clone(),
        };
        let ended = following.to_end().await;
        terminal.finish();
        self.concluded(ended?).await
    }

    /// What only this side knows to be impossible.
    fn check(&self) -> Result<(), Failure> {
        if !self.said.mounts.is_empty() && !self.client.in_process() {
            return Err(Failure::usage(
                "mount_refused",
                format!(
                    "--mount hands over a folder of this machine, and {} runs agents elsewhere",
                    self.client.name()
                ),
            )
            .hint("run it here: add --local"));
        }
        if self.args.detach && self.client.in_process() {
            return Err(Failure::usage(
                "detach_needs_server",
                "--detach leaves the run to a server, and there is none: the run would end with this command",
            )
            .hint("start one: orch serve"));
        }
        Ok(())
    }

    /// What is run. What exists as a path is a path, and its module is uploaded.
    async fn subject(&self) -> Result<Subject, Failure> {
        let spec = &self.args.agent;
        let path = Path::new(spec);
        if !path.exists() {
            return match agent_ref::parse(spec) {
                Ok(name) => Ok(Subject::Name(name)),
                // Neither a path nor a name: what there could be instead is said as it is for a run here.
                Err(_) => Err(match Agent::load(spec, &self.here.catalog) {
                    Err(failure) => failure,
                    Ok(_) => Failure::defect(format!("{spec} is an agent without a name")),
                }),
            };
        }
        let agent = Agent::at(path)?;
        let module = upload::module(self.client, &agent.module, self.printer).await?;
        Ok(if agent.bare {
            Subject::Bare { module, name: agent.manifest.name.name().to_owned() }
        } else {
            let format = match agent.format {
                Format::Yaml => "yaml",
                Format::Json => "json",
            };
            Subject::Manifest { text: agent.text.to_string(), format, module }
        })
    }

    /// Asks the server until it accepts the run, or the person at the terminal does not grant what the agent wants.
    async fn accepted(
        &self,
        subject: &Subject,
        answer: impl Fn(&Asked) -> Answer,
    ) -> Result<RunResource, Failure> {
        let env_keys = self.env_keys();
        let mut granted: Option<Granted> = None;
        loop {
            let body = body::write(subject, self.said, &env_keys, granted.as_ref())?;
            let failure = match self.post(body).await {
                Ok(run) => return Ok(run),
                Err(failure) => failure,
            };
            let Some((asked, asking)) = Asked::in_refusal(&failure) else {
                return Err(self.with_hint(failure));
            };
            // Who is asked is the person here, whatever server it is for.
            let refused = Remembered::load(&self.here.home.grants_file())?;
            let refused = refused.refused(&asking.digest, &asked.wanted);
            if !refused.is_empty() {
                return Err(refused_for_good(&asked.agent, &asking.digest, &refused, &failure));
            }
            match answer(&asked) {
                Answer::Deny if *self.stop.borrow() > 0 => return Err(before_the_start()),
                Answer::Deny => return Err(failure),
                Answer::Never => {
                    Remembered::refuse(&self.here.home, &asking.name, asking.digest, &asked.wanted)?;
                    return Err(refused_for_good(&asked.agent, &asking.digest, &asked.wanted, &failure));
                }
                // To exactly what was asked about; what was answered before holds for that as well.
                Answer::Once => {
                    let before = granted.take().filter(|granted| granted.digest == asking.digest);
                    let before = before.map(|granted| granted.capabilities).unwrap_or_default();
                    let capabilities = before.into_iter().chain(asked.wanted).collect();
                    granted = Some(Granted { digest: asking.digest, capabilities });
                }
                Answer::Remember => self.remember(&asked, &asking).await?,
            }
        }
    }

    /// The first ctrl-c waits for the answer: the run may have begun, and is cancelled then.
    async fn post(&self, body: Bytes) -> Result<RunResource, Failure> {
        self.printer.status("asking for the run");
        tokio::select! {
            answered = self.client.post("/v1/runs", body) => answered,
            () = interrupted_more_than(1, &self.stop) => Err(Failure::new(
                Kind::Interrupted,
                "interrupted",
                "interrupted while the server was asked: it may have begun the run",
            )),
        }
    }

    /// Grants what was asked, beside what this same agent was granted before.
    async fn remember(&self, asked: &Asked, asking: &Asking) -> Result<(), Failure> {
        let before: Grants = self.client.get("/v1/grants").await?;
        let before = before.grants.into_iter().filter(|grant| grant.digest == asking.digest);
        let mut capabilities: BTreeSet<String> = before.flat_map(|grant| grant.capabilities).collect();
        capabilities.extend(asked.wanted.iter().cloned());
        let grant = json!({ "agent": asking.name.as_str(), "capabilities": capabilities });
        self.client.put::<Value>(&format!("/v1/grants/{}", asking.digest), json(&grant)?).await.map(drop)
    }

    /// Keys of this environment that go along. To a server on the network only when that was asked for.
    fn env_keys(&self) -> BTreeMap<String, Secret> {
        if self.said.simulate.is_some() {
            return BTreeMap::new();
        }
        let keys = self.keys_here();
        if !self.client.on_network() || self.args.keys.send_env_keys {
            return keys;
        }
        if let Some(hint) = stays_here(&keys, self.client.name()) {
            self.printer.note(&hint);
        }
        BTreeMap::new()
    }

    /// The keys of this environment that the server knows the names of.
    fn keys_here(&self) -> BTreeMap<String, Secret> {
        // The operator's providers are those of this home; a server elsewhere has others.
        let elsewhere = self.client.on_network().then(Catalog::builtin);
        self.here.env_keys(elsewhere.as_ref().unwrap_or(&self.here.catalog))
    }

    /// A key that is here and was not sent may be the one that is missing there.
    fn with_hint(&self, failure: Failure) -> Failure {
        let unsent = self.client.on_network() && !self.args.keys.send_env_keys;
        if failure.kind() == Kind::NoKey && unsent && !self.keys_here().is_empty() {
            return failure.hint("send the keys of this environment along: --send-env-keys");
        }
        failure
    }

    fn detached(&self, run: &RunResource) -> Result<ExitCode, Failure> {
        let RunResource { id, status, .. } = run;
        if self.printer.json() {
            self.printer.result_json(&json!({ "run_id": id.as_str(), "status": status }))
        } else {
            self.printer
                .note(&format!("it goes on at {}; see it with: orch logs {id} --follow", self.client.name()));
            self.printer.result(id.as_str())
        }
        .or_else(broken_pipe)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The answer of the run, or why there is none.
    async fn concluded(&self, run: RunResource) -> Result<ExitCode, Failure> {
        let RunResource { id, status, exit_code, error, mut report } = run;
        if status == "succeeded" {
            if report.is_none() {
                // The last event of an older server may leave it out.
                report = self.client.get_run::<RunResource>(&format!("/v1/runs/{id}")).await?.report;
            }
            let report = report.ok_or_else(|| self.without_end(&id, "succeeded without a report"))?;
            print(&report, self.said.stream, self.printer)?;
            return Ok(ExitCode::SUCCESS);
        }
        let error = error.ok_or_else(|| self.without_end(&id, &format!("is {status} without an error")))?;
        let failure = error.failure(exit_code.unwrap_or(Kind::Server.exit_code()));
        let has_report = failure.details().contains_key("run");
        let failure = failure.detail("run_id", id.as_str());
        Err(match report {
            Some(report) if !has_report => failure.detail("run", report),
            _ => failure,
        })
    }

    fn without_end(&self, id: &RunId, what: &str) -> Failure {
        self.client.unexpected("for the end of a run", &format!("a run that {what} ({id})"))
    }
}

/// Which keys were not sent, and how they are.
fn stays_here(keys: &BTreeMap<String, Secret>, server: &str) -> Option<String> {
    let names: Vec<&str> = keys.keys().map(String::as_str).collect();
    let (verb, them) = match names.len() {
        0 => return None,
        1 => ("stays", "it"),
        _ => ("stay", "them"),
    };
    Some(format!("{} {verb} here; --send-env-keys sends {them} to {server} for this run", names.join(", ")))
}

fn before_the_start() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted", "interrupted before the agent was started")
}
