//! Whoever hears of calls while they happen, for traces and counters.
//!
//! A listener is told names, numbers and classes; never what was said, and never a key. Texts that a client or a provider
//! chose (a model's name, an answer's id) are theirs, of any length. It is called on the call's own way and must not block.

use crate::ir::{Class, Sampling, StopReason, Usage};
use crate::plan::Candidate;
use crate::purse::LimitHit;
use crate::receipt::Receipt;
use crate::upstream::{Asked, ClientRequest};

/// Hears of the calls of a session.
pub trait Listener: Send + Sync {
    /// A call has begun. What is returned hears of that one.
    fn call(&self) -> Box<dyn CallListener>;
}

/// Hears of one call, in the order of these methods; of attempts as often as there are any.
pub trait CallListener: Send {
    /// What was asked for, once that is known.
    fn asked(&mut self, asked: &CallStart);

    /// A request to this candidate is about to be sent.
    fn attempt_began(&mut self, candidate: &Candidate);

    /// The attempt under way, of a stream, has said the first thing: it is the one that serves.
    fn first_token(&mut self);

    /// The attempt under way failed before anything was said. `status` is what the provider answered with, if it did.
    fn attempt_failed(&mut self, class: Class, status: Option<u16>);

    /// The call is over, and with it the attempt under way.
    fn ended(&mut self, end: &CallEnd<'_>);
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// An answer to a conversation.
    Chat,
    /// Vectors of texts.
    Embeddings,
}

/// What a call asks for, as numbers.
#[derive(Clone, Debug)]
pub struct CallStart {
    /// What it does.
    pub operation: Operation,
    /// Whether the answer is wanted as a stream.
    pub stream: bool,
    /// The client's bound on the answer, in tokens.
    pub max_tokens: Option<u64>,
    /// Answers that are wanted.
    pub answers: u64,
    /// Randomness and penalties.
    pub sampling: Sampling,
}

impl CallStart {
    /// What a client's request asks for.
    pub(crate) fn of(request: &ClientRequest) -> CallStart {
        match &request.asked {
            Asked::Chat(chat) => CallStart {
                operation: Operation::Chat,
                stream: chat.stream,
                max_tokens: chat.max_tokens,
                answers: chat.answers,
                sampling: chat.sampling.clone(),
            },
            Asked::Embeddings(_) => CallStart {
                operation: Operation::Embeddings,
                stream: false,
                max_tokens: None,
                answers: 1,
                sampling: Sampling::default(),
            },
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub struct CallEnd<'a> {
    /// What is on record of it.
    pub receipt: &'a Receipt,
    /// The class of its failure, where it failed.
    pub class: Option<Class>,
    /// The bound that ended it, where one did.
    pub hit: Option<&'a LimitHit>,
    /// The provider's id of the answer.
    pub id: Option<&'a str>,
    /// Why the answer ended.
    pub stop: Option<StopReason>,
    /// What the provider counted for the attempt that served.
    pub usage: Option<&'a Usage>,
}

/// What a call's account keeps for its listener, and only when there is one.
pub(crate) struct Heard {
    listener: Box<dyn CallListener>,
    class: Option<Class>,
    hit: Option<LimitHit>,
    id: Option<String>,
    stop: Option<StopReason>,
}

impl Heard {
    pub(crate) fn by(listener: &dyn Listener) -> Heard {
        Heard { listener: listener.call(), class: None, hit: None, id: None, stop: None }
    }

    pub(crate) fn asked(&mut self, asked: &CallStart) {
        self.listener.asked(asked);
    }

    pub(crate) fn attempt_began(&mut self, candidate: &Candidate) {
        (self.id, self.stop) = (None, None);
        self.listener.attempt_began(candidate);
    }

    pub(crate) fn first_token(&mut self) {
        self.listener.first_token();
    }

    pub(crate) fn attempt_failed(&mut self, class: Class, status: Option<u16>) {
        self.listener.attempt_failed(class, status);
    }

    pub(crate) fn id(&mut self, id: &str) {
        if !id.is_empty() {
            self.id = Some(id.to_owned());
        }
    }

    pub(crate) fn stopped(&mut self, stop: StopReason) {
        self.stop = Some(stop);
    }

    pub(crate) fn fails(&mut self, class: Class) {
        self.class = Some(class);
    }

    pub(crate) fn bounded(&mut self, hit: &LimitHit) {
        self.hit = Some(hit.clone());
    }

    pub(crate) fn ended(mut self, receipt: &Receipt, usage: Option<&Usage>) {
        let end = CallEnd {
            receipt,
            class: self.class,
            hit: self.hit.as_ref(),
            id: self.id.as_deref(),
            stop: self.stop,
            usage,
        };
        self.listener.ended(&end);
    }
}
