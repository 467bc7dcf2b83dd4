//! From a request to a reply: which host, which provider, is the key right, is the request in order, what does the
//! scenario say.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::chat::{Answer, Ask, Finish, Ids};
use super::failure::{self, Reject};
use super::reply::{Content, Cut, Event, Pace, Reply, ReplyBody, cut_at};
use super::scenario::{Outcome, Rule, ScriptedHost};
use super::served::{House, KeyPlace, Served, Wire};
use super::server::Channel;
use super::world::World;
use super::{anthropic, bedrock, cohere, embeddings, gemini, ollama, openai, responses};

/// The largest request body, as Anthropic has it: 32 MB.
const LARGEST: usize = 32 << 20;

/// Answers one request. `Err` closes the connection without an answer, because the scenario says so.
pub(super) async fn respond(
    world: &World,
    channel: &Channel,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Cut> {
    let (parts, body) = request.into_parts();
    // Also what is refused is read to its end: a client that is still writing would see a broken connection instead
    // of the reason.
    let body = match Limited::new(body, LARGEST).collect().await {
        Ok(body) => Some(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => None,
        Err(_) => return Err(Cut),
    };
    let (decision, pace) = decide(world, channel, &parts, body.as_deref());
    match decision {
        Decision::Reply(reply) => Ok(reply.send(pace).await),
        Decision::Hangup => {
            tokio::time::sleep(pace.delay).await;
            Err(Cut)
        }
    }
}

enum Decision {
    Reply(Reply),
    Hangup,
}

/// Pure but for the scenario's counters.
fn decide(world: &World, channel: &Channel, parts: &Parts, body: Option<&[u8]>) -> (Decision, Pace) {
    let at_once = |reply| (Decision::Reply(reply), Pace::default());
    let Some((host, port)) = origin(parts, channel) else {
        let text =
            "misdirected: the Host header has to name the host that the connection was made for".to_owned();
        return at_once(Reply::text(StatusCode::MISDIRECTED_REQUEST, text));
    };
    let https = matches!(channel, Channel::Tls { .. });
    let mut scripts =
        world.scenario.hosts.iter().filter(|s| https && s.host.as_str() == host && s.port == port).peekable();
    let scripted_host = scripts.peek().is_some();
    if let Some(script) = scripts.find(|script| fits(script, parts)) {
        return at_once(Reply::scripted(script.reply.status, &script.reply.headers, &script.reply.body));
    }
    let here: Vec<&Served> =
        world.served.iter().filter(|s| s.host == host && s.port == port && s.https == https).collect();
    let Some(any) = here.first() else {
        let (status, what) = if scripted_host {
            (
                StatusCode::NOT_FOUND,
                format!("the scenario scripts no {} {} on {host}", parts.method, parts.uri.path()),
            )
        } else {
            (StatusCode::MISDIRECTED_REQUEST, format!("the simulation does not serve {host}:{port}"))
        };
        return at_once(Reply::text(status, what));
    };
    let path = parts.uri.path();
    if let Some(exchange) = meant(world, parts, &here, |inference| covers(inference, path)) {
        return exchange.infer(body);
    }
    let lists = |inference: &str| Served::models_path(inference).is_some_and(|models| models == path);
    if let Some(exchange) = meant(world, parts, &here, lists) {
        return at_once(exchange.models());
    }
    let wire = any.inference.first().map_or(Wire::OpenAiChat, |(_, wire)| *wire);
    let ids = Ids::of(&any.provider, path, &[]);
    let house = any.house(wire);
    at_once(failure::reject(house, &Reject::not_found(house, &parts.method, path), &ids))
}

/// Who is meant among those here whose paths `asks` picks. Two may be asked at one path, Anthropic with a key and with the
/// sign-in of Claude Code: then the key says who.
fn meant<'a>(
    world: &'a World,
    parts: &'a Parts,
    here: &[&'a Served],
    asks: impl Fn(&str) -> bool,
) -> Option<Exchange<'a>> {
    let mut first = None;
    for &served in here {
        for (_, wire) in served.inference.iter().filter(|(inference, _)| asks(inference)) {
            let exchange = Exchange { world, served, wire: *wire, house: served.house(*wire), parts };
            if exchange.authorised().is_ok() {
                return Some(exchange);
            }
            first.get_or_insert(exchange);
        }
    }
    first
}

/// Whether a request's path is this one, in which `*` stands for a model. Where a slash ends it, it may hold escapes.
fn covers(inference: &str, path: &str) -> bool {
    match inference.split_once('*') {
        None => inference == path,
        Some((before, after)) => {
            let model = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            let refused: &[char] = if after.starts_with('/') { &['/'] } else { &['/', ':', '%'] };
            model.is_some_and(|model| !model.is_empty() && !model.contains(refused))
        }
    }
}

/// The host and port that the request is for, when they agree with what TLS was asked for.
fn origin(parts: &Parts, channel: &Channel) -> Option<(String, u16)> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let authority = match (parts.uri.authority(), hosts.next()) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => host.to_str().ok()?.parse().ok()?,
        (None, None) => return None,
    };
    if hosts.next().is_some() || authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    let (agrees, default) = match channel {
        Channel::Plain => (true, 80),
        Channel::Tls { sni: Some(sni) } => (*sni == host, 443),
        Channel::Tls { sni: None } => (host.parse::<IpAddr>().is_ok(), 443),
    };
    agrees.then(|| (host, authority.port_u16().unwrap_or(default)))
}

