use super::*;
use crate::jail::{Layer, LayerName};

fn run() -> RunId {
    "run_aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap()
}

fn wire<T: Serialize>(frame: &T) -> String {
    let bytes = encode(frame).unwrap();
    assert_eq!(bytes[..4], u32::try_from(bytes.len() - 4).unwrap().to_be_bytes());
    String::from_utf8(bytes[4..].to_vec()).unwrap()
}

/// The end of a finished run, with this after its other uses.
fn tail_with(more: &str) -> String {
    let uses = r#""cpu_us":1,"wall_us":2,"memory_peak":3,"stdout_bytes":4,"stderr_bytes":5"#;
    format!(r#""usage":{{{uses}{more}}},"message":null}}"#)
}

/// The bytes of version 4. A change here is a change of the protocol: give it a new [`VERSION`].
#[test]
fn golden_bytes() {
    assert_eq!(VERSION, 4);
    let jail = Report::new([
        (LayerName::Seccomp, Layer::Active),
        (LayerName::Root, Layer::Missing { reason: "r".into() }),
    ]);
    let hello = FromWorker::Hello(Hello { protocol: 1, pid: 42, version: "0.1.0".into() });
    let usage =
        Usage { cpu_us: 1, wall_us: 2, memory_peak: 3, stdout_bytes: 4, stderr_bytes: 5, scratch: None };
    let finished = |exit| FromWorker::Finished(Finished { run: run(), exit, usage, message: None });
    let scratch = Some(ScratchUsage { bytes: 6, files: 7 });
    let with_scratch = FromWorker::Finished(Finished {
        run: run(),
        exit: Exit::Status(0),
        usage: Usage { scratch, ..usage },
        message: None,
    });
    let scratch_tail = tail_with(r#","scratch":{"bytes":6,"files":7}"#);
    let tail = tail_with("");
    let head = r#"{"type":"finished","run":"run_aaaaaaaaaaaaaaaaaaaaaaaaaa","exit":"#;
    let limit = Exit::Limit { name: LimitName::Cpu, used: 7, limit: 6 };
    for (frame, expected) in [
        (hello, r#"{"type":"hello","protocol":1,"pid":42,"version":"0.1.0"}"#.to_owned()),
        (
            FromWorker::Incompatible(Incompatible { ours: 1, theirs: 9 }),
            r#"{"type":"incompatible","ours":1,"theirs":9}"#.to_owned(),
        ),
        (
            FromWorker::Ready { jail },
            r#"{"type":"ready","jail":[{"layer":"seccomp","state":"active"},{"layer":"root","state":"missing","reason":"r"}]}"#
                .to_owned(),
        ),
        (
            FromWorker::Started { run: run() },
            r#"{"type":"started","run":"run_aaaaaaaaaaaaaaaaaaaaaaaaaa"}"#.to_owned(),
        ),
        (finished(Exit::Status(0)), format!(r#"{head}{{"status":0}},{tail}"#)),
        (with_scratch, format!(r#"{head}{{"status":0}},{scratch_tail}"#)),
        (
            finished(Exit::Trap { message: "t".into() }),
            format!(r#"{head}{{"trap":{{"message":"t"}}}},{tail}"#),
        ),
        (finished(limit), format!(r#"{head}{{"limit":{{"name":"cpu","used":7,"limit":6}}}},{tail}"#)),
        (finished(Exit::Cancelled), format!(r#"{head}"cancelled",{tail}"#)),
        (
            FromWorker::Rejected { run: run(), message: "m".into() },
            r#"{"type":"rejected","run":"run_aaaaaaaaaaaaaaaaaaaaaaaaaa","message":"m"}"#.to_owned(),
        ),
    ] {
        assert_eq!(wire(&frame), expected);
        assert_eq!(serde_json::from_str::<FromWorker>(&expected).unwrap(), frame);
    }

    let spec = RunSpec {
        run: run(),
        token: Token::new("secret"),
        args: vec!["a".into()],
        env: vec![("K".into(), "V".into())],
        input: Input::Inline("{}".into()),
        limits: RunLimits {
            memory: 1,
            cpu: Duration::from_micros(3),
            time: Duration::from_micros(4),
            output: 5,
            log: 6,
            resources: 7,
        },
        mounts: vec![Mount { host: "/srv/data".into(), guest: "/data".into(), writable: false }],
    };
    let streamed = RunSpec { input: Input::Stream, ..spec.clone() };
    let spec_wire = |input: &str| {
        format!(
            concat!(
                r#"{{"type":"run","run":"run_aaaaaaaaaaaaaaaaaaaaaaaaaa","token":"secret","args":["a"],"env":[["K","V"]],"#,
                r#""input":{},"limits":{{"memory":1,"cpu_us":3,"time_us":4,"output":5,"log":6,"resources":7}},"#,
                r#""mounts":[{{"host":"/srv/data","guest":"/data","writable":false}}]}}"#
            ),
            input
        )
    };
    let pool = Pool { runs: 2, memory: 3, yielding: true };
    let welcome =
        FromBroker::Welcome(Welcome { protocol: 1, pool, mounts: spec.mounts.clone(), scratch: None });
    let scratch = Some(Scratch { guests: vec!["/tmp".into()], bytes: 8, files: 9 });
    let with_scratch = FromBroker::Welcome(Welcome { protocol: 1, pool, mounts: Vec::new(), scratch });
    for (frame, expected) in [
        (
            welcome,
            concat!(
                r#"{"type":"welcome","protocol":1,"pool":{"runs":2,"memory":3,"yielding":true},"#,
                r#""mounts":[{"host":"/srv/data","guest":"/data","writable":false}]}"#
            )
            .to_owned(),
        ),
        (
            with_scratch,
            concat!(
                r#"{"type":"welcome","protocol":1,"pool":{"runs":2,"memory":3,"yielding":true},"#,
                r#""mounts":[],"scratch":{"guests":["/tmp"],"bytes":8,"files":9}}"#
            )
            .to_owned(),
        ),
        (
            FromBroker::Incompatible(Incompatible { ours: 1, theirs: 9 }),
            r#"{"type":"incompatible","ours":1,"theirs":9}"#.to_owned(),
        ),
        (FromBroker::Run(Box::new(spec)), spec_wire(r#"{"inline":"{}"}"#)),
        (FromBroker::Run(Box::new(streamed)), spec_wire(r#""stream""#)),
        (
            FromBroker::Cancel { run: run() },
            r#"{"type":"cancel","run":"run_aaaaaaaaaaaaaaaaaaaaaaaaaa"}"#.to_owned(),
        ),
        (FromBroker::Drain, r#"{"type":"drain"}"#.to_owned()),
    ] {
        assert_eq!(wire(&frame), expected);
        assert_eq!(serde_json::from_str::<FromBroker>(&expected).unwrap(), frame);
    }
}

#[test]
fn the_longest_inline_input_fits_a_frame_however_it_is_escaped() {
    let spec = RunSpec {
        run: run(),
        token: Token::new("t"),
        args: Vec::new(),
        env: Vec::new(),
        input: Input::Inline("\u{1}".repeat(MAX_INLINE_INPUT)),
        limits: RunLimits::default(),
        mounts: Vec::new(),
    };
    encode(&FromBroker::Run(Box::new(spec))).unwrap();
}

#[test]
fn debug_output_holds_neither_token_nor_input() {
    let debug = format!("{:?} {:?}", Token::new("hush"), Input::Inline("private".into()));
    assert!(!debug.contains("hush") && !debug.contains("private"), "{debug}");
}

#[test]
fn standard_streams_have_paths_that_parse() {
    for stdio in [Stdio::Stdin, Stdio::Stdout, Stdio::Stderr] {
        assert_eq!(Stdio::parse(&stdio.path(&run())), Some((run(), stdio)));
    }
    for bad in [
        "/v1/runs/run_x/stdout",
        "/v1/runs//stdout",
        "/v1/control",
        "/v1/runs/run_aaaaaaaaaaaaaaaaaaaaaaaaaa/std",
    ] {
        assert_eq!(Stdio::parse(bad), None, "{bad}");
    }
}
