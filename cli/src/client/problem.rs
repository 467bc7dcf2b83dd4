//! What a server answers when it refuses, as the failure of the command.

use http::StatusCode;
use orch_server::{Failure, Kind};
use serde::Deserialize;
use serde_json::{Map, Value};

/// An error body of the contract. Fields that a newer server adds are passed over.
#[derive(Deserialize)]
struct Refusal {
    error: Told,
    exit_code: u8,
}

/// The four fields of an error, in an error body as well as in a run that has ended.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Told {
    code: String,
    message: String,
    #[serde(default)]
    hints: Vec<String>,
    #[serde(default)]
    details: Map<String, Value>,
}

impl Told {
    /// The failure that was told, with the exit code that the server says belongs to it.
    pub(crate) fn failure(self, exit_code: u8) -> Failure {
        Failure::remote(exit_code, self.code, self.message, self.hints, self.details)
    }
}

/// The failure in an answer whose status says that there is one. `asked` is what the server was asked, such as
/// `GET /v1/whoami`, `server` what messages call it.
pub(crate) fn failure(
    server: &str,
    asked: &str,
    status: StatusCode,
    request: Option<&str>,
    body: &[u8],
) -> Failure {
    let failure = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error.failure(refusal.exit_code),
        Err(_) => unexpected(server, asked, &format!("status {status} and not in orch's words"))
            .detail("status", status.as_u16()),
    };
    match request {
        Some(id) => failure.detail("request_id", id),
        None => failure,
    }
}

/// The failure of an answer that is not of the contract: another program answered, or another version of `orch`.
pub(crate) fn unexpected(server: &str, asked: &str, what: &str) -> Failure {
    Failure::new(Kind::Server, "server_unexpected", format!("{server} answered {asked} with {what}"))
        .hint("is that an orch server, of this version? a proxy in between may have answered instead")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_words_and_its_exit_code() {
        let body = br#"{"error":{"code":"no_key","message":"no key","hints":["orch secrets set K"],"details":{"a":1}},
            "exit_code":3,"request_id":"req_1"}"#;
        let failure = failure(
            "https://o.example",
            "POST /v1/runs",
            StatusCode::UNPROCESSABLE_ENTITY,
            Some("req_1"),
            body,
        );
        assert_eq!((failure.kind(), failure.code(), failure.message()), (Kind::NoKey, "no_key", "no key"));
        assert_eq!(failure.hints(), ["orch secrets set K"]);
        assert_eq!((&failure.details()["a"], &failure.details()["request_id"]), (&1.into(), &"req_1".into()));
    }

    #[test]
    fn what_is_not_of_the_contract_is_the_server_s_failure() {
        for body in [&b""[..], b"<html>Bad Gateway</html>", b"{}", br#"{"error":"no"}"#, b"\xff"] {
            let failure = failure("https://o.example", "GET /v1/whoami", StatusCode::BAD_GATEWAY, None, body);
            assert_eq!((failure.kind(), failure.code()), (Kind::Server, "server_unexpected"));
            assert!(
                failure.message().contains("502") && failure.message().contains("GET /v1/whoami"),
                "{failure}"
            );
        }
    }

    #[test]
    fn an_exit_code_that_no_failure_has_is_not_taken_over() {
        for code in [0, 9, 255] {
            let body = format!(r#"{{"error":{{"code":"x","message":"y"}},"exit_code":{code}}}"#);
            let failure = failure("s", "GET /", StatusCode::OK, None, body.as_bytes());
            assert_eq!(failure.kind().exit_code(), 8);
        }
    }
}
