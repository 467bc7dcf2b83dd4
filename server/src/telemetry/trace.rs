//! Trace context: the ids of traces and spans, `traceparent` of W3C Trace Context, and which traces are kept.

use data_encoding::HEXLOWER;
use http::HeaderMap;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The header in which a client says what its request belongs to.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Names a trace; never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TraceId([u8; 16]);

/// Names a span; never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SpanId([u8; 8]);

impl TraceId {
    pub(super) fn hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl SpanId {
    pub(super) fn random() -> Option<SpanId> {
        random().map(SpanId)
    }

    pub(super) fn hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// None when there is no randomness, and then there is no trace.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    bytes.iter().any(|byte| *byte != 0).then_some(bytes)
}

/// The span that others belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// Whether its trace is kept.
    pub(super) sampled: bool,
    /// Whether it is another process's.
    pub(super) remote: bool,
}

impl Parent {
    /// A span of a trace that is not kept; those below it are not, either.
    pub(super) const NOT_KEPT: Parent =
        Parent { trace: TraceId([0; 16]), span: SpanId([0; 8]), sampled: false, remote: false };

    /// What a request says it belongs to. Said twice, or not as the standard has it, is not said.
    pub(crate) fn of_request(headers: &HeaderMap) -> Option<Parent> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let (one, None) = (all.next()?, all.next()) else { return None };
        Parent::parse(one.to_str().ok()?)
    }

    /// `VERSION-TRACE-SPAN-FLAGS`, all in lower-case hex. Versions after the first may go on after that.
    fn parse(text: &str) -> Option<Parent> {
        let bytes = text.as_bytes();
        let version = field::<1>(bytes, 0)?[0];
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let ends = match version {
            0 => bytes.len() == 55,
            0xff => false,
            _ => bytes.len() == 55 || bytes.get(55) == Some(&b'-'),
        };
        if !dashes || !ends {
            return None;
        }
        let (trace, span) = (field::<16>(bytes, 3)?, field::<8>(bytes, 36)?);
        let named = trace.iter().any(|byte| *byte != 0) && span.iter().any(|byte| *byte != 0);
        let sampled = field::<1>(bytes, 53)?[0] & 1 == 1;
        named.then_some(Parent { trace: TraceId(trace), span: SpanId(span), sampled, remote: true })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    HEXLOWER.decode(bytes.get(at..at + 2 * N)?).ok()?.try_into().ok()
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampler {
    /// Of those that begin here: from 0 to 1.
    pub(crate) ratio: f64,
    /// Whether a client's word counts for the traces that it began.
    pub(crate) parent_based: bool,
}

impl Default for Sampler {
    /// All of them, but for those that clients do not keep.
    fn default() -> Self {
        Self { ratio: 1.0, parent_based: true }
    }
}

impl Sampler {
    /// Begins a span: below its parent, or as the first of a trace. None when the trace is not kept.
    pub(super) fn begin(self, parent: Option<Parent>) -> Option<Begun> {
        let trace = match parent {
            Some(parent) => parent.trace,
            None if self.ratio <= 0.0 => return None,
            None => TraceId(random()?),
        };
        let kept = match parent {
            Some(parent) if self.parent_based || !parent.remote => parent.sampled,
            _ => self.keeps(trace),
        };
        if !kept {
            return None;
        }
        Some(Begun { trace, span: SpanId::random()?, parent })
    }

    /// Decided by the id's last 56 bits, so that everybody with this ratio keeps the same traces.
    fn keeps(self, trace: TraceId) -> bool {
        let mut last = [0; 8];
        last[1..].copy_from_slice(&trace.0[9..]);
        (u64::from_be_bytes(last) as f64) < self.ratio * (1_u64 << 56) as f64
    }
}

/// A span that has begun, in a trace that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) parent: Option<Parent>,
}

impl Begun {
    /// What spans below it belong to.
    pub(super) fn as_parent(self) -> Parent {
        Parent { trace: self.trace, span: self.span, sampled: true, remote: false }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn of(values: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).expect("a value"));
        }
        Parent::of_request(&headers)
    }

    #[test]
    fn a_traceparent_is_read_as_the_standard_has_it() {
        let parent = of(&[&format!("00-{TRACE}-{SPAN}-01")]).expect("a parent");
        assert_eq!((parent.trace.hex(), parent.span.hex()), (TRACE.to_owned(), SPAN.to_owned()));
        assert!(parent.sampled && parent.remote);
        assert!(!of(&[&format!("00-{TRACE}-{SPAN}-00")]).expect("a parent").sampled);
        // Flags that are not known yet, and versions that say more.
        assert!(of(&[&format!("00-{TRACE}-{SPAN}-03")]).expect("a parent").sampled);
        assert!(of(&[&format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds")]).is_some());
        for wrong in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01x"),
            format!("cc-{TRACE}-{SPAN}-01more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "é".repeat(16)),
            "-".repeat(4000),
        ] {
            let header = HeaderValue::from_bytes(wrong.as_bytes()).expect("a value");
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(TRACEPARENT), header)]);
            assert_eq!(Parent::of_request(&headers), None, "{wrong:?}");
        }
        let one = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(of(&[&one, &one]), None, "which of them?");
    }

    #[test]
    fn a_ratio_keeps_its_share_and_a_client_s_word_counts_where_it_may() {
        let share = |sampler: Sampler| (0..4000).filter(|_| sampler.begin(None).is_some()).count();
        let of_ratio = |ratio| Sampler { ratio, parent_based: true };
        assert_eq!((share(of_ratio(0.0)), share(of_ratio(1.0))), (0, 4000));
        let quarter = share(of_ratio(0.25));
        assert!((800..1200).contains(&quarter), "{quarter} of 4000");

        let kept = of(&[&format!("00-{TRACE}-{SPAN}-01")]);
        let dropped = of(&[&format!("00-{TRACE}-{SPAN}-00")]);
        let begun = of_ratio(0.0).begin(kept).expect("the client keeps it");
        assert_eq!((begun.trace.hex(), begun.parent), (TRACE.to_owned(), kept));
        assert_ne!(begun.span.hex(), SPAN);
        assert_eq!(of_ratio(1.0).begin(dropped), None);
        let own = |ratio| Sampler { ratio, parent_based: false };
        assert_eq!(own(0.0).begin(kept), None);
        assert!(own(1.0).begin(dropped).is_some());
        // What belongs to a span of this process is kept with it.
        assert!(own(0.0).begin(Some(begun.as_parent())).is_some());
    }
}
