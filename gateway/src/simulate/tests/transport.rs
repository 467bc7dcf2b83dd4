use serde_json::json;

use super::*;

#[tokio::test]
async fn keys_are_random_per_provider_and_run_and_are_checked_in_their_place() {
    let (simulation, other) = (named("ok").await, named("ok").await);
    let key = simulation.key_for("openai").unwrap();
    assert!(key.starts_with("orch-simulated-") && key.len() >= 32, "{key}");
    assert_ne!(Some(key), simulation.key_for("anthropic"));
    assert_ne!(Some(key), other.key_for("openai"));
    assert_eq!(simulation.key_for("nobody"), None);

    let anthropic = simulation.key_for("anthropic").unwrap();
    type Row<'a> = (&'a str, &'a [(&'a str, String)], u16);
    let rows: [Row<'_>; 10] = [
        (OPENAI, &[("authorization", format!("Bearer {key}"))], 200),
        (OPENAI, &[("authorization", format!("bearer {key}"))], 200),
        (OPENAI, &[], 401),
        (OPENAI, &[("authorization", key.to_owned())], 401),
        (OPENAI, &[("authorization", format!("Bearer {anthropic}"))], 401),
        (OPENAI, &[("x-api-key", key.to_owned())], 401),
        (ANTHROPIC, &[("x-api-key", anthropic.to_owned())], 200),
        (ANTHROPIC, &[("authorization", format!("Bearer {anthropic}"))], 200),
        (ANTHROPIC, &[("authorization", format!("Bearer {key}"))], 401),
        (ANTHROPIC, &[("x-api-key", other.key_for("anthropic").unwrap().to_owned())], 401),
    ];
    for (host, headers, status) in rows {
        let mut request = request(&simulation, host, &hello(host));
        request.headers_mut().remove("authorization");
        request.headers_mut().remove("x-api-key");
        for (name, value) in headers {
            request.headers_mut().insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let got = Connection::open(&simulation, host).await.unwrap().exchange(request).await.unwrap();
        assert_eq!(
            got.status.as_u16(),
            status,
            "{host} {:?}",
            headers.iter().map(|h| h.0).collect::<Vec<_>>()
        );
        assert!(!got.text().contains(key) && !got.text().contains(anthropic), "no reply repeats a key");
        if status == 401 {
            let kind = if host == ANTHROPIC { "authentication_error" } else { "invalid_request_error" };
            assert_eq!(got.json()["error"]["type"], kind);
        }
    }
}

