//! A host that is no model provider: it wants a token, and can be made to do what hosts should not.

use serde_json::json;

use crate::reply::Reply;
use crate::upstream::Host;
use crate::wire::Received;

/// A fake API that wants `Authorization: Bearer <token>`.
///
/// | path | answer |
/// |---|---|
/// | `/repos/…` | the path, as JSON |
/// | `/echo` | the request, token and all |
/// | `/redirect/<status>?<location>` | a redirect there |
///
/// Without the token every path answers 401.
#[derive(Debug, Clone)]
pub struct Api {
    token: String,
}

/// An API that accepts `token`.
pub fn api(token: &str) -> Api {
    Api { token: token.to_owned() }
}

impl Host for Api {
    fn answer(&self, request: &Received) -> Reply {
        if request.header("authorization") != Some(&format!("Bearer {}", self.token)) {
            return Reply::json(401, &json!({"message": "Bad credentials", "status": "401"}));
        }
        if request.path == "/echo" {
            return Reply::echo(request);
        }
        if let (Some(status), Some(location)) = (request.path.strip_prefix("/redirect/"), &request.query) {
            return Reply::redirect(status.parse().expect("a test writes a status"), location);
        }
        if request.path.starts_with("/repos/") {
            return Reply::json(200, &json!({"path": request.path, "query": request.query}));
        }
        Reply::json(404, &json!({"message": "Not Found", "status": "404"}))
    }
}
