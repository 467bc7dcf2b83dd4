//! What two requests must have in common to share a connection.

use orch_manifests::{Host, Scheme};

use crate::Maker;
use crate::dial::{Route, Via};
use crate::lanes::LaneId;
use crate::tenancy::Tenancy;

/// Who may share a connection with whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) tenancy: Tenancy,
    /// Guests never share with the gateway: what one leaves behind on a connection, the other must not read.
    pub(crate) maker: Maker,
    pub(crate) via: Via,
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// A thread that serves connections by itself keeps those it opened: another would have to wake it.
    lane: LaneId,
}

impl Key {
    pub(crate) fn new(tenancy: Tenancy, maker: Maker, route: &Route) -> Self {
        Self {
            tenancy,
            maker,
            via: route.via,
            scheme: route.scheme,
            host: route.host.clone(),
            port: route.port,
            lane: LaneId::current(),
        }
    }
}