fn fits(script: &ScriptedHost, parts: &Parts) -> bool {
    script.method.as_ref().is_none_or(|method| *method == parts.method)
        && script.path.as_deref().is_none_or(|path| path == parts.uri.path())
}

/// A request that has found its provider.
struct Exchange<'a> {
    world: &'a World,
    served: &'a Served,
    wire: Wire,
    house: House,
    parts: &'a Parts,
}

impl Exchange<'_> {
    fn infer(&self, body: Option<&[u8]>) -> (Decision, Pace) {
        let bytes = body.unwrap_or_default();
        let ids = Ids::of(&self.served.provider, self.parts.uri.path(), bytes);
        if self.wire.embeds() {
            return self.embed(body, &ids);
        }
        let ask = self.authorised().and_then(|()| self.parse(body));
        let ask = match ask {
            Ok(ask) => ask,
            Err(reject) => {
                return (Decision::Reply(failure::reject(self.house, &reject, &ids)), Pace::default());
            }
        };
        let rule = self.world.count(&self.served.provider, &ask.model);
        let mut pace = rule.map(Pace::of).unwrap_or_default();
        let outcome = rule.map_or(Outcome::Ok, |rule| rule.outcome);
        let mut reply = match outcome {
            Outcome::Hangup => return (Decision::Hangup, pace),
            Outcome::Ok => self.write(&ask, &ask.answer(rule.and_then(|rule| rule.text.as_deref())), &ids),
            Outcome::Filtered => {
                let answer = Answer {
                    text: String::new(),
                    calls: Vec::new(),
                    finish: Finish::Filter,
                    output_tokens: 0,
                };
                self.write(&ask, &answer, &ids)
            }
            Outcome::StreamError if ask.stream => {
                let good = self.write(&ask, &ask.answer(None), &ids);
                let pieces = pace.cut.take().unwrap_or(2);
                break_off(good, pieces, |number| failure::stream_error(self.house, self.wire, number))
            }
            failed => failure::outcome(self.house, failed, &ask.model, &ids),
        };
        if let Some(rule) = rule {
            replace(&mut reply, rule);
        }
        (Decision::Reply(reply), pace)
    }

    /// Vectors. What a scenario says of text means nothing here; what it says of failures holds.
    fn embed(&self, body: Option<&[u8]>, ids: &Ids) -> (Decision, Pace) {
        let read = self.authorised().and_then(|()| self.document(body));
        let embed = match read.and_then(|value| embeddings::parse(self.wire, &self.parts.uri, &value)) {
            Ok(embed) => embed,
            Err(reject) => {
                return (Decision::Reply(failure::reject(self.house, &reject, ids)), Pace::default());
            }
        };
        let rule = self.world.count(&self.served.provider, &embed.model);
        let pace = rule.map(Pace::of).unwrap_or_default();
        let mut reply = match rule.map_or(Outcome::Ok, |rule| rule.outcome) {
            Outcome::Hangup => return (Decision::Hangup, pace),
            Outcome::Ok | Outcome::Filtered => {
                failure::stamp(self.house, embeddings::write(self.wire, &embed, ids), ids)
            }
            failed => failure::outcome(self.house, failed, &embed.model, ids),
        };
        if let Some(rule) = rule {
            replace(&mut reply, rule);
        }
        (Decision::Reply(reply), pace)
    }

    fn models(&self) -> Reply {
        let path = self.parts.uri.path();
        let ids = Ids::of(&self.served.provider, path, &[]);
        if self.parts.method != Method::GET {
            let reject = Reject::method(self.house, &self.parts.method, path);
            return failure::reject(self.house, &reject, &ids);
        }
        match self.authorised() {
            Err(reject) => failure::reject(self.house, &reject, &ids),
            Ok(()) => {
                let list = match self.wire {
                    Wire::OpenAiChat | Wire::OpenAiResponses | Wire::OpenAiEmbeddings => {
                        openai::models(&self.served.provider, &self.served.models)
                    }
                    Wire::AnthropicMessages => anthropic::models(&self.served.models),
                    Wire::GeminiGenerateContent | Wire::CodeAssist | Wire::GeminiEmbeddings => {
                        gemini::models(&self.served.models)
                    }
                    Wire::BedrockConverse | Wire::BedrockEmbeddings => bedrock::models(&self.served.models),
                    Wire::CohereChat | Wire::CohereEmbeddings => cohere::models(&self.served.models),
                    Wire::OllamaChat | Wire::OllamaEmbeddings => ollama::models(&self.served.models),
                };
                failure::stamp(self.house, Reply::json(StatusCode::OK, &list), &ids)
            }
        }
    }

    /// Whether the request carries this provider's key of this run, where the provider wants it and nowhere else.
    fn authorised(&self) -> Result<(), Reject> {
        let Some(key) = self.world.keys.get(&self.served.provider) else { return Ok(()) };
        let headers = &self.parts.headers;
        let (name, bearer) = match &self.served.key {
            KeyPlace::None => return Ok(()),
            KeyPlace::Bearer => (AUTHORIZATION, true),
            // Anthropic takes a key as everybody's too.
            KeyPlace::Header(name) if self.house == House::Anthropic && !headers.contains_key(name) => {
                (AUTHORIZATION, true)
            }
            KeyPlace::Header(name) => (name.clone(), false),
        };
        let mut sent = headers.get_all(name).iter();
        let Some(value) = sent.next() else { return Err(Reject::no_key(self.house)) };
        let presented = match value.to_str() {
            Ok(text) if bearer => match text.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
                _ => return Err(Reject::no_key(self.house)),
            },
            Ok(text) => text,
            Err(_) => "",
        };
        if presented != key || sent.next().is_some() {
            return Err(match self.wire {
                Wire::CodeAssist => Reject::wrong_token(),
                _ => Reject::wrong_key(self.house),
            });
        }
        // Anthropic knows no sign-in unless the request says that it is one.
        let beta = |value: &http::HeaderValue| value.to_str().is_ok_and(|beta| beta.contains("oauth-"));
        let signs_in = self.served.key == KeyPlace::Bearer && self.served.host == "api.anthropic.com";
        match signs_in && !headers.get_all("anthropic-beta").iter().any(beta) {
            true => Err(Reject::no_key(self.house)),
            false => Ok(()),
        }
    }

    /// The body as JSON.
    fn document(&self, body: Option<&[u8]>) -> Result<Value, Reject> {
        if self.parts.method != Method::POST {
            return Err(Reject::method(self.house, &self.parts.method, self.parts.uri.path()));
        }
        let body = body.ok_or_else(|| Reject::too_large(self.house))?;
        serde_json::from_slice(body).map_err(|error| Reject::no_json(self.house, &error))
    }

    fn parse(&self, body: Option<&[u8]>) -> Result<Ask, Reject> {
        let value = self.document(body)?;
        let mut ask = match self.wire {
            Wire::OpenAiChat => openai::request::parse(self.house, &value)?,
            Wire::OpenAiResponses => responses::request::parse(self.house, &value)?,
            Wire::AnthropicMessages => anthropic::request::parse(&self.parts.headers, &value)?,
            Wire::GeminiGenerateContent => gemini::request::parse(&self.parts.uri, &value)?,
            Wire::CodeAssist => gemini::request::parse_enveloped(&self.parts.uri, &value)?,
            Wire::BedrockConverse => bedrock::request::parse(&self.parts.uri, &value)?,
            Wire::CohereChat => cohere::request::parse(&value)?,
            Wire::OllamaChat => ollama::request::parse(&value)?,
            Wire::OpenAiEmbeddings
            | Wire::GeminiEmbeddings
            | Wire::CohereEmbeddings
            | Wire::OllamaEmbeddings
            | Wire::BedrockEmbeddings => return Err(self.no_chat()),
        };
        ask.count_input();
        Ok(ask)
    }

    fn no_chat(&self) -> Reject {
        Reject::not_found(self.house, &self.parts.method, self.parts.uri.path())
    }

    fn write(&self, ask: &Ask, answer: &Answer, ids: &Ids) -> Reply {
        let reply = match self.wire {
            Wire::OpenAiChat => openai::write(self.house, ask, answer, ids),
            Wire::OpenAiResponses => responses::write(ask, answer, ids),
            Wire::AnthropicMessages => anthropic::write(ask, answer, ids),
            Wire::GeminiGenerateContent => gemini::write(ask, answer, ids),
            Wire::CodeAssist => gemini::write_enveloped(ask, answer, ids),
            Wire::BedrockConverse => bedrock::write(ask, answer, ids),
            Wire::CohereChat => cohere::write(ask, answer, ids),
            Wire::OllamaChat => ollama::write(ask, answer),
            Wire::OpenAiEmbeddings
            | Wire::GeminiEmbeddings
            | Wire::CohereEmbeddings
            | Wire::OllamaEmbeddings
            | Wire::BedrockEmbeddings => failure::reject(self.house, &self.no_chat(), ids),
        };
        failure::stamp(self.house, reply, ids)
    }
}

/// A stream that ends with an error after `pieces` pieces of content; the error is told how many events came before it.
fn break_off(mut reply: Reply, pieces: u32, error: impl FnOnce(usize) -> Event) -> Reply {
    if let Content::Stream(events) = &mut reply.content {
        events.truncate(cut_at(events, pieces));
        events.push(error(events.len()));
    }
    reply
}

/// Puts what the rule spells out in the place of what was built in.
fn replace(reply: &mut Reply, rule: &Rule) {
    if let Some(body) = &rule.body {
        let headers: Vec<_> = std::mem::take(&mut reply.headers)
            .into_iter()
            .filter_map(|(name, value)| name.map(|name| (name, value)))
            .filter(|(name, _)| *name != http::header::CONTENT_TYPE && *name != http::header::CACHE_CONTROL)
            .collect();
        *reply = Reply::scripted(reply.status, &headers, body);
    }
    if let Some(status) = rule.status {
        reply.status = status;
    }
    reply.set(&rule.headers);
}
