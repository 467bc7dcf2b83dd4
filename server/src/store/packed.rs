//! A model call on its way to the thread that writes it, in one piece of memory.
//!
//! What one thread allocates and another one frees is in the cache of neither when it is used again. A call has nineteen texts,
//! most of them short, and there are thousands of calls a second.

use super::columns::micros;
use super::rows::{COUNT_LIMIT, CallRow, Moved};

/// A [`CallRow`] as it is written.
pub(super) struct Packed {
    /// All of its texts, one behind the other.
    texts: String,
    pub(super) workspace: Span,
    pub(super) run: Option<Span>,
    pub(super) caller: Span,
    pub(super) agent: Option<Span>,
    pub(super) provider: Span,
    pub(super) model: Span,
    pub(super) receipt: Span,
    pub(super) request: Option<Span>,
    pub(super) credential: Option<Span>,
    pub(super) price_date: Option<Span>,
    pub(super) token: Option<Span>,
    pub(super) member: Option<Span>,
    pub(super) source: Option<Span>,
    pub(super) mask: Option<Span>,
    pub(super) billing: Option<Span>,
    pub(super) provider_asked: Option<Span>,
    pub(super) model_asked: Option<Span>,
    pub(super) outcome: Option<Span>,
    pub(super) class: Option<Span>,
    pub(super) time: i64,
    pub(super) input_tokens: i64,
    pub(super) output_tokens: i64,
    pub(super) cost: Option<i64>,
    pub(super) latency: Option<i64>,
    pub(super) first_token: Option<i64>,
    pub(super) moved: Vec<Moved>,
}

/// Where one of the texts stands among them all.
#[derive(Clone, Copy)]
pub(super) struct Span {
    from: usize,
    to: usize,
}

impl Packed {
    pub(super) fn of(call: &CallRow) -> Packed {
        // The receipt is most of it.
        let mut texts = String::with_capacity(call.receipt.len() + 512);
        let mut put = |text: &str| {
            let from = texts.len();
            texts.push_str(text);
            Span { from, to: texts.len() }
        };
        Packed {
            workspace: put(&call.workspace),
            run: call.run.as_ref().map(|run| put(run.as_str())),
            caller: put(&call.caller),
            agent: call.agent.as_deref().map(&mut put),
            provider: put(&call.provider),
            model: put(&call.model),
            receipt: put(&call.receipt),
            request: call.request.as_deref().map(&mut put),
            credential: call.credential.as_deref().map(&mut put),
            price_date: call.price_date.as_deref().map(&mut put),
            token: call.token.as_deref().map(&mut put),
            member: call.member.as_deref().map(&mut put),
            source: call.source.as_deref().map(&mut put),
            mask: call.mask.as_deref().map(&mut put),
            billing: call.billing.as_deref().map(&mut put),
            provider_asked: call.provider_asked.as_deref().map(&mut put),
            model_asked: call.model_asked.as_deref().map(&mut put),
            outcome: call.outcome.as_deref().map(&mut put),
            class: call.class.as_deref().map(&mut put),
            time: micros(call.time),
            input_tokens: bounded(call.input_tokens),
            output_tokens: bounded(call.output_tokens),
            cost: call.cost_micro_usd.map(bounded),
            latency: call.latency_ms.map(bounded),
            first_token: call.first_token_ms.map(bounded),
            moved: call.moved.clone(),
            texts,
        }
    }

    /// One of its texts, where it has it.
    pub(super) fn text(&self, span: impl Into<Option<Span>>) -> Option<&str> {
        span.into().and_then(|span| self.texts.get(span.from..span.to))
    }

    /// Bytes that it keeps.
    pub(super) fn weight(&self) -> usize {
        size_of::<Packed>() + self.texts.len() + self.moved.len() * size_of::<Moved>()
    }
}

/// A count as it is stored.
pub(super) fn bounded(number: u64) -> i64 {
    number.min(COUNT_LIMIT).cast_signed()
}

#[cfg(test)]
mod tests {
    use orch_manifests::RunId;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn each_text_is_where_it_belongs_or_nowhere() {
        let said = |text: &str| Some(text.to_owned());
        let mut call = CallRow {
            workspace: "w".to_owned(),
            run: Some(RunId::random()),
            caller: "caller".to_owned(),
            token: said("tok"),
            member: said("ada"),
            agent: said("agent"),
            provider: "openai".to_owned(),
            model: "model".to_owned(),
            input_tokens: u64::MAX,
            output_tokens: 2,
            cost_micro_usd: Some(3),
            time: OffsetDateTime::UNIX_EPOCH,
            request: said("req"),
            credential: said("KEY"),
            source: said("vault"),
            mask: said("cdéf"),
            billing: said("team"),
            provider_asked: said("asked"),
            model_asked: said("fast"),
            outcome: said("served"),
            class: said("server"),
            latency_ms: Some(4),
            first_token_ms: None,
            price_date: said("2026-07-02"),
            receipt: "{}".to_owned(),
            moved: Vec::new(),
        };
        let check = |call: &CallRow| {
            let packed = Packed::of(call);
            for (span, said) in [
                (packed.workspace, &call.workspace),
                (packed.caller, &call.caller),
                (packed.provider, &call.provider),
                (packed.model, &call.model),
                (packed.receipt, &call.receipt),
            ] {
                assert_eq!(packed.text(span), Some(&**said));
            }
            assert_eq!(packed.text(packed.run), call.run.as_ref().map(RunId::as_str));
            for (span, said) in [
                (packed.agent, &call.agent),
                (packed.request, &call.request),
                (packed.credential, &call.credential),
                (packed.price_date, &call.price_date),
                (packed.token, &call.token),
                (packed.member, &call.member),
                (packed.source, &call.source),
                (packed.mask, &call.mask),
                (packed.billing, &call.billing),
                (packed.provider_asked, &call.provider_asked),
                (packed.model_asked, &call.model_asked),
                (packed.outcome, &call.outcome),
                (packed.class, &call.class),
            ] {
                assert_eq!(packed.text(span), said.as_deref());
            }
            assert_eq!((packed.input_tokens, packed.output_tokens), (COUNT_LIMIT.cast_signed(), 2));
            assert_eq!((packed.cost, packed.latency, packed.first_token), (Some(3), Some(4), None));
        };
        check(&call);
        // Nothing is not the same as an empty text.
        call.run = None;
        call.agent = None;
        call.model.clear();
        call.token = None;
        call.mask = said("");
        call.class = None;
        check(&call);
    }
}
