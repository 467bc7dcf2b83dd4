//! What is on record of each request: `orch logs`, `orch usage`, `/v1/logs` and `/v1/usage`, and who may see it.

use std::time::{Duration, Instant};

use orch_tests::fakes::Failure;
use orch_tests::needle::{self, Needle};
use orch_tests::server::{Answer, Server, request};
use serde_json::{Value, json};

use crate::stage::{
    INPUT, Mode, OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai, orch, summarizer, summary,
};

/// Much longer than a record takes to be on disk.
const BOUND: Duration = Duration::from_secs(30);

/// A server with OpenAI's key in its vault.
struct Ground {
    stage: Stage,
    server: Server,
}

impl Ground {
    fn new() -> Self {
        Self::of(Stage::cold())
    }

    fn of(stage: Stage) -> Self {
        stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
        let server = Server::start(PROGRAM, &stage.home);
        Self { stage, server }
    }

    /// A new token: its id and its text.
    fn token(&self, name: &str, scopes: &[&str], workspace: &str) -> (String, String) {
        let body = json!({ "name": name, "scopes": scopes, "workspace": workspace });
        let made = self.server.ask("POST", "/v1/tokens", Some(&body)).expect(201).json();
        let text = |field: &str| made[field].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text("id"), text("token"))
    }

    fn chat(&self, token: &str, body: &Value) -> Answer {
        self.server.ask_as(Some(token), "POST", "/v1/chat/completions", Some(body))
    }

    fn get(&self, token: &str, path: &str) -> Answer {
        self.server.ask_as(Some(token), "GET", path, None)
    }

    /// The requests at a path, once there are so many of them.
    #[track_caller]
    fn requests(&self, token: &str, path: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + BOUND;
        loop {
            let answer = self.get(token, path).expect(200).json();
            let found = answer["requests"].as_array().unwrap_or_else(|| panic!("{answer:#}")).clone();
            if found.len() == count {
                return found;
            }
            assert!(found.len() < count && Instant::now() < deadline, "{path}: {answer:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `orch` of this home with arguments, as JSON.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        self.stage.orch(args.iter().copied()).arg("--json").run().expect(0).json()
    }
}

fn hello(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] })
}

fn id_of(answer: &Answer) -> String {
    answer.header("x-request-id").expect("a name").to_owned()
}

