//! Names of functions in the letters, and of the length, that a provider takes: some clients' may be longer, or have a dot.

use std::borrow::Cow;
use std::collections::HashMap;

use data_encoding::HEXLOWER;
use orch_manifests::Dialect;
use ring::digest::{SHA256, digest};

use crate::ir::{ChatRequest, Part, StreamEvent, Tool, ToolChoice};

/// Letters of the hash that tells a shortened name from others.
const HASH: usize = 8;

/// What a provider knows by other names: its names, and the client's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renamed(HashMap<String, String>);

impl Renamed {
    /// Gives the functions of a request names that are taken. The same name becomes the same one each time that the
    /// conversation is sent.
    pub(crate) fn apply(request: &mut ChatRequest, spoken: Dialect) -> Renamed {
        let mut renamed = HashMap::new();
        let mut rename = |name: &mut String| {
            if let Cow::Owned(taken) = taken(name, spoken) {
                let given = std::mem::replace(name, taken.clone());
                renamed.insert(taken, given);
            }
        };
        for tool in &mut request.tools {
            if let Tool::Function { name, .. } = tool {
                rename(name);
            }
        }
        if let Some(ToolChoice::Named(name)) = &mut request.tool_choice {
            rename(name);
        }
        for part in request.messages.iter_mut().flat_map(|message| &mut message.content) {
            if let Part::ToolCall(call) = part {
                rename(&mut call.name);
            }
        }
        Renamed(renamed)
    }

    /// The client's name in the place of the provider's.
    fn restore(&self, name: &mut String) {
        if let Some(given) = self.0.get(name) {
            name.clone_from(given);
        }
    }

    /// The same in an answer.
    pub(crate) fn restore_all(&self, answer: &mut [Part]) {
        for part in answer {
            if let Part::ToolCall(call) = part {
                self.restore(&mut call.name);
            }
        }
    }

    /// The same in an event of one.
    pub(crate) fn restore_in(&self, event: &mut StreamEvent) {
        if let StreamEvent::ToolStart { name, .. } = event {
            self.restore(name);
        }
    }
}

/// The name itself where it is taken.
fn taken(name: &str, spoken: Dialect) -> Cow<'_, str> {
    let longest = match spoken {
        Dialect::AnthropicMessages => 128,
        _ => 64,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    // Gemini's own, which it takes back.
    let fits = |c: char| plain(c) || (spoken == Dialect::GeminiGenerateContent && matches!(c, '.' | ':'));
    if name.chars().count() <= longest && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let hash = HEXLOWER.encode(digest(&SHA256, name.as_bytes()).as_ref());
    let begins = name.chars().map(|c| if plain(c) { c } else { '_' }).take(longest - HASH - 1);
    Cow::Owned(format!("{}_{}", begins.collect::<String>(), &hash[..HASH]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Message, Role, ToolCall};

    #[test]
    fn names_that_are_taken_stay() {
        for (name, spoken) in [
            ("a-b_C9".to_owned(), Dialect::OpenAiChat),
            ("a".repeat(64), Dialect::BedrockConverse),
            ("a".repeat(128), Dialect::AnthropicMessages),
            ("mcp.fs:read".to_owned(), Dialect::GeminiGenerateContent),
        ] {
            assert!(matches!(taken(&name, spoken), Cow::Borrowed(_)), "{name}");
        }
    }

    #[test]
    fn others_become_ones_that_are_told_apart_and_come_back() {
        let long = [
            "x".repeat(65),
            format!("{}y", "x".repeat(65)),
            "mcp.fs.read".to_owned(),
            "mcp_fs.read".to_owned(),
        ];
        let call = |name: &String| {
            Part::ToolCall(ToolCall {
                id: "a".into(),
                name: name.clone(),
                arguments: String::new(),
                signature: None,
            })
        };
        let said = Message {
            role: Role::Assistant,
            content: long.iter().map(call).collect(),
            extras: Default::default(),
        };
        let mut request = ChatRequest {
            messages: vec![said],
            tool_choice: Some(ToolChoice::Named(long[0].clone())),
            ..ChatRequest::default()
        };
        let renamed = Renamed::apply(&mut request, Dialect::OpenAiChat);
        let mut names: Vec<String> = Vec::new();
        for part in &request.messages[0].content {
            let Part::ToolCall(call) = part else { unreachable!("only calls were put in") };
            assert!(call.name.len() <= 64 && !call.name.contains('.'), "{}", call.name);
            assert!(!names.contains(&call.name), "{names:?}");
            names.push(call.name.clone());
        }
        assert_eq!(request.tool_choice, Some(ToolChoice::Named(names[0].clone())));
        for (given, sent) in long.iter().zip(names) {
            let mut event =
                StreamEvent::ToolStart { index: 0, id: "a".into(), name: sent.clone(), signature: None };
            renamed.restore_in(&mut event);
            assert!(matches!(event, StreamEvent::ToolStart { name, .. } if name == *given));
            let mut answer = [call(&sent)];
            renamed.restore_all(&mut answer);
            assert_eq!(answer, [call(given)]);
        }
    }
}
