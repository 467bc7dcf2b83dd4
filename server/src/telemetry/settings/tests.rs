use std::collections::BTreeMap;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> OtelEnvironment {
    let set: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    OtelEnvironment::read(&Environment::Fixed(set))
}

fn destination(config: &TelemetryConfig, pairs: &[(&str, &str)]) -> Option<Destination> {
    let environment = environment(pairs);
    assert_eq!(environment.warnings(config), [] as [String; 0], "{pairs:?}");
    Destination::of(config, &environment)
}

fn shown(address: Option<&Address>) -> Option<String> {
    address.map(|Address { endpoint, path }| format!("{}://{}{path}", endpoint.scheme, endpoint.authority()))
}

const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/otel/");

#[test]
fn nobody_named_is_nobody_told() {
    assert!(destination(&TelemetryConfig::default(), &[]).is_none());
    let other = [("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b")];
    assert!(destination(&TelemetryConfig::default(), &other).is_none());
}

#[test]
fn the_environment_names_a_collector_where_the_configuration_does_not() {
    let to = destination(&TelemetryConfig::default(), &[BASE]).expect("a collector");
    assert_eq!(shown(to.traces.as_ref()).as_deref(), Some("http://127.0.0.1:4318/otel/v1/traces"));
    assert_eq!(shown(to.metrics.as_ref()).as_deref(), Some("http://127.0.0.1:4318/otel/v1/metrics"));
    assert_eq!((&*to.service_name, to.sampler), ("orch", Sampler::default()));

    // A signal's own URL is taken as it is, and `none` is nobody.
    let own = [
        BASE,
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/in"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    let to = destination(&TelemetryConfig::default(), &own).expect("a collector");
    assert_eq!(shown(to.traces.as_ref()).as_deref(), Some("https://traces.example/in"));
    assert_eq!(to.metrics, None);
    assert!(destination(&TelemetryConfig::default(), &[BASE, ("OTEL_SDK_DISABLED", "TRUE")]).is_none());

    let config = TelemetryConfig {
        endpoint: Some("http://10.0.0.1:4318".parse().expect("an endpoint")),
        service_name: Some("ours".to_owned()),
        resource: vec![("team".to_owned(), "a".to_owned())],
        ratio: Some(0.5),
    };
    let all = [
        BASE,
        ("OTEL_SERVICE_NAME", "theirs"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=b, zone = eu%2Dwest ,service.name=no"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    let to = destination(&config, &all).expect("a collector");
    assert_eq!(shown(to.traces.as_ref()).as_deref(), Some("http://10.0.0.1:4318/v1/traces"));
    assert_eq!((&*to.service_name, to.sampler), ("ours", Sampler { ratio: 0.5, parent_based: false }));
    let resource = [("zone", "eu-west"), ("team", "a")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(to.resource, resource);
    assert_eq!(to.spans_every, Duration::from_millis(200));
    let to = destination(&TelemetryConfig::default(), &all).expect("a collector");
    assert_eq!((&*to.service_name, to.sampler.ratio), ("theirs", 0.25));
}

#[test]
fn headers_are_read_and_shown_nowhere() {
    let headers = [
        BASE,
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=some%20secret"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "other=1"),
    ];
    let to = destination(&TelemetryConfig::default(), &headers).expect("a collector");
    assert_eq!(to.trace_headers.all()[0].1, "some secret");
    assert_eq!(to.metric_headers.all()[0].0, "other");
    let shown = format!("{to:?} {:?}", environment(&headers));
    assert!(shown.contains("api-key") && !shown.contains("secret"), "{shown}");
    let broken = environment(&[BASE, ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a\nsecret")]);
    assert!(
        !broken.warnings(&TelemetryConfig::default()).is_empty() && !format!("{broken:?}").contains("secret")
    );
}

#[test]
fn what_cannot_be_meant_is_said_by_name_and_left_out() {
    for (name, value, says) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318", "is a URL such as"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:pass@127.0.0.1", "is a URL such as"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/json is what is spoken here"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "traces stay here"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "always_on, always_off or traceidratio"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone", "KEY=VALUE"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone=%1b", "no plain text"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1s", "milliseconds"),
    ] {
        let read = environment(&[BASE, (name, value)]);
        let read = if name == BASE.0 { environment(&[(name, value)]) } else { read };
        let warnings = read.warnings(&TelemetryConfig::default()).join("\n");
        assert!(warnings.contains(name) && warnings.contains(says), "{name}={value}: {warnings}");
        assert!(!warnings.contains("pass@"), "{warnings}");
    }
    let grpc = environment(&[BASE, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]);
    let to = Destination::of(&TelemetryConfig::default(), &grpc).expect("metrics");
    assert!(to.traces.is_none() && to.metrics.is_some());
    assert_eq!(
        environment(&[BASE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")])
            .warnings(&TelemetryConfig::default()),
        [] as [String; 0]
    );
}

#[test]
fn headers_go_to_the_collector_of_the_environment_alone_and_over_no_open_way() {
    let config = |endpoint: &str| TelemetryConfig {
        endpoint: Some(endpoint.parse().expect("an endpoint")),
        ..TelemetryConfig::default()
    };
    let none = TelemetryConfig::default();
    let url = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let key = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=some%20secret");
    let sent = |config: &TelemetryConfig, pairs: &[(&str, &str)]| {
        let environment = environment(pairs);
        let to = Destination::of(config, &environment).expect("a collector");
        let warnings = environment.warnings(config);
        assert!(!warnings.join(" ").contains("secret"), "{warnings:?}");
        (to.trace_headers.all().len(), to.metric_headers.all().len(), warnings.len())
    };
    for private in
        ["https://otel.example", "http://127.0.0.1:4318", "http://[::1]:4318", "http://localhost:4318"]
    {
        assert_eq!(sent(&none, &[(url, private), key]), (1, 1, 0), "{private}");
        // Whoever writes the file names the collector, and not whose key is in the environment.
        assert_eq!(sent(&config(private), &[(url, private), key]), (0, 0, 2), "{private}");
        assert_eq!(sent(&config(private), &[key]), (0, 0, 2), "{private}");
    }
    for open in ["http://otel.example", "http://10.0.0.1:4318", "http://127.0.0.1.example:4318"] {
        assert_eq!(sent(&none, &[(url, open), key]), (0, 0, 2), "{open}");
        assert_eq!(sent(&none, &[(url, open)]), (0, 0, 0), "nothing is withheld");
    }
    // Each kind for itself.
    let mixed = [
        (url, "https://otel.example"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces.example/in"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=secret"),
        key,
    ];
    assert_eq!(sent(&none, &mixed), (0, 1, 1));
    let said = environment(&mixed).warnings(&none).remove(0);
    assert!(said.starts_with("OTEL_EXPORTER_OTLP_TRACES_HEADERS is not sent with traces"), "{said}");
}
