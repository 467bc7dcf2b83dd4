//! What a request's address says: Bedrock names the model and the operation there.

/// The operation that a request calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// The model or the resource that stands for one; `provider/model` is possible at the gateway.
    pub(crate) model: String,
    /// Whether a stream is wanted; `None` for operations that are no conversation.
    pub(crate) stream: Option<bool>,
    /// Whether the model is asked in its maker's own words, as those that make vectors are.
    pub(crate) invoked: bool,
}

/// The operation that a path calls, if it is one of a model: `/model/MODEL/converse`, `/model/MODEL/converse-stream` or
/// `/model/MODEL/invoke`.
pub(crate) fn operation(path: &str) -> Option<Operation> {
    let (model, name) = path.strip_prefix("/model/")?.rsplit_once('/')?;
    let model = super::super::unescaped(model)?;
    if model.is_empty() || name.is_empty() {
        return None;
    }
    let stream = match name {
        "converse" => Some(false),
        "converse-stream" => Some(true),
        _ => None,
    };
    Some(Operation { model, stream, invoked: name == "invoke" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_and_the_operation_are_the_paths() {
        for (path, model, stream) in [
            ("/model/amazon.nova-lite-v1%3A0/converse", "amazon.nova-lite-v1:0", Some(false)),
            ("/model/amazon.nova-lite-v1:0/converse-stream", "amazon.nova-lite-v1:0", Some(true)),
            ("/model/aws%2Famazon.nova-lite-v1%3A0/converse", "aws/amazon.nova-lite-v1:0", Some(false)),
            ("/model/openai/gpt-4o/converse", "openai/gpt-4o", Some(false)),
            ("/model/x/invoke", "x", None),
            ("/model/x/invoke-with-response-stream", "x", None),
        ] {
            let invoked = path.ends_with("/invoke");
            let wanted = Operation { model: model.to_owned(), stream, invoked };
            assert_eq!(operation(path), Some(wanted), "{path}");
        }
        for path in [
            "/model",
            "/model/",
            "/model/x",
            "/model//converse",
            "/model/x/",
            "/model/%/converse",
            "/models/x/y",
        ] {
            assert_eq!(operation(path), None, "{path}");
        }
    }
}