#[test]
fn each_request_of_a_client_is_on_record_however_it_ends() {
    let ground = Ground::new();
    let (id, token) = ground.token("laptop", &["llm"], "default");
    let served = ground.chat(&token, &hello("gpt-4o-mini"));
    assert_eq!(served.status, 200);
    let mut streaming = hello("gpt-4o-mini");
    streaming["stream"] = json!(true);
    let streamed = ground.chat(&token, &streaming);
    ground.stage.openai.script([fake_openai().failure(Failure::BadKey)]);
    let rejected = ground.chat(&token, &hello("gpt-4o-mini"));
    // Refused before anybody is asked: by its form, and for want of such a model.
    let broken = ground.chat(&token, &json!({ "model": "gpt-4o-mini" }));
    let unknown = ground.chat(&token, &hello("nobody-has-it"));

    let all = ground.requests(&token, "/v1/logs", 5);
    let of = |answer: &Answer| {
        let id = id_of(answer);
        all.iter().find(|request| request["request_id"] == *id).unwrap_or_else(|| panic!("{id}: {all:#?}"))
    };
    for request in &all {
        assert_eq!(request["token"], json!({ "id": id, "name": "laptop" }), "{request:#}");
        assert_eq!((&request["run"], &request["agent"]), (&Value::Null, &Value::Null), "{request:#}");
        assert_eq!(request["member"], "laptop", "{request:#}");
        assert!(request["latency_ms"].is_u64() && request["time"].is_string(), "{request:#}");
    }
    let record = of(&served);
    assert_eq!((&record["status"], &record["class"]), (&json!("served"), &Value::Null), "{record:#}");
    assert_eq!((&record["provider"], &record["model"]), (&json!("openai"), &json!("gpt-4o-mini")));
    assert_eq!(record["model_asked"], "gpt-4o-mini");
    let mask = &OPENAI_KEY[OPENAI_KEY.len() - 4..];
    assert_eq!(
        record["credential"],
        json!({ "id": "OPENAI_API_KEY", "source": "vault", "mask": mask, "billing": "team" }),
        "{record:#}"
    );
    assert!(record["input_tokens"].as_u64() > Some(0) && record["cost_usd"].as_f64() > Some(0.0));
    assert_eq!(record["first_token_ms"], Value::Null, "a whole answer has no first token");
    let record = of(&streamed);
    assert!(record["first_token_ms"].as_u64() <= record["latency_ms"].as_u64(), "{record:#}");
    assert!(record["first_token_ms"].is_u64() && record["status"] == "served", "{record:#}");
    let record = of(&rejected);
    assert_eq!(
        (&record["status"], &record["class"]),
        (&json!("all_failed"), &json!("bad_key")),
        "{record:#}"
    );
    assert_eq!(
        (&record["attempts"][0]["class"], &record["attempts"][0]["status"]),
        (&json!("bad_key"), &json!(401))
    );
    let record = of(&broken);
    assert_eq!(
        (&record["status"], &record["class"]),
        (&json!("rejected"), &json!("bad_request")),
        "{record:#}"
    );
    assert_eq!((&record["attempts"], &record["credential"]), (&json!([]), &Value::Null), "{record:#}");
    let record = of(&unknown);
    assert_eq!((&record["class"], &record["model_asked"]), (&json!("no_model"), &json!("nobody-has-it")));

    // Each filter by itself, over HTTP and on the command line.
    let count = |query: &str, count: usize| ground.requests(&token, &format!("/v1/logs?{query}"), count);
    count("status=served", 2);
    count("status=failed", 3);
    count("class=no_model", 1);
    count("credential=OPENAI_API_KEY", 3);
    count("provider=openai&status=served", 2);
    count("model=nobody-has-it", 1);
    count("billing=team", 3);
    count("billing=platform", 0);
    count("token=laptop", 5);
    count(&format!("token={id}"), 5);
    count("token=other", 0);
    count("since=2020-01-01&until=2020-01-02", 0);
    let listed = ground.json(&["logs", "--status", "all_failed", "--since", "1h"]);
    assert_eq!(listed["requests"].as_array().map(Vec::len), Some(1), "{listed:#}");
    let one = ground.json(&["logs", &id_of(&rejected)]);
    assert_eq!(one["receipt"]["attempts"][0]["class"], "bad_key", "{one:#}");
    assert_eq!(one["bodies"], Value::Null, "{one:#}");
    let told = ground.stage.orch(["logs", &id_of(&rejected)]).run().expect(0);
    assert!(told.stdout().contains("all_failed: bad_key") && told.stdout().contains("laptop"), "{told}");
    for (query, field) in [
        ("status=ok", "status"),
        ("class=x", "class"),
        ("billing=me", "billing"),
        ("format=xml", "format"),
        ("x=1", "x"),
    ] {
        let refused = ground.get(&token, &format!("/v1/logs?{query}")).expect(400).json();
        assert_eq!(refused["error"]["details"]["field"], field, "{refused}");
    }
    needle::none(&ground.stage.home.search(&Needle::new("messages\":[{\"role")));
}

#[test]
fn a_stream_that_is_cut_is_on_record_with_what_it_cost() {
    let ground = Ground::new();
    let (_, token) = ground.token("laptop", &["llm"], "default");
    ground.stage.openai.script([fake_openai().failure(Failure::CutInContent)]);
    let mut streaming = hello("gpt-4o-mini");
    streaming["stream"] = json!(true);
    ground.chat(&token, &streaming);
    let record = ground.requests(&token, "/v1/logs", 1).remove(0);
    assert_eq!((&record["status"], &record["class"]), (&json!("broken"), &json!("truncated")), "{record:#}");
    assert!(record["first_token_ms"].is_u64() && record["estimated"] == true, "{record:#}");
    assert!(record["output_tokens"].as_u64() > Some(0), "{record:#}");
}

