//! Messages and attributes in words: one line each, for the flight recorder, logs and status.

use std::fmt;

use super::{Attributes, Message, NextHop, Open, RouteRefresh, Update, refresh::RefreshKind};

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(open) => open.fmt(f),
            Self::Update(update) => update.fmt(f),
            Self::Notification(notification) => write!(f, "NOTIFICATION {notification}"),
            Self::Keepalive => f.write_str("KEEPALIVE"),
            Self::RouteRefresh(refresh) => refresh.fmt(f),
        }
    }
}

impl fmt::Display for Open {
    /// `OPEN AS 64512, ID 10.0.0.1, hold time 90 s: multiprotocol IPv4, four-octet AS`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asn, id, hold_time) = (self.asn, self.id, self.hold_time);
        write!(f, "OPEN AS {asn}, ID {id}, hold time {hold_time} s")?;
        for (place, capability) in self.capabilities.iter().enumerate() {
            let between = if place == 0 { ": " } else { ", " };
            write!(f, "{between}{capability}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RouteRefresh {
    /// `ROUTE-REFRESH IPv4`, `ROUTE-REFRESH IPv6 begins`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            RefreshKind::Request => "",
            RefreshKind::Begin => " begins",
            RefreshKind::End => " ends",
        };
        write!(f, "ROUTE-REFRESH {}{what}", self.family)
    }
}

impl fmt::Display for Update {
    /// `UPDATE 2 announced (10.244.1.0/24 …), next hop 10.0.0.1, AS path 65001; 1 withdrawn (10.1.0.0/16); IPv4 End-of-RIB;
    /// treated as withdrawn: ORIGIN is missing (RFC 7606 §3 d)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UPDATE")?;
        let mut between = " ";
        for announced in &self.announced {
            write!(f, "{between}{} announced", announced.nlri.len())?;
            some(f, &announced.nlri)?;
            write!(f, ", {}", announced.attributes)?;
            between = "; ";
        }
        if !self.withdrawn.is_empty() {
            write!(f, "{between}{} withdrawn", self.withdrawn.len())?;
            some(f, &self.withdrawn)?;
            between = "; ";
        }
        if let Some(family) = self.end_of_rib {
            write!(f, "{between}{family} End-of-RIB")?;
            between = "; ";
        }
        for fault in &self.faults {
            write!(f, "{between}{}", fault.reason)?;
            between = "; ";
        }
        Ok(())
    }
}

/// The first prefix, and that there are more.
fn some(f: &mut fmt::Formatter<'_>, nlri: &[super::Nlri]) -> fmt::Result {
    match nlri {
        [] => Ok(()),
        [only] => write!(f, " ({only})"),
        [first, ..] => write!(f, " ({first} …)"),
    }
}

impl fmt::Display for super::Nlri {
    /// `10.244.1.0/24`, with its path identifier `10.244.1.0/24 path 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)?;
        match self.path_id {
            0 => Ok(()),
            path_id => write!(f, " path {path_id}"),
        }
    }
}

impl fmt::Display for NextHop {
    /// `10.0.0.1`, `2001:db8::1 (fe80::1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match self.link_local {
            None => Ok(()),
            Some(link_local) => write!(f, " ({link_local})"),
        }
    }
}

impl fmt::Display for Attributes {
    /// `next hop 10.0.0.1, AS path 65001 65002, IGP, MED 10, local preference 200, communities no-export 65000:1`; what is
    /// absent is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(next_hop) = self.next_hop {
            write!(f, "next hop {next_hop}, ")?;
        }
        if self.as_path.is_empty() {
            f.write_str("empty AS path")?;
        } else {
            write!(f, "AS path {}", self.as_path)?;
        }
        write!(f, ", {}", self.origin)?;
        if let Some(med) = self.med {
            write!(f, ", MED {med}")?;
        }
        if let Some(local_pref) = self.local_pref {
            write!(f, ", local preference {local_pref}")?;
        }
        if self.atomic_aggregate {
            f.write_str(", atomic aggregate")?;
        }
        if let Some(aggregator) = self.aggregator {
            write!(f, ", aggregator AS {} {}", aggregator.asn, aggregator.id)?;
        }
        words(f, ", communities", &self.communities)?;
        words(f, ", extended communities", &self.extended_communities)?;
        words(f, ", large communities", &self.large_communities)?;
        if let Some(id) = self.originator_id {
            write!(f, ", originator {id}")?;
        }
        words(f, ", clusters", &self.cluster_list)?;
        for unknown in &self.unknown {
            write!(
                f,
                ", attribute {} ({} octets)",
                unknown.code,
                unknown.value.len()
            )?;
        }
        Ok(())
    }
}

/// ` a b c` behind a name; nothing for an empty list.
fn words<T: fmt::Display>(f: &mut fmt::Formatter<'_>, name: &str, items: &[T]) -> fmt::Result {
    if !items.is_empty() {
        f.write_str(name)?;
    }
    items.iter().try_for_each(|item| write!(f, " {item}"))
}