#[tokio::test]
async fn a_second_key_beside_the_right_one_is_refused() {
    let simulation = named("ok").await;
    let mut request = request(&simulation, OPENAI, &hello(OPENAI));
    request.headers_mut().append("authorization", "Bearer another".parse().unwrap());
    let got = Connection::open(&simulation, OPENAI).await.unwrap().exchange(request).await.unwrap();
    assert_eq!(got.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn equal_requests_get_equal_bytes_in_every_simulation() {
    let (one, two) = (named("ok").await, named("ok").await);
    for host in [OPENAI, ANTHROPIC, GOOGLE] {
        for body in [hello(host), set(hello(host), "stream", json!(true))] {
            let (first, again, other) =
                (post(&one, host, &body).await, post(&one, host, &body).await, post(&two, host, &body).await);
            assert_eq!((&first.body, &first.headers), (&again.body, &again.headers));
            assert_eq!((&first.body, &first.headers), (&other.body, &other.headers));
            let changed = match host {
                GOOGLE => set(body, "generationConfig", json!({"temperature": 0.5})),
                _ => set(body, "temperature", json!(0.5)),
            };
            let changed = post(&one, host, &changed).await;
            assert_ne!(first.body, changed.body, "another request has other ids");
        }
    }
}

#[tokio::test]
async fn only_the_simulated_names_have_certificates() {
    let simulation = named("ok").await;
    assert!(Connection::open(&simulation, OPENAI).await.is_ok());
    assert!(Connection::open(&simulation, "api.example.com").await.is_err());

    // A client that trusts another simulation's authority does not accept this one.
    let other = named("ok").await;
    let stream = TcpStream::connect(simulation.addr()).await.unwrap();
    let name = ServerName::try_from(OPENAI).unwrap();
    assert!(TlsConnector::from(trusting(&other)).connect(name, stream).await.is_err());
}

#[tokio::test]
async fn the_host_header_has_to_agree_with_the_tls_name() {
    let simulation = named("ok").await;
    for host in [ANTHROPIC, "api.openai.com:8443", "api.openai.com.", "x@api.openai.com"] {
        let mut request = request(&simulation, OPENAI, &hello(OPENAI));
        request.headers_mut().insert("host", host.parse().unwrap());
        let got = Connection::open(&simulation, OPENAI).await.unwrap().exchange(request).await.unwrap();
        assert_eq!(got.status, StatusCode::MISDIRECTED_REQUEST, "{host}: {}", got.text());
    }
    // A provider that wants TLS is not there in the clear.
    let mut plain = request(&simulation, "localhost", &hello(OPENAI));
    plain.headers_mut().insert("host", "api.openai.com:443".parse().unwrap());
    let got = Connection::open(&simulation, "localhost").await.unwrap().exchange(plain).await.unwrap();
    assert_eq!(got.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn an_endpoint_that_is_an_address_has_a_certificate_too() {
    let mut pinned = served("lan", "127.0.0.1", KeyPlace::Bearer, CHAT, Wire::OpenAiChat);
    pinned.port = 8443;
    let simulation = Simulation::start(Scenario::ok(), vec![pinned]).await.unwrap();
    let mut request = Request::post(CHAT).header("host", "127.0.0.1:8443");
    request = request.header("authorization", format!("Bearer {}", simulation.key_for("lan").unwrap()));
    let request = request.body(Full::new(Bytes::from(hello(OPENAI).to_string()))).unwrap();
    let got = Connection::open(&simulation, "127.0.0.1").await.unwrap().exchange(request).await.unwrap();
    assert_eq!(got.status, StatusCode::OK, "{}", got.text());
}

#[tokio::test]
async fn every_named_origin_leads_here() {
    let simulation = named("ok").await;
    let led: Vec<(String, u16)> = simulation
        .connect_to()
        .into_iter()
        .map(|((name, port), address)| {
            assert_eq!(address, simulation.addr());
            (name.to_string(), port)
        })
        .collect();
    let origins = simulation.origins();
    assert_eq!(led, origins.iter().map(|origin| (origin.host.clone(), origin.port)).collect::<Vec<_>>());
    assert_eq!(led.len(), providers().len());
}

#[tokio::test]
async fn models_are_listed_to_who_has_the_key() {
    let simulation = named("ok").await;
    let rows =
        [(OPENAI, "authorization", "/object", "list"), (ANTHROPIC, "x-api-key", "/first_id", "model-a")];
    for (host, header, pointer, expected) in rows {
        let mut connection = Connection::open(&simulation, host).await.unwrap();
        let key = request(&simulation, host, &Value::Null).headers()[header].clone();
        let get = |key: Option<http::HeaderValue>| {
            let mut request = Request::get("/v1/models").header("host", host).body(Full::default()).unwrap();
            if let Some(key) = key {
                request.headers_mut().insert(header, key);
            }
            request
        };
        let listed = connection.exchange(get(Some(key))).await.unwrap();
        assert_eq!(listed.json().pointer(pointer).unwrap(), expected);
        assert_eq!(listed.json()["data"][1]["id"], "model-b");
        assert_eq!(connection.exchange(get(None)).await.unwrap().status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn wrong_paths_methods_and_bodies_are_errors_of_the_dialect() {
    let simulation = named("ok").await;
    let rows = [
        (OPENAI, Method::POST, "/v1/files", "{}", 404, "invalid_request_error"),
        (OPENAI, Method::GET, CHAT, "", 405, "invalid_request_error"),
        (OPENAI, Method::POST, CHAT, "{\"model\":", 400, "invalid_request_error"),
        (OPENAI, Method::POST, CHAT, "[]", 400, "invalid_request_error"),
        (ANTHROPIC, Method::POST, "/v1/complete", "{}", 404, "not_found_error"),
        (ANTHROPIC, Method::POST, MESSAGES, "nonsense", 400, "invalid_request_error"),
    ];
    for (host, method, path, body, status, kind) in rows {
        let mut request = request(&simulation, host, &Value::Null);
        (*request.method_mut(), *request.uri_mut()) = (method, path.parse().unwrap());
        *request.body_mut() = Full::new(Bytes::from(body));
        let got = Connection::open(&simulation, host).await.unwrap().exchange(request).await.unwrap();
        assert_eq!(
            (got.status.as_u16(), got.json()["error"]["type"].as_str()),
            (status, Some(kind)),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn many_connections_are_served_at_once() {
    let simulation = Arc::new(start(Scenario::parse("rules: [{ delay: 200ms }]", "s").unwrap()).await);
    let begun = std::time::Instant::now();
    let mut clients = JoinSet::new();
    for index in 0..40 {
        let simulation = Arc::clone(&simulation);
        clients.spawn(async move {
            let host = if index % 2 == 0 { OPENAI } else { ANTHROPIC };
            post(&simulation, host, &set(hello(host), "stream", json!(index % 3 == 0))).await.status
        });
    }
    let statuses = clients.join_all().await;
    assert_eq!(statuses, vec![StatusCode::OK; 40]);
    // One after the other the delays alone would take eight seconds.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let simulation = named("ok").await;
    let mut connection = Connection::open(&simulation, OPENAI).await.unwrap();
    for _ in 0..3 {
        let got = connection.exchange(request(&simulation, OPENAI, &hello(OPENAI))).await.unwrap();
        assert_eq!(got.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn shutdown_lets_an_exchange_finish_and_closes_the_port() {
    let simulation = start(Scenario::parse("rules: [{ pause: 20ms }]", "s").unwrap()).await;
    let address = simulation.addr();
    // Also an idle connection must not hold the shutdown up.
    let _idle = Connection::open(&simulation, ANTHROPIC).await.unwrap();
    let mut connection = Connection::open(&simulation, OPENAI).await.unwrap();
    let request = request(&simulation, OPENAI, &set(hello(OPENAI), "stream", json!(true)));
    let response = connection.send.send_request(request).await.unwrap();
    // The head is here and the pauses are still to come: the exchange is under way.
    let (body, ()) = futures_util::future::join(response.into_body().collect(), simulation.shutdown()).await;
    let body = body.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"), "{}", String::from_utf8_lossy(&body));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let simulation = start(Scenario::parse("rules: [{ pause: 10m }]", "s").unwrap()).await;
    let mut connection = Connection::open(&simulation, OPENAI).await.unwrap();
    let request = request(&simulation, OPENAI, &set(hello(OPENAI), "stream", json!(true)));
    let response = connection.send.send_request(request).await.unwrap();
    let stopped = futures_util::future::join(response.into_body().collect(), simulation.shutdown());
    let (body, ()) = tokio::time::timeout(Duration::from_secs(20), stopped).await.unwrap();
    assert!(body.is_err(), "cut after the drain");
}

#[tokio::test]
async fn dropping_a_simulation_stops_it() {
    let simulation = named("ok").await;
    let address = simulation.addr();
    let mut connection = Connection::open(&simulation, OPENAI).await.unwrap();
    let request = request(&simulation, OPENAI, &hello(OPENAI));
    drop(simulation);
    assert!(connection.exchange(request).await.is_err());
    assert!(TcpStream::connect(address).await.is_err());
}
