//! A chat request and its answer, apart from any wire format.

use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::extract;
use super::schema;
use super::tokens;
use super::tools;

/// A request that its dialect found to be in order.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) model: String,
    /// All system and developer text.
    pub(super) system: String,
    pub(super) turns: Vec<Turn>,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Choice,
    /// Whether several tools may be called in one answer.
    pub(super) parallel: bool,
    pub(super) max_tokens: Option<u64>,
    pub(super) stops: Vec<String>,
    pub(super) format: Format,
    pub(super) stream: bool,
    /// Whether a stream ends with a usage event (OpenAI's `stream_options.include_usage`).
    pub(super) include_usage: bool,
    /// How many alternatives are wanted (OpenAI's `n`).
    pub(super) alternatives: u32,
    /// What the conversation counts as, by [`tokens::count`].
    pub(super) input_tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
    /// The result of a tool.
    Tool,
}

#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) role: Role,
    pub(super) text: String,
}

#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Tools are called when the question names them or fits them.
    Auto,
    None,
    /// Some tool has to be called.
    Any,
    /// This one has to be.
    Named(String),
}

#[derive(Clone, Debug)]
pub(super) enum Format {
    Text,
    Json,
    Schema(Value),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
    pub(super) finish: Finish,
    pub(super) output_tokens: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    /// JSON text; no whole document when the answer ran into `max_tokens`.
    pub(super) arguments: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    End,
    /// This stop sequence came next.
    Stop(String),
    Length,
    Tools,
    /// The provider's filter stopped the answer.
    Filter,
}

impl Ask {
    /// The answer to this request; `text` replaces what would be extracted.
    pub(super) fn answer(&self, text: Option<&str>) -> Answer {
        let calls = self.calls();
        if calls.is_empty() {
            let text = text.map_or_else(|| self.formatted(), str::to_owned);
            self.limited_text(text)
        } else {
            self.limited_calls(calls)
        }
    }

    /// The tools that this answer calls: those that the question wants and that have no results yet. A forced choice
    /// calls every time, as real providers do.
    fn calls(&self) -> Vec<Call> {
        let forced = |tool: Option<&Tool>| {
            let question = self.last_user_text();
            tool.map(|tool| tools::call(tool, &question)).into_iter().collect()
        };
        let mut chosen: Vec<Call> = match &self.choice {
            Choice::None => Vec::new(),
            Choice::Named(name) => forced(self.tools.iter().find(|tool| tool.name == *name)),
            Choice::Auto | Choice::Any => tools::wanted(self),
        };
        if self.choice == Choice::Any && chosen.is_empty() {
            chosen = forced(self.tools.first());
        }
        if !self.parallel {
            chosen.truncate(1);
        }
        chosen
    }

    fn formatted(&self) -> String {
        let text = extract::answer(self);
        match &self.format {
            Format::Text => text,
            Format::Json => serde_json::json!({ "answer": text }).to_string(),
            Format::Schema(schema) => schema::example(schema, &text).to_string(),
        }
    }

    fn limited_text(&self, mut text: String) -> Answer {
        let stop = self
            .stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop)))
            .min_by_key(|(at, _)| *at);
        let mut finish = Finish::End;
        if let Some((at, stop)) = stop {
            text.truncate(at);
            finish = Finish::Stop(stop.clone());
        }
        if let Some(kept) = self.max_tokens.and_then(|max| tokens::first(&text, max)) {
            text.truncate(kept);
            finish = Finish::Length;
        }
        let output_tokens = tokens::count(&text);
        Answer { text, calls: Vec::new(), finish, output_tokens }
    }

    fn limited_calls(&self, calls: Vec<Call>) -> Answer {
        let mut left = self.max_tokens.unwrap_or(u64::MAX);
        let mut answer =
            Answer { text: String::new(), calls: Vec::new(), finish: Finish::Tools, output_tokens: 0 };
        for mut call in calls {
            if let Some(kept) = tokens::first(&call.arguments, left) {
                call.arguments.truncate(kept);
                answer.finish = Finish::Length;
            }
            let used = tokens::count(&call.arguments);
            left = left.saturating_sub(used);
            answer.output_tokens += used;
            answer.calls.push(call);
            if answer.finish == Finish::Length {
                break;
            }
        }
        answer
    }

    pub(super) fn last_user_text(&self) -> String {
        let last = self.turns.iter().rev().find(|turn| turn.role == Role::User);
        last.map(|turn| turn.text.clone()).unwrap_or_default()
    }

    /// Counts the conversation: the text, a few tokens of framing for each message, and the tools as JSON.
    pub(super) fn count_input(&mut self) {
        let turns: u64 = self.turns.iter().map(|turn| tokens::count(&turn.text) + 4).sum();
        let tools: u64 = self
            .tools
            .iter()
            .map(|tool| tokens::count(&tool.name) + tokens::count(&tool.schema.to_string()))
            .sum();
        self.input_tokens = tokens::count(&self.system) + turns + tools + 3;
    }
}

/// Ids that depend on nothing but the request.
pub(super) struct Ids([u8; 32]);

