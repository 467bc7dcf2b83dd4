//! How long things may take, and how slow they may be.

use std::sync::Arc;
use std::time::Duration;

use super::{LimitHit, Limits};
use crate::{BodyError, LiveGrant, TimeoutKind, Timeouts};

/// How long an exchange may take over what: as the operator said, or the run where that is shorter.
#[derive(Clone)]
pub(crate) struct Patience {
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
    pub(crate) pace: Pace,
    /// Which of the three are the run's own.
    own: [bool; 3],
    grant: Arc<LiveGrant>,
}

impl Patience {
    pub(crate) fn new(operators: Timeouts, grant: &Arc<LiveGrant>) -> Self {
        let Limits { first_byte, idle, exchange, .. } = grant.grant().limits;
        let shorter = |own: Option<Duration>, time: Duration| own.map_or(time, |own| own.min(time));
        let own = [(first_byte, operators.first_byte), (idle, operators.idle), (exchange, operators.total)];
        Self {
            first_byte: shorter(first_byte, operators.first_byte),
            idle: shorter(idle, operators.idle),
            total: shorter(exchange, operators.total),
            pace: operators.pace,
            own: own.map(|(own, operators)| own.is_some_and(|own| own < operators)),
            grant: Arc::clone(grant),
        }
    }

    /// What a clock that ran out means: a limit of the run was hit, or something took longer than anybody may take.
    pub(crate) fn ran_out(&self, kind: TimeoutKind) -> BodyError {
        let [first_byte, idle, total] = self.own;
        let (name, time, own) = match kind {
            TimeoutKind::FirstByte => ("first_byte", self.first_byte, first_byte),
            TimeoutKind::Idle => ("idle", self.idle, idle),
            TimeoutKind::Total => ("exchange", self.total, total),
            TimeoutKind::Dns | TimeoutKind::Connect | TimeoutKind::Tls | TimeoutKind::Pace => {
                return BodyError::Timeout(kind);
            }
        };
        if !own {
            return BodyError::Timeout(kind);
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        BodyError::Limit(self.grant.hit(LimitHit { name, used: millis, limit: millis }))
    }
}

/// How slowly whoever owes bytes may give them.
///
/// Only a body whose length was announced is owed, and only while it is waited for: time that the reader takes does not
/// count. A body of unknown length, such as a stream of events from a model that thinks, owes nothing; it may be quiet
/// as long as `idle` says, and its whole exchange is bounded. The head of a response is bounded as a whole, by the time
/// to the first byte: a drip of it does not buy more time.
///
/// Waiting makes a debt, and bytes pay for it at the rate. One pause is as good as another as long as the debt stays
/// below the patience, so what is quick in between may be quiet for that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Bytes per second that are enough for ever; 0 lets everything pass.
    pub rate: u32,
    /// How far behind that a body may fall.
    pub patience: Duration,
}

impl Default for Pace {
    /// 256 bytes per second, 120 s.
    fn default() -> Self {
        Self { rate: 256, patience: Duration::from_secs(120) }
    }
}

/// How far a body fell behind its pace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Debt {
    pace: Pace,
    owed: Duration,
}

impl Debt {
    /// Of a body that is owed; one that is not has none.
    pub(crate) fn of(pace: Pace, announced: Option<u64>) -> Option<Self> {
        (pace.rate > 0 && announced.is_some_and(|length| length > 0))
            .then_some(Self { pace, owed: Duration::ZERO })
    }

    /// How much longer it may be waited for from now on.
    pub(crate) fn left(&self) -> Duration {
        self.pace.patience.saturating_sub(self.owed)
    }

    /// It was waited for, and these came.
    pub(crate) fn paid(&mut self, waited: Duration, bytes: usize) {
        // Nanoseconds, saturating: 18 GB at a byte per second is the most that one frame can pay for.
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / u64::from(self.pace.rate);
        self.owed = (self.owed + waited).saturating_sub(Duration::from_nanos(nanos));
    }
}