/// The calls of a run are its asker's, in each place where runs take place that keep records.
fn calls_of_a_run_are_on_record(mode: Mode) {
    let stage = Stage::cold();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let report = summary(stage.run_in(mode, agent.path(), INPUT).run(), OPENAI_SAYS);
    let run = report["run_id"].as_str().expect("an id");
    let listed = stage.orch(["logs", "--of-run", run, "--json"]).run().expect(0).json();
    let record = &listed["requests"][0];
    assert_eq!((&record["run"], &record["agent"]), (&json!(run), &json!("test/summarizer")), "{listed:#}");
    assert_eq!(record["token"], json!({ "id": "owner", "name": "owner" }), "{record:#}");
    assert_eq!(record["request_id"], report["calls"][0]["request_id"], "{record:#}");
    assert_eq!(record["credential"]["billing"], "team", "{record:#}");
    assert!(record["first_token_ms"].is_u64(), "the summarizer streams: {record:#}");
    // Its log is another matter.
    let log = stage.orch(["logs", run]).run().expect(0);
    assert!(log.stdout().contains(OPENAI_SAYS), "{log}");
    let latest = stage.orch(["logs", "latest"]).run().expect(0);
    assert_eq!(latest.stdout(), log.stdout());
    let usage = stage.orch(["usage", "--by", "key", "--json"]).run().expect(0).json();
    assert_eq!(
        (&usage["rows"][0]["key"], &usage["rows"][0]["runs"]),
        (&json!("OPENAI_API_KEY"), &json!(1)),
        "{usage:#}"
    );
    let listed = stage.orch(["secrets", "list", "--json"]).run().expect(0).json();
    let secret = &listed["secrets"][0];
    assert!(secret["last_call"].is_string(), "{secret:#}");
    assert!(secret["spent"]["total_usd"].as_f64() > Some(0.0), "{secret:#}");
    assert_eq!(secret["spent"]["today_usd"], secret["spent"]["month_usd"], "{secret:#}");

    // A key that came with the run is its asker's own.
    stage.run_in(mode, agent.path(), INPUT).args(["--key", &format!("openai={OPENAI_KEY}")]).run().expect(0);
    let usage = stage.orch(["usage", "--by", "billing", "--json"]).run().expect(0).json();
    let keys: Vec<&str> =
        usage["rows"].as_array().into_iter().flatten().filter_map(|row| row["key"].as_str()).collect();
    assert_eq!(keys, ["own", "team"], "{usage:#}");
}

#[test]
fn calls_of_a_run_are_on_record_embedded() {
    calls_of_a_run_are_on_record(Mode::Embedded);
}

#[test]
fn calls_of_a_run_are_on_record_on_a_server() {
    calls_of_a_run_are_on_record(Mode::Served);
}

