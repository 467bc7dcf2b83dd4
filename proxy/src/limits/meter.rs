//! Counts the bytes of an exchange, for its run and for its host.

use std::sync::Arc;

use bytes::Bytes;

use super::{LimitHit, Usage, Way};
use crate::LiveGrant;

/// Where the bytes of one exchange are counted. No lock is taken for them.
#[derive(Clone)]
pub(crate) struct Meter {
    grant: Arc<LiveGrant>,
    /// What its host is counted by, where hosts are.
    host: Option<Arc<Usage>>,
}

impl Meter {
    pub(crate) fn new(grant: &Arc<LiveGrant>, host: Option<Arc<Usage>>) -> Self {
        Self { grant: Arc::clone(grant), host }
    }

    /// Counts these, and cuts off what is more than a limit lets through: that limit was hit then.
    pub(crate) fn pass(&self, way: Way, bytes: &mut Bytes) -> Result<(), LimitHit> {
        let (let_through, hit) = self.take(way, bytes.len());
        bytes.truncate(let_through);
        hit.map_or(Ok(()), Err)
    }

    /// Counts so many bytes, and says how many of them a limit lets through: that limit was hit, unless it is all.
    pub(crate) fn take(&self, way: Way, wanted: usize) -> (usize, Option<LimitHit>) {
        let length = wanted;
        let wanted = wanted as u64;
        let run = self.grant.usage();
        // From the host first: what the run does not have is put back where only this host's exchanges could miss it, and
        // those get nothing from the run either. The other way round, exchanges at other hosts would.
        let of_host = self.host.as_ref().map_or(wanted, |host| host.take(way, wanted));
        let granted = run.take(way, of_host);
        let by = match &self.host {
            Some(host) if granted == of_host => host,
            Some(host) => {
                host.put_back(way, of_host - granted);
                run
            }
            None => run,
        };
        if granted == wanted {
            return (length, None);
        }
        // Less than `wanted`, which was a length.
        (usize::try_from(granted).unwrap_or(length), Some(self.grant.hit(by.all_used(way))))
    }

    /// Says early that a body of this length will not get through.
    pub(crate) fn check_room(&self, way: Way, length: u64) -> Result<(), LimitHit> {
        let run = self.grant.usage().check_room(way, length);
        let all = run.and_then(|()| self.host.as_ref().map_or(Ok(()), |host| host.check_room(way, length)));
        all.map_err(|hit| self.grant.hit(hit))
    }
}
