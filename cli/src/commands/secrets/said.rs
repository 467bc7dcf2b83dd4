//! What the command line says about a secret. Whether it makes sense is for `orch_server::secrets` to say.

use orch_manifests::MicroUsd;
use orch_server::secrets::GrantSaid;
use orch_server::{Failure, Kind};
use orch_vault::{Secret, SecretName, ValuePlace};

use crate::args::{GrantFlags, SecretArg, ValueArgs};
use crate::printer::Printer;
use crate::value;
use crate::wire::Installation;

/// The value, from the one place that was named, else from the terminal without echo.
pub(super) fn read_value(
    here: &Installation,
    (verb, name): (&str, &SecretName),
    args: &ValueArgs,
    printer: Printer,
) -> Result<Secret, Failure> {
    let unreadable = |from: &str, e: &dyn std::fmt::Display| {
        Failure::usage("value_unreadable", format!("cannot read the value of {name} from {from}: {e}"))
    };
    if let Some(file) = &args.from_file {
        return value::from_file(file, printer).map_err(|e| unreadable(&file.display().to_string(), &e));
    }
    if args.from_env {
        return here.environment.key(name.as_str()).ok_or_else(|| {
            Failure::new(
                Kind::NoKey,
                "no_key",
                format!("the environment variable {name} is not set, or empty"),
            )
        });
    }
    match args.value.as_deref() {
        Some(SecretArg::Value(secret)) => {
            printer.warn(
                "a value on the command line stays in the shell's history and shows in the process list",
            );
            Ok(value::copy(secret))
        }
        Some(SecretArg::Stdin) => value::from_stdin(printer).map_err(|e| unreadable("standard input", &e)),
        None if printer.interactive() => {
            let text = rpassword::prompt_password(format!("Value of {name} (not shown): "))
                .map_err(|e| unreadable("the terminal", &e))?;
            Ok(Secret::new(text.into_bytes()))
        }
        None => Err(Failure::usage("bad_usage", format!("no value for {name}, and no terminal to ask on"))
            .hint(format!("orch secrets {verb} {name} - < FILE"))
            .hint(format!("orch secrets {verb} {name} --from-env"))),
    }
}

/// The grants that flags ask for, one for each host; none when no flag says anything.
///
/// # Errors
/// A place or an amount of money that is none.
pub(super) fn grants(flags: &GrantFlags) -> Result<Option<Vec<GrantSaid>>, Failure> {
    let GrantFlags { host, method, path, place, account, agent, runs, max_cost } = flags;
    let one = GrantSaid {
        host: None,
        methods: method.clone(),
        paths: path.clone(),
        place: place.as_deref().map(parse_place).transpose()?,
        account: account.clone(),
        agents: agent.clone(),
        runs: *runs,
        max_cost_usd: max_cost.as_deref().map(parse_money).transpose()?,
        expires: None,
    };
    let mut hosts: Vec<&String> = Vec::new();
    for host in host {
        if !hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
            hosts.push(host);
        }
    }
    Ok(match hosts.as_slice() {
        [] if one == GrantSaid::default() => None,
        [] => Some(vec![one]),
        hosts => {
            Some(hosts.iter().map(|&host| GrantSaid { host: Some(host.clone()), ..one.clone() }).collect())
        }
    })
}

fn parse_place(text: &str) -> Result<ValuePlace, Failure> {
    match text.split_once(':') {
        Some(("header", name)) => Ok(ValuePlace::Header(name.to_owned())),
        Some(("query", name)) if name.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(Failure::usage("bad_usage", format!("--in {text:?}: a parameter's name has no white space"))
                .hint("--in query:api_key"))
        }
        Some(("query", name)) => Ok(ValuePlace::Query(name.to_owned())),
        _ => Err(Failure::usage("bad_usage", format!("--in {text:?} is neither header:NAME nor query:NAME"))
            .hint("--in header:x-api-key")),
    }
}

fn parse_money(text: &str) -> Result<MicroUsd, Failure> {
    text.parse().map_err(|e| Failure::usage("bad_usage", format!("--max-cost: {e}")).hint("--max-cost 5.00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(host: &[&str]) -> GrantFlags {
        GrantFlags {
            host: host.iter().map(|&host| host.to_owned()).collect(),
            method: Vec::new(),
            path: Vec::new(),
            place: None,
            account: Vec::new(),
            agent: Vec::new(),
            runs: None,
            max_cost: None,
        }
    }

    #[test]
    fn a_place_is_a_header_or_a_parameter_of_the_query() {
        assert_eq!(
            parse_place("header:X-Api-Key").expect("a header"),
            ValuePlace::Header("X-Api-Key".into())
        );
        assert_eq!(parse_place("query:key").expect("a query"), ValuePlace::Query("key".into()));
        for bad in ["", "authorization", "body:x", "Header:x", "query:a b", "query:a\t"] {
            assert_eq!(parse_place(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn each_host_is_a_grant_and_all_have_the_rest() {
        assert_eq!(grants(&flags(&[])).expect("flags"), None);
        let said = GrantFlags { runs: Some(3), ..flags(&["a.example", "A.EXAMPLE", "b.example"]) };
        let grants = grants(&said).expect("flags").expect("grants");
        let hosts: Vec<_> = grants.iter().map(|grant| grant.host.as_deref()).collect();
        assert_eq!(hosts, [Some("a.example"), Some("b.example")]);
        assert!(grants.iter().all(|grant| grant.runs == Some(3)));
        let money = GrantFlags { max_cost: Some("0.50".into()), ..flags(&[]) };
        let money = super::grants(&money).expect("flags").expect("grants");
        assert_eq!((&money[0].host, money[0].max_cost_usd), (&None, Some(MicroUsd(500_000))));
        let bad = GrantFlags { max_cost: Some("much".into()), ..flags(&[]) };
        assert_eq!(super::grants(&bad).expect_err("no amount").code(), "bad_usage");
    }
}
