//! One exchange among those of its grant.

use std::sync::Arc;

use super::LiveGrant;
use crate::limits::{Meter, Refused, Usage};
use crate::under_way::{Cancel, Cut};
use crate::{Credential, EgressError};

/// One exchange's place among those that may be under way, given back when dropped.
pub(crate) struct Admission {
    grant: Arc<LiveGrant>,
    number: u64,
    /// What its host is counted by, once it has a place there.
    host: Option<Arc<Usage>>,
    cut: Option<Cut>,
    left: bool,
}

impl Admission {
    /// For an exchange that has its place.
    pub(super) fn new(grant: &Arc<LiveGrant>, number: u64) -> Self {
        Self { grant: Arc::clone(grant), number, host: None, cut: None, left: false }
    }

    pub(crate) fn grant(&self) -> &Arc<LiveGrant> {
        &self.grant
    }

    /// Takes one request and one exchange from the limits of a host, which is one that may be reached.
    pub(crate) fn at(&mut self, host: &str) -> Result<(), EgressError> {
        let Some(usage) = self.grant.host_usage(host) else { return Ok(()) };
        let entered = usage.enter();
        if !matches!(entered, Err(Refused::Outside(_))) {
            self.host = Some(usage);
        }
        entered.map_err(|(Refused::Inside(hit) | Refused::Outside(hit))| self.grant.hit(hit).into())
    }

    /// Counts the exchange's bytes.
    pub(crate) fn meter(&self) -> Meter {
        Meter::new(&self.grant, self.host.clone())
    }

    /// Notes that the exchange is about to carry a credential.
    pub(crate) fn take_up(&mut self, credential: &Arc<dyn Credential>) {
        let cut = self.cut.get_or_insert_default();
        self.grant.under_way.take_up(self.number, credential, cut);
    }

    /// It does not carry the credential that it took up last.
    pub(crate) fn put_down(&mut self) {
        self.grant.under_way.put_down(self.number);
    }

    /// Where it shows that the exchange was cut off; `None` when it carries nothing that could be withdrawn.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.cut.clone()
    }

    /// Names what the exchange runs on.
    ///
    /// # Errors
    /// As [`Admission::check`]: what was ended before is not ended again by whoever did it.
    pub(crate) fn attach(&mut self, line: Cancel) -> Result<(), EgressError> {
        self.grant.under_way.attach(self.number, line);
        self.check()
    }

    /// Whether the exchange may go on.
    ///
    /// # Errors
    /// [`EgressError::Ended`] with its grant, [`EgressError::Withdrawn`] when it was cut.
    pub(crate) fn check(&self) -> Result<(), EgressError> {
        self.grant.check_live().map_err(EgressError::Ended)?;
        match self.cut.as_ref().and_then(Cut::by) {
            Some(credential) => Err(EgressError::Withdrawn { credential: credential.to_owned() }),
            None => Ok(()),
        }
    }

    /// Ends the exchange. Says whether what it ran on may serve others: not while somebody outside is ending it.
    pub(crate) fn leave(mut self) -> bool {
        self.left = true;
        self.give_back()
    }

    fn give_back(&self) -> bool {
        self.grant.usage.leave();
        if let Some(host) = &self.host {
            host.leave();
        }
        self.grant.under_way.leave(self.number)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.left {
            self.give_back();
        }
    }
}