/// Attacks on the line between workspaces, and on that between tokens of one.
#[test]
fn nobody_sees_what_is_not_theirs() {
    let ground = Ground::new();
    let theirs = ground.token("theirs", &["admin"], "other");
    let admin = ground.token("boss", &["admin"], "default").1;
    let (one_id, one) = ground.token("one", &["llm"], "default");
    let (_, two) = ground.token("two", &["llm", "run"], "default");
    let (_, keys) = ground.token("keys", &["secrets"], "default");
    for token in [&one, &two] {
        assert_eq!(ground.chat(token, &hello("gpt-4o-mini")).status, 200);
    }
    // The other workspace has no key: what it asks is refused, and on its own record.
    let refused = ground.chat(&theirs.1, &hello("gpt-4o-mini"));
    assert_ne!(refused.status, 200);
    let ours = ground.requests(&admin, "/v1/logs", 2);
    let their_own = ground.requests(&theirs.1, "/v1/logs", 1);
    assert_eq!(their_own[0]["request_id"], *id_of(&refused), "{their_own:#?}");

    let of_one = ground.requests(&one, "/v1/logs", 1).remove(0);
    assert_eq!(of_one["token"]["id"], *one_id, "{of_one:#}");
    let foreign = ours[0]["request_id"].as_str().expect("a name");
    let of_two = ours.iter().find(|request| request["token"]["name"] == "two").expect("of the second");
    let of_two = of_two["request_id"].as_str().expect("a name");
    for query in [
        "workspace=".to_owned(),
        format!("token={one_id}"),
        "token=one".to_owned(),
        "token=%27%20OR%20%271%27=%271".to_owned(),
        "workspace=other".to_owned(),
    ] {
        let found = ground.get(&theirs.1, &format!("/v1/logs?{query}")).expect(200).json();
        let foreign =
            found["requests"].as_array().into_iter().flatten().any(|r| r["token"]["name"] != "theirs");
        assert!(!foreign, "{query}: {found:#}");
    }
    // Naming another workspace is the operator's.
    for path in
        ["/v1/logs?workspace=default", "/v1/usage?workspace=default", "/v1/usage?by=key&workspace=default"]
    {
        let error = ground.get(&theirs.1, path).expect(403).json();
        assert_eq!(error["error"]["code"], "forbidden", "{path}: {error}");
        ground.get(&one, path).expect(200);
    }
    ground.get(&one, "/v1/logs?workspace=other").expect(403);
    let operators = ground.get(&admin, "/v1/logs?workspace=other").expect(200).json();
    assert_eq!(operators["requests"][0]["token"]["name"], "theirs", "{operators:#}");

    // By name, and as a place in a list: what is not theirs is not there.
    for (token, request) in [(&theirs.1, foreign), (&one, of_two)] {
        let error = ground.get(token, &format!("/v1/logs/{request}")).expect(404).json();
        let missing = ground.get(token, "/v1/logs/req_aaaaaaaaaaaaaaaa").expect(404).json();
        assert_eq!(error["error"]["message"], missing["error"]["message"], "{error}");
        for place in ["before", "after"] {
            let error = ground.get(token, &format!("/v1/logs?{place}={request}")).expect(400).json();
            assert_eq!(error["error"]["code"], "cursor_invalid", "{place}: {error}");
        }
    }
    ground.get(&admin, &format!("/v1/logs/{of_two}")).expect(200);
    ground.get(&two, &format!("/v1/logs/{of_two}")).expect(200);

    // Sums are everybody's for admins alone: between two moments they are one request.
    let by = |token: &str, by: &str| ground.get(token, &format!("/v1/usage?by={by}")).expect(200).json();
    assert_eq!(by(&one, "member")["rows"][0]["key"], "one");
    for what in ["token", "key", "member", "model", "provider", "agent", "billing", "day"] {
        assert_eq!(by(&one, what)["total"]["calls"], 1, "{what}");
        assert_eq!(by(&admin, what)["total"]["calls"], 2, "{what}");
    }
    let names: Vec<Value> =
        by(&admin, "token")["rows"].as_array().into_iter().flatten().map(|row| row["name"].clone()).collect();
    assert!(names.len() == 2 && names.contains(&json!("one")) && names.contains(&json!("two")), "{names:?}");
    assert_eq!(by(&one, "token")["rows"][0]["name"], "one");
    assert_eq!(by(&theirs.1, "key")["total"]["cost_usd"], 0.0, "nothing of ours");

    // Other scopes see none of it, and the log of a run is for those who run.
    ground.get(&keys, "/v1/logs").expect(403);
    ground.get(&keys, "/v1/usage").expect(403);
    ground.get(&one, "/v1/logs?run=latest").expect(403);
    ground.get(&two, "/v1/logs?run=latest").expect(404);
    let secrets = ground.get(&keys, "/v1/secrets").expect(200).json();
    assert!(secrets["secrets"][0]["spent"]["total_usd"].as_f64() > Some(0.0), "{secrets:#}");
    let nobody = request(ground.server.address(), None, "GET", "/v1/logs", b"").expect("an answer");
    assert_eq!(nobody.status, 401);
}

