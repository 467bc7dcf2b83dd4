use serde::Deserialize;
use time::macros::datetime;

use super::*;

/// AWS's signing test suite (`aws-signing-test-suite/v4`, from aws-c-auth), but for paths that are to be normalised, which are
/// canonical before they get here, and a token that is left out of the signature, which never is here.
const SUITE: &str = include_str!("vectors.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    request: String,
    canonical: String,
    signature: String,
    token: Option<String>,
    /// The digest of the body is a field of its own.
    #[serde(default)]
    sign_body: bool,
}

const AT: OffsetDateTime = datetime!(2015-08-30 12:36:00 UTC);

fn signer(token: Option<&str>) -> Signer<'_> {
    Signer {
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        session_token: token,
        region: "us-east-1",
        service: "service",
    }
}

fn sum(body: &str) -> [u8; 32] {
    digest(&SHA256, body.as_bytes()).as_ref().try_into().unwrap()
}

#[test]
fn the_published_suite() {
    let suite: Vec<Vector> = serde_json::from_str(SUITE).unwrap();
    assert_eq!(suite.len(), 31);
    for vector in &suite {
        let (head, body) = vector.request.split_once("\n\n").unwrap_or((&vector.request, ""));
        let (line, rest) = head.split_once('\n').unwrap();
        // A line that begins with a blank goes on where the one before it ended.
        let unfolded = rest.replace("\n ", " ");
        let mut fields: Vec<(&str, &[u8])> = unfolded
            .lines()
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name, value.as_bytes()))
            .collect();
        fields.push(("X-Amz-Date", b"20150830T123600Z"));
        fields.extend(vector.token.as_deref().map(|token| ("X-Amz-Security-Token", token.as_bytes())));
        let body = sum(body);
        let digest = hex(&body);
        if vector.sign_body {
            fields.push(("x-amz-content-sha256", digest.as_bytes()));
        }
        let (method, rest) = line.split_once(' ').unwrap();
        let target = rest.strip_suffix(" HTTP/1.1").unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let canonical = Canonical::new(method, path, query, fields.into_iter(), &body);
        assert_eq!(canonical.text, vector.canonical, "{}", vector.name);
        let authorization = signer(vector.token.as_deref()).authorization(&canonical, &stamp(AT));
        let signature = authorization.split_once("Signature=").unwrap().1;
        assert_eq!(signature, vector.signature, "{}", vector.name);
    }
}

#[test]
fn a_request_is_signed_as_it_goes_out() {
    let request = http::Request::post("/model/a.b-v1%3A0/converse")
        .header("host", "bedrock-runtime.us-east-1.amazonaws.com")
        .header("content-type", "application/json")
        .header("user-agent", "orch")
        .header("authorization", "Bearer of somebody")
        .header("x-amz-security-token", "somebody's")
        .body(())
        .unwrap();
    let (mut parts, ()) = request.into_parts();
    let signer = Signer { service: "bedrock", ..signer(Some("token")) };
    signer.sign(&mut parts, &sum("{}"), AT).unwrap();
    let said = |name: &str| parts.headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        (said("x-amz-date"), said("x-amz-security-token")),
        ("20150830T123600Z".into(), "token".into())
    );
    let authorization = said("authorization");
    let before = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, \
                  SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=";
    assert!(authorization.starts_with(before), "{authorization}");
    assert_eq!(authorization.len(), before.len() + 64);
    assert!(
        parts.headers["authorization"].is_sensitive() && parts.headers["x-amz-security-token"].is_sensitive()
    );
    // The path is escaped once more.
    let fields = [("host", &b"h"[..])].into_iter();
    let canonical = Canonical::new("POST", "/model/a%3A0/converse", "", fields, &sum(""));
    assert!(
        canonical.text.starts_with("POST\n/model/a%253A0/converse\n\nhost:h\n\nhost\n"),
        "{}",
        canonical.text
    );
}

#[test]
fn each_part_of_a_request_changes_the_signature() {
    let sign =
        |method: &str, target: &str, host: &str, body: &str, region: &'static str, at: OffsetDateTime| {
            let request =
                http::Request::builder().method(method).uri(target).header("host", host).body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            Signer { region, ..signer(None) }.sign(&mut parts, &sum(body), at).unwrap();
            parts.headers["authorization"].to_str().unwrap().rsplit_once('=').unwrap().1.to_owned()
        };
    let later = datetime!(2015-08-30 12:36:01 UTC);
    let all = [
        sign("POST", "/a", "h", "{}", "r", AT),
        sign("PUT", "/a", "h", "{}", "r", AT),
        sign("POST", "/b", "h", "{}", "r", AT),
        sign("POST", "/a?x", "h", "{}", "r", AT),
        sign("POST", "/a", "i", "{}", "r", AT),
        sign("POST", "/a", "h", "{ }", "r", AT),
        sign("POST", "/a", "h", "{}", "s", AT),
        sign("POST", "/a", "h", "{}", "r", later),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn a_key_that_no_header_can_carry_is_refused() {
    let (mut parts, ()) = http::Request::post("/").header("host", "h").body(()).unwrap().into_parts();
    for (id, token) in [("a\nb", None), ("a", Some("t\r\nx: y"))] {
        let signer = Signer { access_key_id: id, ..signer(token) };
        assert_eq!(signer.sign(&mut parts, &sum(""), AT), Err(AuthorizeError::BadValue));
    }
}