impl Ids {
    /// Hashes what the request is, apart from its headers: those hold the key, which is random.
    pub(super) fn of(provider: &str, path: &str, body: &[u8]) -> Ids {
        let mut input = Vec::with_capacity(provider.len() + path.len() + body.len() + 2);
        input.extend_from_slice(provider.as_bytes());
        input.push(0);
        input.extend_from_slice(path.as_bytes());
        input.push(0);
        input.extend_from_slice(body);
        Ids(Ids::hash(&input))
    }

    /// `length` (at most 40) characters for the purpose `tag`.
    pub(super) fn id(&self, tag: &str, length: usize) -> String {
        let mut input = self.0.to_vec();
        input.extend_from_slice(tag.as_bytes());
        let mut text = data_encoding::BASE32_NOPAD.encode(&Ids::hash(&input)).to_ascii_lowercase();
        text.truncate(length);
        text
    }

    fn hash(input: &[u8]) -> [u8; 32] {
        let mut out = [0u8; 32];
        out.copy_from_slice(digest(&SHA256, input).as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(text: &str) -> Ask {
        Ask {
            model: "m".to_owned(),
            system: String::new(),
            turns: vec![Turn { role: Role::User, text: text.to_owned() }],
            tools: Vec::new(),
            choice: Choice::Auto,
            parallel: true,
            max_tokens: None,
            stops: Vec::new(),
            format: Format::Text,
            stream: false,
            include_usage: false,
            alternatives: 1,
            input_tokens: 0,
        }
    }

    fn with_tools(text: &str) -> Ask {
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            schema: json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}),
        };
        Ask { tools: vec![tool("get_weather"), tool("search")], ..ask(text) }
    }

    fn called(ask: &Ask) -> Vec<String> {
        ask.answer(None).calls.into_iter().map(|call| call.name).collect()
    }

    #[test]
    fn tools_are_called_when_named_or_forced() {
        assert_eq!(called(&with_tools("Use search, then get_weather for Oslo.")), ["get_weather", "search"]);
        assert_eq!(called(&with_tools("Research Oslo; get_weather_now is no tool.")), Vec::<String>::new());
        assert_eq!(called(&Ask { parallel: false, ..with_tools("search and get_weather") }), ["get_weather"]);
        assert_eq!(called(&Ask { choice: Choice::Any, ..with_tools("Hello") }), ["get_weather"]);
        assert_eq!(called(&Ask { choice: Choice::Any, ..with_tools("search!") }), ["search"]);
        assert_eq!(
            called(&Ask { choice: Choice::Named("search".into()), ..with_tools("get_weather") }),
            ["search"]
        );
        assert_eq!(called(&Ask { choice: Choice::None, ..with_tools("search") }), Vec::<String>::new());
    }

    #[test]
    fn after_a_tool_result_comes_text() {
        let mut ask = with_tools("Call search for Oslo.");
        ask.turns.push(Turn { role: Role::Assistant, text: String::new() });
        ask.turns.push(Turn { role: Role::Tool, text: "Oslo is the capital of Norway. search".to_owned() });
        let answer = ask.answer(None);
        assert!(answer.calls.is_empty());
        assert!(answer.text.contains("Oslo is the capital of Norway."), "{}", answer.text);
    }

    #[test]
    fn limits_and_stops_end_the_answer_at_the_earlier_one() {
        let text = "One two three four five.";
        let answer = Ask { max_tokens: Some(3), ..ask("x") }.answer(Some(text));
        assert_eq!(
            (answer.text.as_str(), &answer.finish, answer.output_tokens),
            ("One two three", &Finish::Length, 3)
        );
        let stops = vec!["five".to_owned(), " three".to_owned()];
        let answer = Ask { stops: stops.clone(), ..ask("x") }.answer(Some(text));
        assert_eq!((answer.text.as_str(), answer.finish), ("One two", Finish::Stop(" three".to_owned())));
        let answer = Ask { stops, max_tokens: Some(1), ..ask("x") }.answer(Some(text));
        assert_eq!((answer.text.as_str(), answer.finish), ("One", Finish::Length));
        assert_eq!(Ask { max_tokens: Some(6), ..ask("x") }.answer(Some(text)).finish, Finish::End);
    }

    #[test]
    fn arguments_are_cut_by_the_limit() {
        let answer =
            Ask { choice: Choice::Any, max_tokens: Some(2), ..with_tools("Hello there") }.answer(None);
        assert_eq!(answer.finish, Finish::Length);
        assert!(serde_json::from_str::<Value>(&answer.calls[0].arguments).is_err());
    }

    #[test]
    fn ids_depend_on_the_request_and_the_purpose() {
        let ids = Ids::of("openai", "/v1", b"{}");
        assert_eq!(ids.id("a", 24), Ids::of("openai", "/v1", b"{}").id("a", 24));
        assert_ne!(ids.id("a", 24), ids.id("b", 24));
        assert_ne!(ids.id("a", 24), Ids::of("openai", "/v1", b"{ }").id("a", 24));
        assert_eq!(ids.id("a", 24).len(), 24);
    }
}