#[test]
fn requests_come_in_pages_as_json_and_as_csv() {
    let ground = Ground::new();
    // A name that a spreadsheet would calculate, and a model that needs quotes.
    let (_, token) = ground.token("=1+1", &["llm", "run"], "default");
    for model in ["gpt-4o-mini", "a,\"b\"", "=cmd|x", "gpt-4o-mini", "gpt-4o-mini"] {
        ground.chat(&token, &hello(model));
    }
    let all = ground.requests(&token, "/v1/logs", 5);
    let (mut seen, mut path) = (Vec::new(), "/v1/logs?limit=2".to_owned());
    loop {
        let page = ground.get(&token, &path).expect(200).json();
        seen.extend(page["requests"].as_array().expect("a list").iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/logs?limit=2&before={next}");
    }
    assert_eq!(seen, all);
    let newest = all[0]["request_id"].as_str().expect("a name");
    let later = ground.get(&token, &format!("/v1/logs?after={newest}")).expect(200).json();
    assert_eq!(later["requests"], json!([]), "{later:#}");

    let csv = ground.get(&token, "/v1/logs?format=csv&limit=4").expect(200);
    assert!(csv.header("content-type").is_some_and(|kind| kind.starts_with("text/csv")), "{csv:?}");
    assert!(csv.header("x-next").is_some(), "{csv:?}");
    let csv = ground.get(&token, "/v1/logs?format=csv").expect(200);
    let text = String::from_utf8(csv.body).expect("text");
    let here = orch(&ground.stage.home).args(["logs", "--csv"]).run().expect(0);
    assert_eq!(here.stdout(), text, "the same over HTTP and on the command line");
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("time,request_id,run,agent,token_id,token,member,credential,"), "{text}");
    assert_eq!(lines.len(), 7, "a header, five rows, and the end: {text}");
    assert!(lines[1..6].iter().all(|line| line.contains(",'=1+1,")), "{text}");
    assert!(text.contains(",\"a,\"\"b\"\"\",") && text.contains(",'=cmd|x,"), "{text}");
    let usage = ground.stage.orch(["usage", "--by", "token", "--csv"]).run().expect(0);
    let over_http = ground.server.ask("GET", "/v1/usage?by=token&format=csv", None).expect(200);
    assert_eq!(usage.stdout().as_bytes(), over_http.body);
    let usage = usage.stdout();
    let (header, row) = usage.split_once("\r\n").expect("lines");
    assert_eq!(header, "token,name,runs,calls,failed,input_tokens,output_tokens,cost_usd,platform_cost_usd");
    assert!(row.contains(",'=1+1,0,5,2,"), "{usage}");
    for args in [["logs", "--csv"], ["usage", "--csv"]] {
        let both = ground.stage.orch(args).arg("--json").run().expect(2).silent();
        assert_eq!(both.error()["code"], "bad_usage", "{both}");
    }
}

#[test]
fn requests_are_followed_as_they_come() {
    let ground = Ground::new();
    let (_, token) = ground.token("laptop", &["llm"], "default");
    let first = id_of(&ground.chat(&token, &hello("gpt-4o-mini")));
    ground.requests(&token, "/v1/logs", 1);
    let follower = ground.stage.orch(["logs", "--follow", "--json"]).start();
    let line: Value = serde_json::from_str(&follower.first_line()).expect("JSON");
    assert_eq!(line["request_id"], *first, "{line:#}");
    let second = id_of(&ground.chat(&token, &hello("gpt-4o-mini")));
    follower.wait_prints(&second);
}

