//! What a run tells: as an event stream for as long as it goes on, or what is there as one document.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orch_proxy::{Body, BodyError};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::resource;
use crate::api::reply;
use crate::failure::Failure;
use crate::service::Service;
use crate::store::{PAGE_LIMIT, RunEvent, RunRow};

/// How often a stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the store is looked at for a run that another process executes.
const LOOK: Duration = Duration::from_millis(500);
const BEAT: &[u8] = b":\n\n";

/// What one run has told, and tells.
pub(in crate::api) struct Told {
    service: Arc<Service>,
    row: RunRow,
    /// Whether its reader is told how the keys of its member end.
    sees_keys: bool,
}

impl Told {
    pub(in crate::api) fn new(service: &Arc<Service>, row: RunRow) -> Self {
        Self { service: Arc::clone(service), row, sees_keys: false }
    }

    /// The same for a reader who may, or may not, know how the keys of its member end.
    pub(super) fn seeing_keys(self, sees_keys: bool) -> Self {
        Self { sees_keys, ..self }
    }

    /// What is there after the event `after`, at once. `next` is what to ask with for more; null when there will be no
    /// more.
    pub(in crate::api) async fn page(self, after: u64, limit: u32) -> Result<Value, Failure> {
        let (events, next) = self.there(after, limit).await?;
        Ok(json!({ "events": documents(&events), "next": next }))
    }

    /// The events of [`Told::page`].
    pub(in crate::api) async fn there(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<(Vec<RunEvent>, Option<u64>), Failure> {
        let most = limit as usize;
        if let Some(mut follower) = self.service.follow(&self.row.run) {
            let mut events = follower.next(after).now_or_never().unwrap_or_default();
            events.truncate(most);
            let next = events.last().map_or(after, |event| event.seq);
            return Ok((events, Some(next)));
        }
        // The status is read before the events: what ends in between is asked for once more, not lost.
        let over = self.is_over().await?;
        let events = self.service.store().events(&self.row.run, after, limit).await?;
        let last = events.last().map_or(after, |event| event.seq);
        let more = !over || events.len() == most;
        Ok((events, more.then_some(last)))
    }

    /// Follows the run to its end.
    pub(in crate::api) fn stream(self, after: u64) -> Response<Body> {
        let following = Following { told: self, after, waiting: VecDeque::new(), state: State::Going };
        let pieces = stream::unfold(following, |mut following| async move {
            let piece = match timeout(HEARTBEAT, following.piece()).await {
                Ok(piece) => piece?,
                Err(_) => Bytes::from_static(BEAT),
            };
            Some((Ok::<_, BodyError>(Frame::data(piece)), following))
        });
        let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response
    }

    async fn is_over(&self) -> Result<bool, Failure> {
        if self.row.status.is_final() {
            return Ok(true);
        }
        Ok(self.end().await?.status.is_final())
    }

    /// The run as it is now.
    async fn end(&self) -> Result<RunRow, Failure> {
        let RunRow { workspace, run, .. } = &self.row;
        let row = self.service.store().run(workspace, run).await?;
        row.ok_or_else(|| super::not_found(run.as_str()))
    }
}

/// A stream under way.
struct Following {
    told: Told,
    after: u64,
    waiting: VecDeque<RunEvent>,
    state: State,
}

enum State {
    Going,
    /// The last piece was written.
    Over,
}

impl Following {
    /// The next piece of the stream; none after the last. Nothing is lost when this is dropped half way.
    async fn piece(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.seq;
                return Some(server_sent(event.kind.as_str(), Some(event.seq), &document(&event)));
            }
            if matches!(self.state, State::Over) {
                return None;
            }
            match self.more().await {
                Ok(Some(events)) => self.waiting = events.into(),
                Ok(None) => {
                    let end = self.told.end().await;
                    self.state = State::Over;
                    return Some(match end {
                        Ok(row) => server_sent("end", None, &resource(&row, self.told.sees_keys)),
                        Err(failure) => server_sent("error", None, &failure.to_json()),
                    });
                }
                Err(failure) => {
                    self.state = State::Over;
                    return Some(server_sent("error", None, &failure.to_json()));
                }
            }
        }
    }

    /// Events that are not told yet, when there are some; none when there will be none.
    async fn more(&self) -> Result<Option<Vec<RunEvent>>, Failure> {
        let Told { service, row, .. } = &self.told;
        loop {
            if let Some(mut follower) = service.follow(&row.run) {
                let events = follower.next(self.after).await;
                if !events.is_empty() {
                    return Ok(Some(events));
                }
            }
            let over = self.told.is_over().await?;
            let events = service.store().events(&row.run, self.after, PAGE_LIMIT).await?;
            match (events.is_empty(), over) {
                (false, _) => return Ok(Some(events)),
                (true, true) => return Ok(None),
                (true, false) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// An event as the API shows it.
fn document(event: &RunEvent) -> Value {
    json!({
        "seq": event.seq,
        "time": reply::time(event.time),
        "kind": event.kind.as_str(),
        "text": event.text,
    })
}

/// One event of an event stream. JSON holds no line breaks, so its data is one line.
fn server_sent(kind: &str, id: Option<u64>, data: &Value) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("{id}event: {kind}\ndata: {data}\n\n"))
}

/// Events as the API shows them.
pub(in crate::api) fn documents(events: &[RunEvent]) -> Vec<Value> {
    events.iter().map(document).collect()
}
