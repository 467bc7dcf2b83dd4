//! What people read when a manifest is wrong. Each text has to say what, where, and what to do.

use crate::{SUMMARIZER, error, json, with, yaml};

#[test]
fn everything_wrong_is_said_at_once() {
    insta::assert_snapshot!(error(r#"
name: Acme/summarizer
version: 1.2
modul: summarizer.wasm
supported_providers: [openai, openai, Open AI]
llm:
  primary: gpt 4o
  fallback: [gpt-4o-mini]
egress:
  - host: https://api.github.com/repos
    methods: [get, FETCH]
    paths: [repos]
  - host: 127.0.0.1
    port: 70000
secrets:
  - name: OPENAI_API_KEY
calls: [acme]
files: [{ path: ../data, access: rw }]
limits: { memory: 256M, time: 5, tokens: lots, cost_usd: -1, disk: 5GB }
env: { ORCH_RUN_ID: x, DEBUG: 1 }
"#), @r#"
    orch.yaml:2:1: the field `module` is missing
      hint: add `module: agent.wasm`
    orch.yaml:2:7: name: `Acme/summarizer` is not an agent name: each half is made of a-z, 0-9 and `-`
    orch.yaml:3:10: version: `1.2` is not a version: it is read as a number
      hint: write three numbers, such as 1.2.0
    orch.yaml:4:1: modul: unknown field `modul`
      hint: did you mean `module`? The fields here are: name, version, description, module, supported_providers, llm, input, output, egress, search, secrets, calls, files, limits, env
    orch.yaml:5:31: supported_providers[1]: is listed twice
    orch.yaml:5:39: supported_providers[2]: `Open AI` is not a provider name: use a-z, 0-9 and `-`, at most 64 characters
    orch.yaml:7:12: llm.primary: `gpt 4o` is not a model name: it is made of letters, digits and `.`, `_`, `:`, `/`, `@`, `+`, `~`, `-`
    orch.yaml:8:3: llm.fallback: unknown field `fallback`
      hint: did you mean `fallbacks`? The fields here are: primary, fallbacks, server_tools, account
    orch.yaml:10:11: egress[0].host: `https://api.github.com/repos` is more than a host name: leave out the scheme and everything after the name
      hint: write the host alone; scheme, port and path have fields of their own: `scheme`, `port`, `paths`
    orch.yaml:11:15: egress[0].methods[0]: `get` is not a method that can be granted
      hint: did you mean `GET`?
    orch.yaml:11:20: egress[0].methods[1]: `FETCH` is not a method that can be granted
      hint: did you mean `PATCH`?
    orch.yaml:12:13: egress[0].paths[0]: `repos` is not a path pattern: it starts with `/`
    orch.yaml:13:11: egress[1].host: `127.0.0.1` is an IP address, and only names can be granted
      hint: write the name of the host
    orch.yaml:14:11: egress[1].port: expected a port, a number from 1 to 65535
    orch.yaml:16:11: secrets[0].name: `OPENAI_API_KEY` is the key of the provider `openai` and comes with it
      hint: put `openai` into `supported_providers` instead
    orch.yaml:17:9: calls[0]: `acme` is not an agent name: write it as `org/name`, such as `acme/summarizer`
    orch.yaml:18:17: files[0].path: `../data` is not a path inside the sandbox: it is not absolute
      hint: write an absolute path such as /data
    orch.yaml:18:34: files[0].access: `rw` is not known here
      hint: use one of: read, write, scratch
    orch.yaml:19:19: limits.memory: `256M` is not a size: write a number of bytes, or one with a unit, such as `256MiB` or `10MB`
    orch.yaml:19:31: limits.time: `5` is not a duration: write numbers with units, such as `90s`, `5m`, `1h30m` or `500ms`
    orch.yaml:19:42: limits.tokens: `lots` is not a count: write a whole number, or one with `k`, `M` or `G`, such as `200k`
    orch.yaml:19:58: limits.cost_usd: `-1` is not an amount in US dollars: write it as `0.50`, with at most six decimals
    orch.yaml:19:62: limits.disk: unknown field `disk`
      hint: the fields here are: memory, time, cpu, output, log, resources, scratch, scratch_files, requests, concurrent, upload, download, rate, burst, first_byte, idle, exchange, per_host, tokens, cost_usd
    orch.yaml:20:21: env.ORCH_RUN_ID: `ORCH_RUN_ID` is set by the sandbox itself
    orch.yaml:20:31: env.DEBUG: expected text, found the number 1
      hint: write it in quotes: "1"
    "#);
}

#[test]
fn unknown_fields_name_the_nearest_known_one() {
    insta::assert_snapshot!(error(&with("egres: []")), @"
    orch.yaml:4:1: egres: unknown field `egres`
      hint: did you mean `egress`? The fields here are: name, version, description, module, supported_providers, llm, input, output, egress, search, secrets, calls, files, limits, env
    ");
    insta::assert_snapshot!(error(&with("zzz: 1")), @"
    orch.yaml:4:1: zzz: unknown field `zzz`
      hint: the fields here are: name, version, description, module, supported_providers, llm, input, output, egress, search, secrets, calls, files, limits, env
    ");
    insta::assert_snapshot!(error(&with("egress:\n  - host: a.example\n    path: [/a]")), @"
    orch.yaml:6:5: egress[0].path: unknown field `path`
      hint: did you mean `paths`? The fields here are: host, port, scheme, methods, paths
    ");
    insta::assert_snapshot!(error(&with("Limits: {}")), @"
    orch.yaml:4:1: Limits: unknown field `Limits`
      hint: did you mean `limits`? The fields here are: name, version, description, module, supported_providers, llm, input, output, egress, search, secrets, calls, files, limits, env
    ");
    insta::assert_snapshot!(error(&with("<<: {description: x}")), @"
    orch.yaml:4:1: `<<`: unknown field `<<`
      hint: the fields here are: name, version, description, module, supported_providers, llm, input, output, egress, search, secrets, calls, files, limits, env
    ");
}

#[test]
fn missing_fields() {
    insta::assert_snapshot!(error("description: nothing else\n"), @"
    orch.yaml:1:1: the field `name` is missing
      hint: add `name: acme/summarizer`
    orch.yaml:1:1: the field `version` is missing
      hint: add `version: 0.1.0`
    orch.yaml:1:1: the field `module` is missing
      hint: add `module: agent.wasm`
    ");
    insta::assert_snapshot!(error(&with("egress: [{port: 80}]")), @"
    orch.yaml:4:10: egress[0]: the field `host` is missing
      hint: add `host: api.github.com`
    ");
    insta::assert_snapshot!(error(""), @"
    orch.yaml:1:1: the manifest is empty
      hint: start it with `name: org/name`
    ");
    insta::assert_snapshot!(error("# only a comment\n"), @"
    orch.yaml:2:1: the manifest is empty
      hint: start it with `name: org/name`
    ");
}

#[test]
fn nothing_never_reads_as_everything() {
    insta::assert_snapshot!(error(&with("egress:\n  - host: a.example\n    methods: []\n    paths: []")), @"
    orch.yaml:6:14: egress[0].methods: the list is empty, which would allow nothing
      hint: leave it out for any method
    orch.yaml:7:12: egress[0].paths: the list is empty, which would allow nothing
      hint: leave it out for any path
    ");
    insta::assert_snapshot!(error(&with("egress:\n  - host: a.example\n    methods:\n    # - GET")), @"
    orch.yaml:6:5: egress[0].methods: has no value
      hint: give it one, or remove the field
    ");
    insta::assert_snapshot!(error(&with("secrets: [{name: T, hosts: []}]")), @"
    orch.yaml:4:28: secrets[0].hosts: the list is empty, which would allow nothing
      hint: leave it out for wherever the owner allows
    ");
    insta::assert_snapshot!(error(&with("egress:")), @"
    orch.yaml:4:1: egress: has no value
      hint: give it one, or remove the field
    ");
    insta::assert_snapshot!(error(&with("limits: {rate: 0/s, burst: 0, per_host: {rate: 5, x: 1}}")), @"
    orch.yaml:4:16: limits.rate: `0/s` is not a rate: write a whole number of requests per second, minute or hour, such as `10/s` or `100/m`
    orch.yaml:4:28: limits.burst: is zero, so nothing could run
      hint: leave it out for the operator's default
    orch.yaml:4:48: limits.per_host.rate: `5` is not a rate: write a whole number of requests per second, minute or hour, such as `10/s` or `100/m`
    orch.yaml:4:51: limits.per_host.x: unknown field `x`
      hint: the fields here are: requests, concurrent, upload, download, rate, burst
    ");
    insta::assert_snapshot!(error(&with("limits: {memory: 0, time: 0s}")), @"
    orch.yaml:4:18: limits.memory: is zero, so nothing could run
      hint: leave it out for the operator's default
    orch.yaml:4:27: limits.time: is zero, so nothing could run
      hint: leave it out for the operator's default
    ");
}

#[test]
fn hosts_that_cannot_be_asked_for() {
    let hosts = [
        "localhost",
        "db.internal",
        "metadata.google.internal",
        "printer.local",
        "router",
        "LOCALHOST.",
        "x.localhost",
        "10.0.0.5",
        "0x7f.1",
        "2130706433",
        "\"[::1]\"",
        "１２７.0.0.1",
        "api.github.com:8443",
        "user@api.github.com",
        "api.github.com/x",
        "api.github.com\\x",
        "\"api.github.com\\0\"",
        "api%2egithub.com",
        "\"*\"",
        "\"*.com\"",
        "\"*.github.io\"",
        "a.*.com",
        "\"\"",
        "\".\"",
    ];
    let list: String = hosts.iter().map(|host| format!("  - host: {host}\n")).collect();
    insta::assert_snapshot!(error(&with(&format!("egress:\n{list}"))), @r#"
    orch.yaml:5:11: egress[0].host: `localhost` is not a public host: names under `localhost` are this machine (RFC 6761)
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    orch.yaml:6:11: egress[1].host: `db.internal` is not a public host: names under `internal` are private, cloud metadata services among them
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    orch.yaml:7:11: egress[2].host: `metadata.google.internal` is not a public host: names under `internal` are private, cloud metadata services among them
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    orch.yaml:8:11: egress[3].host: `printer.local` is not a public host: names under `local` belong to the local network (RFC 6762)
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    orch.yaml:9:11: egress[4].host: `router` is not a public host: a name without a dot is resolved inside the local network
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    orch.yaml:10:11: egress[5].host: `LOCALHOST.` is not a public host: names under `localhost` are this machine (RFC 6761)
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    orch.yaml:11:11: egress[6].host: `x.localhost` is not a public host: names under `localhost` are this machine (RFC 6761)
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    orch.yaml:12:11: egress[7].host: `10.0.0.5` is an IP address, and only names can be granted
      hint: write the name of the host
    orch.yaml:13:11: egress[8].host: `0x7f.1` is an IP address, and only names can be granted
      hint: write the name of the host
    orch.yaml:14:11: egress[9].host: expected text, found the number 2130706433
      hint: write it in quotes: "2130706433"
    orch.yaml:15:11: egress[10].host: `[::1]` is an IP address, and only names can be granted
      hint: write the name of the host
    orch.yaml:16:11: egress[11].host: `１２７.0.0.1` is an IP address, and only names can be granted
      hint: write the name of the host
    orch.yaml:17:11: egress[12].host: `api.github.com:8443` is more than a host name: leave out the port
      hint: write the host alone; scheme, port and path have fields of their own: `scheme`, `port`, `paths`
    orch.yaml:18:11: egress[13].host: `user@api.github.com` is more than a host name: leave out the user information before `@`
      hint: write the host alone; scheme, port and path have fields of their own: `scheme`, `port`, `paths`
    orch.yaml:19:11: egress[14].host: `api.github.com/x` is more than a host name: leave out the path, query and fragment
      hint: write the host alone; scheme, port and path have fields of their own: `scheme`, `port`, `paths`
    orch.yaml:20:11: egress[15].host: `api.github.com\x` is more than a host name: leave out the backslash
      hint: write the host alone; scheme, port and path have fields of their own: `scheme`, `port`, `paths`
    orch.yaml:21:11: egress[16].host: `api.github.com\0` is not a host name: it holds a space or a control character
      hint: write a name such as `api.github.com`, or `*.example.com` for its subdomains
    orch.yaml:22:11: egress[17].host: `api%2egithub.com` is not a host name: percent-encoding has no place in a host name
      hint: write a name such as `api.github.com`, or `*.example.com` for its subdomains
    orch.yaml:23:11: egress[18].host: `*` is not a host pattern: `*` stands only at the start, as in `*.example.com`
      hint: write `*.example.com` for all subdomains, or list the hosts
    orch.yaml:24:11: egress[19].host: `*.com` covers hosts of unrelated owners: `com` is a public suffix
      hint: name the host, or put the owner's domain after `*.`
    orch.yaml:25:11: egress[20].host: `*.github.io` covers hosts of unrelated owners: `github.io` is a public suffix
      hint: name the host, or put the owner's domain after `*.`
    orch.yaml:26:11: egress[21].host: `a.*.com` is not a host pattern: `*` stands only at the start, as in `*.example.com`
      hint: write `*.example.com` for all subdomains, or list the hosts
    orch.yaml:27:11: egress[22].host: a host name is empty
      hint: write a name such as `api.github.com`, or `*.example.com` for its subdomains
    orch.yaml:28:11: egress[23].host: a host name is empty
      hint: write a name such as `api.github.com`, or `*.example.com` for its subdomains
    "#);
    insta::assert_snapshot!(error(&with("secrets: [{name: T, hosts: [localhost]}]")), @"
    orch.yaml:4:29: secrets[0].hosts[0]: `localhost` is not a public host: names under `localhost` are this machine (RFC 6761)
      hint: agents reach public hosts only; a private model server is pinned by the operator as a provider
    ");
}

#[test]
fn wrong_kinds_of_values() {
    insta::assert_snapshot!(error(&with("egress: api.github.com")), @"
    orch.yaml:4:9: egress: expected a list, found text
      hint: write one item per line, each after `- `, or all of them in `[ ]`
    ");
    insta::assert_snapshot!(error(&with("egress: [api.github.com]")), @"
    orch.yaml:4:10: egress[0]: expected a mapping, found text
      hint: write it as `- host: api.github.com`
    ");
    insta::assert_snapshot!(error(&with("supported_providers: openai")), @"
    orch.yaml:4:22: supported_providers: expected a list of providers or `any`, found `openai`
      hint: write a list such as [openai, anthropic]
    ");
    insta::assert_snapshot!(error(&with("supported_providers: []\nllm: {primary: gpt-4o}")), @"
    orch.yaml:4:22: supported_providers: no provider is listed, but there is an `llm` section
      hint: list providers, or write `any`
    ");
    insta::assert_snapshot!(error(&with("supported_providers: [any, openai]")), @"
    orch.yaml:4:22: supported_providers: `any` stands beside other providers, which it covers
      hint: write `any` alone
    ");
    insta::assert_snapshot!(error(&with("llm: {primary: gpt-4o, fallbacks: [gpt-4o]}")), @"orch.yaml:4:36: llm.fallbacks[0]: is listed twice");
    insta::assert_snapshot!(error(&with("llm: {primary: gpt-4o, server_tools: true}")), @"
    orch.yaml:4:38: llm.server_tools: expected a list of what providers may do by themselves
      hint: list what the agent needs of search, fetch, mcp, code, image_url, stored, such as [search]
    ");
    insta::assert_snapshot!(error(&with("llm: {primary: gpt-4o, server_tools: [web_search, searhc]}")), @"
    orch.yaml:4:39: llm.server_tools[0]: `web_search` is not known here
      hint: use one of: search, fetch, mcp, code, image_url, stored
    orch.yaml:4:51: llm.server_tools[1]: `searhc` is not known here
      hint: did you mean `search`?
    ");
    insta::assert_snapshot!(error(&with("llm: {primary: gpt-4o, account: [{provider: openai, methods: [get], paths: []}]}")), @"
    orch.yaml:4:63: llm.account[0].methods[0]: `get` is not a method that can be granted
      hint: did you mean `GET`?
    orch.yaml:4:76: llm.account[0].paths: the list is empty, which would allow nothing
    ");
    insta::assert_snapshot!(error(&with("input: string\noutput: [1]")), @"
    orch.yaml:4:8: input: expected a JSON Schema
      hint: write it as `{ type: object }`
    orch.yaml:5:9: output: expected a JSON Schema
      hint: write it as `{ type: object }`
    ");
    insta::assert_snapshot!(error(&with("env: {A-B: x, OPENAI_BASE_URL: x, GEMINI_API_KEY: x}")), @"
    orch.yaml:4:12: env.A-B: `A-B` is not a variable's name: use letters, digits and `_`, not starting with a digit
    orch.yaml:4:32: env.OPENAI_BASE_URL: `OPENAI_BASE_URL` is set by the sandbox itself
    orch.yaml:4:51: env.GEMINI_API_KEY: `GEMINI_API_KEY` is the key of the provider `gemini` and comes with it
    ");
    insta::assert_snapshot!(error(&with("secrets: [{name: T}]\nenv: {T: x}")), @"orch.yaml:5:10: env.T: `T` is one of `secrets`, which bring their own variable");
    insta::assert_snapshot!(error("- a\n- b\n"), @"
    orch.yaml:1:1: expected a mapping, found a list
      hint: write it as `name: org/name`
    ");
    insta::assert_snapshot!(error("just text"), @"
    orch.yaml:1:1: expected a mapping, found text
      hint: write it as `name: org/name`
    ");
}

#[test]
fn module_and_guest_paths() {
    for module in [
        "/etc/passwd",
        "../a.wasm",
        "a/../../b.wasm",
        "C:a.wasm",
        "a\\\\b.wasm",
        "",
        ".",
        "a//b.wasm",
        "a/",
        "a\\0b",
        "./",
        ".git/hooks/pre-commit",
        ".git/x.wasm",
        "a/.b/x.wasm",
        ".wasm",
        "a/.wasm",
        "agent",
        "agent.sh",
        "x.wasm/run",
        "agent.WASM",
    ] {
        let text = format!("name: a/b\nversion: 1.0.0\nmodule: \"{module}\"\n");
        let message = error(&text);
        assert!(message.starts_with("orch.yaml:3:9: module: ") && message.contains("hint: "), "{message}");
    }
    for path in ["data", "", "/a/../b", "/a//b", "/./a", "/a\\\\b", "/a\\0", "/.."] {
        let message = error(&with(&format!("files: [{{path: \"{path}\", access: read}}]")));
        assert!(message.starts_with("orch.yaml:4:16: files[0].path: "), "{message}");
    }
    let twice = error(&with("files: [{path: /a, access: read}, {path: /a/, access: write}]"));
    assert!(twice.contains("files[1]: `/a` is listed twice"), "{twice}");
    let many: Vec<String> = (0..65).map(|at| format!("{{path: /{at}, access: scratch}}")).collect();
    let many = error(&with(&format!("files: [{}]", many.join(", "))));
    assert!(many.contains("files[64]: an agent has at most 64 folders"), "{many}");
}

#[test]
fn syntax_errors_say_where() {
    insta::assert_snapshot!(error("name: a/b\nversion: [1\nmodule: x\n"), @"orch.yaml:3:7: is not valid YAML: did not find expected ',' or ']', while parsing a flow sequence at line 2 column 10");
    insta::assert_snapshot!(error("name: a/b\n\tversion: 1\n"), @"orch.yaml:2:1: is not valid YAML: found a tab character that violates indentation, while scanning a plain scalar at line 1 column 7");
    insta::assert_snapshot!(error("name: a/b\nname: c/d\n"), @"orch.yaml:2:1: has the field `name` twice");
    insta::assert_snapshot!(error("name: a/b\negress:\n  - host: x\n    host: y\n"), @"orch.yaml:4:5: egress[0]: has the field `host` twice");
    insta::assert_snapshot!(error("name: *nowhere\n"), @"orch.yaml:1:7: is not valid YAML: unknown anchor");
    insta::assert_snapshot!(error("name: !secret a/b\n"), @"
    orch.yaml:1:7: name: YAML tags (`!name`) have no meaning in a manifest
      hint: quote the value if it starts with `!`
    ");
    insta::assert_snapshot!(error("name: a/b\nenv: {1: x}\n"), @"
    orch.yaml:2:7: env: has the number 1 as the name of a field
      hint: put the name in quotes
    ");
    insta::assert_snapshot!(error("name: a/b\n---\nname: c/d\n"), @"orch.yaml: holds more than one YAML document (`---`): keep one");
    insta::assert_snapshot!(error("name: a/b\ninput: {minimum: .nan}\n"), @"orch.yaml:2:18: input.minimum: infinities and NaN are not numbers here");
    insta::assert_snapshot!(error("name: \u{1}\n"), @"orch.yaml:1:7: is not valid YAML: control characters are not allowed");
}

#[test]
fn json_errors_say_where() {
    let error = |text| json(text).unwrap_err().to_string();
    insta::assert_snapshot!(error("{\n  \"name\": \"a/b\",\n  \"version\": \"1.0.0\",\n  \"modul\": \"a.wasm\"\n}"), @"
    orch.json:1:1: the field `module` is missing
      hint: add `module: agent.wasm`
    orch.json:4:3: modul: unknown field `modul`
      hint: did you mean `module`? The fields here are: name, version, description, module, supported_providers, llm, input, output, egress, search, secrets, calls, files, limits, env
    ");
    insta::assert_snapshot!(error("{\n  \"name\": \"a/b\",\n  \"name\": \"c/d\"\n}"), @"orch.json:3:8: has the field `name` twice");
    insta::assert_snapshot!(error("{\n  \"name\": \"a/b\",\n}"), @"orch.json:3:1: is not valid JSON: trailing comma");
    insta::assert_snapshot!(error("{} {}"), @"orch.json:1:4: is not valid JSON: trailing characters");
    insta::assert_snapshot!(error(""), @"orch.json:1:1: is not valid JSON: EOF while parsing a value");
    insta::assert_snapshot!(error("name: a/b"), @"orch.json:1:2: is not valid JSON: expected ident");
    insta::assert_snapshot!(error("null"), @"
    orch.json:1:1: the manifest is empty
      hint: start it with `name: org/name`
    ");
}

#[test]
fn what_an_author_wrote_cannot_draw_on_a_terminal() {
    let hostile = "\\e[2J\\e]0;x\\a\\u202E\\x9b";
    let text = format!(
        "name: \"{hostile}\"\nversion: \"{hostile}\"\nmodule: \"/{hostile}\"\n\"{hostile}\": 1\nenv: {{\"{hostile}\": x}}\n\
         egress: [{{host: \"{hostile}\", methods: [\"{hostile}\"], paths: [\"{hostile}\"]}}]\n\
         limits: {{memory: \"{hostile}\"}}\ncalls: [\"{hostile}\", \"a/b@{hostile}\"]\nllm: {{primary: \"{hostile}\"}}\n\
         files: [{{path: \"{hostile}\", access: \"{hostile}\"}}]\nsupported_providers: \"{hostile}\"\nsecrets: \"{hostile}\"\n"
    );
    let message = error(&text);
    assert!(message.lines().count() > 20, "{message}");
    for c in message.chars() {
        assert!(c == '\n' || !c.is_control() && c != '\u{202e}', "{c:?} in {message}");
    }
    for broken in ["\u{1b}[2J: x", "a: \"\\q\u{9b}\"", "{\"\\u001b[2J\": tru\u{1b}e}"] {
        for message in [yaml(broken).unwrap_err().to_string(), json(broken).unwrap_err().to_string()] {
            assert!(!message.contains(['\u{1b}', '\u{9b}']), "{message:?}");
        }
    }
}

#[test]
fn many_problems_are_cut_short() {
    let text = with(&(0..100).map(|i| format!("x{i}: 1\n")).collect::<String>());
    let error = yaml(&text).unwrap_err();
    assert_eq!(error.problems.len(), 33);
    assert_eq!(error.problems[32].message, "68 more problems are not shown");
    assert_eq!((error.problems[31].line, error.problems[31].column), (Some(35), Some(1)));
}

#[test]
fn every_problem_of_the_example_broken_one_way_is_in_its_line() {
    for (from, to, line, path) in [
        ("acme/summarizer", "acme", 2, "name"),
        ("1.2.0", "one", 3, "version"),
        ("Summarise a text in three sentences.", "[x]", 4, "description"),
        ("gemini-2.5-flash", "\"a b\"", 8, "llm.primary"),
        ("claude-3-haiku]", "\"a b\"]", 9, "llm.fallbacks[1]"),
        ("[GET]", "[GTE]", 14, "egress[0].methods[0]"),
        ("\"/repos/**\"", "\"/repos/***\"", 15, "egress[0].paths[0]"),
        ("hosts: [api.github.com]", "hosts: [localhost]", 18, "secrets[0].hosts[0]"),
        ("@^2", "@two", 19, "calls[0]"),
        ("access: read", "access: raed", 20, "files[0].access"),
        ("5m", "5min", 21, "limits.time"),
        ("TONE: dry", "TONE: {}", 22, "env.TONE"),
    ] {
        let error = yaml(&SUMMARIZER.replacen(from, to, 1)).unwrap_err();
        let [problem] = error.problems.as_slice() else { panic!("{error}") };
        assert_eq!((problem.line, problem.path.as_str()), (Some(line), path), "{error}");
    }
}