#[test]
fn bodies_are_kept_where_a_workspace_wants_that_and_hold_no_key() {
    const SAID: &str = "What the harbour master whispered";
    let mut stage = Stage::cold();
    let bodies = json!({ "bodies": { "default": { "keep": "1h", "size": "4KiB" } } });
    stage.configure(|config| config.records(bodies));
    let ground = Ground::of(stage);
    let (_, token) = ground.token("laptop", &["llm"], "default");
    let (_, two) = ground.token("two", &["llm"], "default");
    let theirs = ground.token("theirs", &["admin", "llm"], "other").1;
    let mut asking = hello("gpt-4o-mini");
    // Whoever pastes a key into a conversation has it there in several spellings.
    let hex: String = OPENAI_KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let strange = "sk-ant-api03-0123456789abcdefABCDEF0123456789";
    asking["messages"][0]["content"] = json!(format!("{SAID} {OPENAI_KEY} {hex} {strange}"));
    let answer = ground.chat(&token, &asking);
    assert_eq!(answer.status, 200);
    let mut streaming = asking.clone();
    streaming["stream"] = json!(true);
    let streamed = ground.chat(&token, &streaming);
    let mut long = hello("gpt-4o-mini");
    long["messages"][0]["content"] = json!(format!("{} {OPENAI_KEY}", "x ".repeat(2018)));
    let long = ground.chat(&token, &long);
    ground.requests(&token, "/v1/logs", 3);

    let shown = |token: &str, answer: &Answer| {
        ground.get(token, &format!("/v1/logs/{}", id_of(answer))).expect(200).json()
    };
    // What was said is on record after the call itself.
    let deadline = Instant::now() + BOUND;
    let kept = |token: &str, answer: &Answer| loop {
        let record = shown(token, answer);
        if !record["bodies"].is_null() {
            return record;
        }
        assert!(Instant::now() < deadline, "{record:#}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let record = kept(&token, &answer);
    let body =
        |record: &Value, which: &str| record["bodies"][which]["text"].as_str().unwrap_or_default().to_owned();
    assert!(body(&record, "request").contains(SAID), "{record:#}");
    assert!(body(&record, "answer").contains(OPENAI_SAYS), "{record:#}");
    assert_eq!(
        (&record["bodies"]["request"]["cut"], &record["bodies"]["answer"]["cut"]),
        (&json!(false), &json!(false))
    );
    assert!(body(&kept(&token, &streamed), "answer").contains("[DONE]"));
    let cut = kept(&token, &long);
    assert_eq!(cut["bodies"]["request"]["cut"], true, "{cut:#}");
    assert!(cut["bodies"]["request"]["bytes"].as_u64() > Some(4096), "{cut:#}");
    assert!(body(&cut, "request").len() <= 4096, "{cut:#}");
    for key in [OPENAI_KEY, &hex, strange, &OPENAI_KEY[..20]] {
        for record in [&record, &shown(&token, &streamed), &cut] {
            assert!(!record.to_string().contains(key), "{key} in {record:#}");
        }
        needle::none(&ground.stage.home.search(&Needle::new(key)));
    }
    // It is said.
    let list = ground.get(&token, "/v1/logs").expect(200).json();
    assert!(list["bodies"].as_str().is_some_and(|said| said.contains("kept for 1h")), "{list:#}");
    let told = ground.stage.orch(["logs"]).run().expect(0);
    assert!(told.stderr().contains("kept for 1h"), "{told}");
    let told = ground.stage.orch(["logs", &id_of(&answer)]).run().expect(0);
    assert!(told.stdout().contains(SAID), "{told}");
    let agent = summarizer(&["gpt-4o-mini"]);
    let run = ground.stage.orch(["run", "--input", INPUT]).arg(agent.path()).run().expect(0);
    assert!(run.stderr().contains("kept for 1h"), "{run}");
    let of_run = ground.server.ask("GET", "/v1/logs?agent=test/summarizer", None).expect(200).json();
    let of_run = of_run["requests"][0]["request_id"].as_str().expect("a name").to_owned();
    let of_run = ground.server.ask("GET", &format!("/v1/logs/{of_run}"), None).expect(200).json();
    assert!(body(&of_run, "request").contains("Ships came"), "{of_run:#}");

    // Others do not see them, and other workspaces have none.
    ground.get(&two, &format!("/v1/logs/{}", id_of(&answer))).expect(404);
    ground.get(&theirs, &format!("/v1/logs/{}", id_of(&answer))).expect(404);
    let other = ground.chat(&theirs, &asking);
    ground.requests(&theirs, "/v1/logs", 1);
    assert_eq!(shown(&theirs, &other)["bodies"], Value::Null);
}

#[test]
fn bodies_are_not_kept_unless_somebody_wants_that() {
    const SAID: &str = "What nobody writes down";
    let ground = Ground::new();
    let (_, token) = ground.token("laptop", &["llm"], "default");
    let mut asking = hello("gpt-4o-mini");
    asking["messages"][0]["content"] = json!(SAID);
    let answer = ground.chat(&token, &asking);
    ground.requests(&token, "/v1/logs", 1);
    let record = ground.get(&token, &format!("/v1/logs/{}", id_of(&answer))).expect(200).json();
    assert_eq!(record["bodies"], Value::Null, "{record:#}");
    needle::none(&ground.stage.home.search(&Needle::new(SAID)));
}
