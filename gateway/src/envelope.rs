//! The envelope of Google's Code Assist, which is what Gemini CLI speaks: Gemini's requests and answers, each inside of
//! another object. Taken off before anything reads the answer, so that nothing else knows of it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::frames::Frame;

/// A request in its envelope: the model is named there, and who is billed.
pub(crate) fn wrapped(request: &[u8], model: &str, project: Option<&str>) -> Bytes {
    let mut text = Vec::with_capacity(request.len() + 128);
    text.extend_from_slice(format!("{{\"model\":{},", json!(model)).as_bytes());
    if let Some(project) = project {
        text.extend_from_slice(format!("\"project\":{},", json!(project)).as_bytes());
    }
    text.extend_from_slice(b"\"request\":");
    text.extend_from_slice(request);
    text.push(b'}');
    text.into()
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    response: &'a RawValue,
}

/// What is in the envelope of an answer; an answer without one, an error that is, stays as it is.
pub(crate) fn unwrapped(answer: Bytes) -> Bytes {
    match serde_json::from_slice::<Answer<'_>>(&answer) {
        Ok(inner) => answer.slice_ref(inner.response.get().as_bytes()),
        Err(_) => answer,
    }
}

/// The same of an event of a stream.
pub(crate) fn unwrap(frame: &mut Frame) {
    let Some(data) = &frame.data else { return };
    let inner = serde_json::from_str::<Answer<'_>>(data).map(|inner| inner.response.get().to_owned());
    if let Ok(inner) = inner {
        frame.replace_data(inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::sse;

    #[test]
    fn a_request_and_its_answer_are_the_same_inside() {
        let request = wrapped(br#"{"contents":[]}"#, "gemini-2.5-pro", Some("my-project"));
        assert_eq!(
            request,
            br#"{"model":"gemini-2.5-pro","project":"my-project","request":{"contents":[]}}"#.as_slice()
        );
        assert_eq!(wrapped(b"{}", "m", None), br#"{"model":"m","request":{}}"#.as_slice());
        let answer = Bytes::from_static(br#"{"response": {"candidates":[1]}, "traceId":"x"}"#);
        assert_eq!(unwrapped(answer), br#"{"candidates":[1]}"#.as_slice());
        let error = Bytes::from_static(br#"{"error":{"code":403}}"#);
        assert_eq!(unwrapped(error.clone()), error);
        let mut frame = sse::event("", r#"{"response":{"candidates":[]},"traceId":"x"}"#.to_owned());
        unwrap(&mut frame);
        assert_eq!(frame.data.as_deref(), Some(r#"{"candidates":[]}"#));
        assert_eq!(frame.raw, "data: {\"candidates\":[]}\n\n".as_bytes());
    }
}
