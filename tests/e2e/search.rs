//! Web search by agents themselves: asked for, granted, and the key put in by the proxy for the provider's calls alone.

use orch_tests::ca::Ca;
use orch_tests::guests::Agent;
use orch_tests::home::{Config, Home};
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{guest, orch, refused};

/// How a provider of web search wants to be asked.
struct Row {
    slug: &'static str,
    host: &'static str,
    call: (&'static str, &'static str),
    /// The header of the key, and what stands before it.
    auth: (&'static str, &'static str),
    env: &'static str,
    /// A path of the same host that is no search.
    other: &'static str,
}

const ROWS: [Row; 5] = [
    Row {
        slug: "tavily",
        host: "api.tavily.com",
        call: ("POST", "/search"),
        auth: ("authorization", "Bearer "),
        env: "TAVILY_API_KEY",
        other: "/usage",
    },
    Row {
        slug: "exa",
        host: "api.exa.ai",
        call: ("POST", "/search"),
        auth: ("x-api-key", ""),
        env: "EXA_API_KEY",
        other: "/websets",
    },
    Row {
        slug: "kagi",
        host: "kagi.com",
        call: ("POST", "/api/v1/search"),
        auth: ("authorization", "Bearer "),
        env: "KAGI_API_KEY",
        other: "/api/v0/summarize",
    },
    Row {
        slug: "perplexity",
        host: "api.perplexity.ai",
        call: ("POST", "/search"),
        auth: ("authorization", "Bearer "),
        env: "PERPLEXITY_API_KEY",
        other: "/async/chat/completions",
    },
    Row {
        slug: "valyu",
        host: "api.valyu.ai",
        call: ("POST", "/v1/search"),
        auth: ("x-api-key", ""),
        env: "VALYU_API_KEY",
        other: "/v1/other",
    },
];

/// What may come with a search, beside the header of the key.
const HEADERS: [&str; 7] = [
    "host",
    "accept",
    "accept-encoding",
    "content-type",
    "content-length",
    "transfer-encoding",
    "user-agent",
];

struct Searching {
    home: Home,
    upstream: Upstream,
    agent: Agent,
    ca: Ca,
}

impl Searching {
    fn new(row: &Row) -> Self {
        let (home, ca) = (Home::new(), Ca::new());
        let answer = |request: &Received| Reply::json(200, &json!({ "results": [], "asked": request.path }));
        let upstream = Upstream::https(&ca, &[row.host], answer);
        home.configure(
            &Config::trusting(&ca, &home).connect(&format!("{}:443", row.host), upstream.address()),
        );
        let agent = guest("wanderer", &json!({ "search": [row.slug] }));
        Self { home, upstream, agent, ca }
    }

    fn run(&self, row: &Row, targets: &[(&str, &str)]) -> Orch {
        let (header, scheme) = row.auth;
        let requests: Vec<Value> = targets
            .iter()
            .map(|(method, target)| {
                let mut headers = vec![[header.to_owned(), format!("{scheme}${{{}}}", row.env)]];
                let mut request = json!({ "method": method, "url": format!("https://{}{target}", row.host) });
                if *method == "POST" {
                    headers.push(["content-type".to_owned(), "application/json".to_owned()]);
                    request["body"] = json!(json!({ "query": "ships" }).to_string());
                }
                request["headers"] = json!(headers);
                request
            })
            .collect();
        let input = json!({ "requests": requests }).to_string();
        orch(&self.home).args(["run", "--local", "--json"]).arg(self.agent.path()).args(["--input", &input])
    }
}

fn key(row: &Row) -> String {
    format!("key-of-{}-0123456789abcdef", row.slug)
}

fn each(test: impl Fn(&Row, &Searching)) {
    for row in &ROWS {
        test(row, &Searching::new(row));
    }
}

#[test]
fn a_granted_search_gets_the_key_at_the_provider_scalls_and_nowhere_else() {
    each(|row, searching| {
        let grant = format!("search:{}", row.slug);
        let targets = [row.call, ("POST", row.other)];
        let outcome =
            searching.run(row, &targets).args(["--grant", &grant]).env(row.env, key(row)).run().expect(0);
        let results = outcome.json()["output"]["results"].clone();
        assert_eq!(results[0]["status"], 200, "{outcome}");
        assert!(refused(&results[1]), "{outcome}");
        let request = searching.upstream.only();
        let target = match &request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.clone(),
        };
        assert_eq!((request.method.as_str(), target.as_str()), row.call);
        let (header, scheme) = row.auth;
        assert_eq!(request.header(header), Some(format!("{scheme}{}", key(row)).as_str()));
        assert_eq!(request.json(), json!({ "query": "ships" }));
        let known = |sent: &str| {
            HEADERS.iter().any(|known| known.eq_ignore_ascii_case(sent)) || header.eq_ignore_ascii_case(sent)
        };
        let stray: Vec<_> = request.headers.iter().filter(|(sent, _)| !known(sent)).collect();
        assert!(stray.is_empty(), "{stray:?}");
        searching.upstream.never_saw(b"orch_ph_");
        assert!(!outcome.stdout().contains(&key(row)), "the agent has seen the key");
    });
}

/// The key goes with the calls that are listed, in their one spelling and by their one method.
#[test]
fn no_other_spelling_of_a_path_gets_the_key() {
    let row = &ROWS[0];
    let searching = Searching::new(row);
    let targets = [
        ("GET", "/search"),
        ("POST", "/Search"),
        ("POST", "/search/"),
        ("POST", "/search/../usage"),
        ("POST", "/search%2F..%2Fusage"),
        ("POST", "/search/more"),
        ("POST", "/search;x=1"),
        ("GET", "/usage"),
    ];
    let run = searching.run(row, &targets).args(["--grant", "search:tavily"]);
    let outcome = run.env(row.env, key(row)).run().expect(0);
    for (at, (method, target)) in targets.iter().enumerate() {
        let result = &outcome.json()["output"]["results"][at];
        assert!(refused(result), "{method} {target}: {result:#}");
    }
    assert!(searching.upstream.received().is_empty(), "{:?}", searching.upstream.received());
}

