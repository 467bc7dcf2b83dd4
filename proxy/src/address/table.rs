//! The table of refused addresses, from its data file.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;

use super::BadAddress;

/// What kind of place a refused address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// This machine.
    Loopback,
    /// A network that only its members reach.
    Private,
    /// Credentials of the machine or its platform.
    Metadata,
    /// The local link.
    LinkLocal,
    /// Not a place where a service lives.
    Special,
    /// An IPv4 address in IPv6 spelling.
    Embedded,
}

impl Class {
    /// Whether an operator's pin may lead there.
    #[must_use]
    pub fn may_be_pinned(self) -> bool {
        matches!(self, Self::Loopback | Self::Private)
    }

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "loopback" => Self::Loopback,
            "private" => Self::Private,
            "metadata" => Self::Metadata,
            "link-local" => Self::LinkLocal,
            "special" => Self::Special,
            "embedded" => Self::Embedded,
            _ => return None,
        })
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) prefix: IpNet,
    pub(super) class: Class,
    pub(super) reason: &'static str,
}

impl Row {
    pub(super) fn refusal(&self) -> BadAddress {
        BadAddress::Table { prefix: self.prefix, class: self.class, reason: self.reason }
    }
}

/// The row with the longest prefix that holds `address`. No row means that the address is globally reachable.
pub(super) fn row(address: IpAddr) -> Option<&'static Row> {
    let row = rows().iter().find(|row| row.prefix.contains(&address))?;
    // The catch-all row stands for what lies outside of global unicast space.
    let inside = matches!(address, IpAddr::V6(v6) if v6.octets()[0] >> 5 == 1);
    (row.prefix.prefix_len() > 0 || !inside).then_some(row)
}

/// All rows, longest prefix first.
pub(super) fn rows() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
        let mut rows: Vec<Row> = include_str!("../addresses.txt")
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse(line).unwrap_or_else(|| panic!("a row of addresses.txt is malformed: {line}")))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.prefix.prefix_len()));
        rows
    });
    &ROWS
}

fn parse(line: &'static str) -> Option<Row> {
    let (prefix, rest) = line.split_once(char::is_whitespace)?;
    let (class, reason) = rest.trim_start().split_once(char::is_whitespace)?;
    let prefix: IpNet = prefix.parse().ok()?;
    let reason = reason.trim();
    (prefix == prefix.trunc() && !reason.is_empty()).then_some(())?;
    Some(Row { prefix, class: Class::parse(class)?, reason })
}
