//! A model call on its way to the thread that writes it, in one piece of memory.
//!
//! What one thread allocates and another one frees is in the cache of neither when it is used again. A call has nineteen texts,
//! most of them short, and there are thousands of calls a second.

use orch_manifests::RunId;

use super::columns::micros;
use super::rows::{COUNT_LIMIT, CallRow, Moved};

/// A [`CallRow`] as it is written.
pub(super) struct Packed {
    /// All of its texts, one behind the other.
    all: String,
    /// Where each of them ends and whether there is one, in the order of [`Texts`].
    ends: [(u32, bool); 19],
    pub(super) time: i64,
    pub(super) input_tokens: i64,
    pub(super) output_tokens: i64,
    pub(super) cost: Option<i64>,
    pub(super) latency: Option<i64>,
    pub(super) first_token: Option<i64>,
    pub(super) moved: Vec<Moved>,
}

/// The texts of a [`CallRow`], by the names of their columns.
pub(super) struct Texts<'t> {
    pub(super) workspace: Option<&'t str>,
    pub(super) run: Option<&'t str>,
    pub(super) caller: Option<&'t str>,
    pub(super) agent: Option<&'t str>,
    pub(super) provider: Option<&'t str>,
    pub(super) model: Option<&'t str>,
    pub(super) receipt: Option<&'t str>,
    pub(super) request: Option<&'t str>,
    pub(super) credential: Option<&'t str>,
    pub(super) price_date: Option<&'t str>,
    pub(super) token: Option<&'t str>,
    pub(super) member: Option<&'t str>,
    pub(super) source: Option<&'t str>,
    pub(super) mask: Option<&'t str>,
    pub(super) billing: Option<&'t str>,
    pub(super) provider_asked: Option<&'t str>,
    pub(super) model_asked: Option<&'t str>,
    pub(super) outcome: Option<&'t str>,
    pub(super) class: Option<&'t str>,
}

impl Packed {
    pub(super) fn of(call: &CallRow) -> Packed {
        let texts = [
            Some(&*call.workspace),
            call.run.as_ref().map(RunId::as_str),
            Some(&*call.caller),
            call.agent.as_deref(),
            Some(&*call.provider),
            Some(&*call.model),
            Some(&*call.receipt),
            call.request.as_deref(),
            call.credential.as_deref(),
            call.price_date.as_deref(),
            call.token.as_deref(),
            call.member.as_deref(),
            call.source.as_deref(),
            call.mask.as_deref(),
            call.billing.as_deref(),
            call.provider_asked.as_deref(),
            call.model_asked.as_deref(),
            call.outcome.as_deref(),
            call.class.as_deref(),
        ];
        let mut all = String::with_capacity(texts.iter().flatten().map(|text| text.len()).sum());
        let ends = texts.map(|text| {
            all.push_str(text.unwrap_or_default());
            // Receipts have a bound, and names have.
            (u32::try_from(all.len()).unwrap_or(u32::MAX), text.is_some())
        });
        Packed {
            all,
            ends,
            time: micros(call.time),
            input_tokens: bounded(call.input_tokens),
            output_tokens: bounded(call.output_tokens),
            cost: call.cost_micro_usd.map(bounded),
            latency: call.latency_ms.map(bounded),
            first_token: call.first_token_ms.map(bounded),
            moved: call.moved.clone(),
        }
    }

    pub(super) fn texts(&self) -> Texts<'_> {
        let mut from = 0;
        let [
            workspace,
            run,
            caller,
            agent,
            provider,
            model,
            receipt,
            request,
            credential,
            price_date,
            token,
            member,
            source,
            mask,
            billing,
            provider_asked,
            model_asked,
            outcome,
            class,
        ] = self.ends.map(|(end, is_there)| {
            let text = self.all.get(std::mem::replace(&mut from, end as usize)..end as usize);
            text.filter(|_| is_there)
        });
        Texts {
            workspace,
            run,
            caller,
            agent,
            provider,
            model,
            receipt,
            request,
            credential,
            price_date,
            token,
            member,
            source,
            mask,
            billing,
            provider_asked,
            model_asked,
            outcome,
            class,
        }
    }

    /// Bytes that it keeps.
    pub(super) fn weight(&self) -> usize {
        size_of::<Packed>() + self.all.len() + self.moved.len() * size_of::<Moved>()
    }
}

/// A count as it is stored.
pub(super) fn bounded(number: u64) -> i64 {
    number.min(COUNT_LIMIT).cast_signed()
}

#[cfg(test)]
mod tests {
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
            let texts = packed.texts();
            let run = call.run.as_ref().map(RunId::as_str);
            assert_eq!(
                [texts.workspace, texts.run, texts.caller, texts.agent, texts.provider, texts.model],
                [Some("w"), run, Some("caller"), call.agent.as_deref(), Some("openai"), Some(&*call.model)]
            );
            assert_eq!(texts.receipt, Some("{}"));
            for (text, said) in [
                (texts.request, &call.request),
                (texts.credential, &call.credential),
                (texts.price_date, &call.price_date),
                (texts.token, &call.token),
                (texts.member, &call.member),
                (texts.source, &call.source),
                (texts.mask, &call.mask),
                (texts.billing, &call.billing),
                (texts.provider_asked, &call.provider_asked),
                (texts.model_asked, &call.model_asked),
                (texts.outcome, &call.outcome),
                (texts.class, &call.class),
            ] {
                assert_eq!(text, said.as_deref());
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