/// What stands in a query is the agent's affair: it arrives as it was written, and changes nothing of where it goes.
#[test]
fn a_query_arrives_as_it_was_written() {
    let row = &ROWS[2];
    let searching = Searching::new(row);
    let query = "q=100%25%20%26%20more%23%2F..%2F&token=Gr%C3%BC%C3%9Fe";
    let target = format!("/api/v0/search?{query}");
    let outcome = searching
        .run(row, &[("GET", &target)])
        .args(["--grant", "search:kagi"])
        .env(row.env, key(row))
        .run()
        .expect(0);
    assert_eq!(outcome.json()["output"]["results"][0]["status"], 200, "{outcome}");
    let request = searching.upstream.only();
    assert_eq!((request.path.as_str(), request.query.as_deref()), ("/api/v0/search", Some(query)));
    assert!(request.body.is_empty());
}

/// Perplexity has one key for both: a grant of one is none of the other.
#[test]
fn a_search_is_no_model_and_a_model_is_no_search() {
    let row = &ROWS[3];
    let mut searching = Searching::new(row);
    searching.agent =
        guest("wanderer", &json!({ "search": ["perplexity"], "supported_providers": ["openai"] }));
    let targets = [("POST", "/chat/completions"), row.call];
    let run = searching.run(row, &targets).args(["--grant", "search:perplexity"]);
    let openai = "sk-e2e-0123456789abcdef0123456789";
    let outcome = run.env(row.env, key(row)).env("OPENAI_API_KEY", openai).run().expect(0);
    let results = outcome.json()["output"]["results"].clone();
    assert_ne!(results[0]["status"], 200, "{outcome}");
    assert_eq!(results[1]["status"], 200, "{outcome}");
    assert_eq!(searching.upstream.only().path, "/search");

    let mut thinking = Searching::new(row);
    thinking.agent = guest("wanderer", &json!({ "supported_providers": ["perplexity"] }));
    let outcome = thinking.run(row, &[row.call]).env(row.env, key(row)).run().expect(0);
    assert!(refused(&outcome.json()["output"]["results"][0]), "{outcome}");
    thinking.upstream.never_saw(key(row).as_bytes());
}

#[test]
fn a_search_that_nobody_granted_or_that_has_no_key_starts_nothing() {
    let row = &ROWS[0];
    let searching = Searching::new(row);
    let refused = searching.run(row, &[row.call]).env(row.env, key(row)).run().expect(4).silent();
    let error = refused.error();
    assert_eq!(error["code"], "not_granted", "{refused}");
    assert_eq!(error["hints"][0], "--grant search:tavily", "{refused}");
    assert!(
        error["message"].as_str().is_some_and(|said| said.contains("search the web with the tavily key"))
    );

    let keyless = searching.run(row, &[row.call]).args(["--grant", "search:tavily"]).run().expect(3).silent();
    assert_eq!(keyless.error()["code"], "key_missing", "{keyless}");
    assert_eq!(keyless.error()["hints"][0], "orch secrets set TAVILY_API_KEY");
    searching.upstream.untouched();
}

#[test]
fn the_vault_s_key_serves_and_is_on_record() {
    let row = &ROWS[1];
    let searching = Searching::new(row);
    orch(&searching.home).args(["secrets", "set", row.env, "-"]).stdin(key(row)).run().expect(0);
    let outcome = searching.run(row, &[row.call]).args(["--grant", "search:exa"]).run().expect(0);
    assert_eq!(outcome.json()["output"]["results"][0]["status"], 200, "{outcome}");
    searching.upstream.took_key(&key(row));
    let audit = orch(&searching.home).args(["vault", "audit", "--json"]).run().expect(0);
    assert!(audit.stdout().contains("EXA_API_KEY") && audit.stdout().contains("api.exa.ai"), "{audit}");
}

/// Requests of agents themselves never go to an address that an operator named.
#[test]
fn a_provider_that_an_operator_moved_is_not_searched_with_and_that_is_said_before_anything_starts() {
    let row = &ROWS[3];
    let searching = Searching::new(row);
    let base_url = format!("https://{}", searching.upstream.address());
    searching.home.configure(&Config::trusting(&searching.ca, &searching.home).pin("perplexity", &base_url));
    let run = searching.run(row, &[row.call]).args(["--grant", "search:perplexity"]);
    let outcome = run.env(row.env, key(row)).run().expect(2).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "search_moved", "{outcome}");
    assert!(error["message"].as_str().is_some_and(|said| said.contains(&base_url[8..])), "{outcome}");
    assert!(error["hints"].to_string().contains("take `perplexity` out of `providers`"), "{outcome}");
    searching.upstream.untouched();
}

#[test]
fn who_is_no_provider_of_search_is_said_with_the_nearest() {
    let row = &ROWS[0];
    let searching = Searching::new(row);
    let fields = json!({ "search": ["tavely"] });
    let agent = guest("wanderer", &fields);
    let wrong = orch(&searching.home)
        .args(["run", "--local", "--json"])
        .arg(agent.path())
        .args(["--input", r#"{"requests":[]}"#])
        .run()
        .expect(2)
        .silent();
    let said = wrong.error().to_string();
    assert!(said.contains("search[0]") && said.contains("tavily"), "{wrong}");
}
