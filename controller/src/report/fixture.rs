//! A node as it says it is, for tests.

use std::{collections::BTreeMap, net::Ipv4Addr, time::SystemTime};

use bgp::status::{MessageCounts, PeerStatus, SessionState};

use super::{PeerCounts, StatusReport};
use crate::{audit::Audit, desired::Duty};

/// A node that has just started: two peers, none of them up yet.
pub(crate) fn starting() -> StatusReport {
    StatusReport {
        node: "n1".into(),
        version: "0",
        healthy: false,
        problems: Vec::new(),
        asn: 64512,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        listen: Vec::new(),
        started: SystemTime::UNIX_EPOCH,
        configuration: "x".into(),
        loaded: SystemTime::UNIX_EPOCH,
        duty: Duty::InService,
        cordoned: false,
        complete: false,
        settled: None,
        peers: PeerCounts {
            total: 2,
            ..PeerCounts::default()
        },
        routes: BTreeMap::new(),
        prefixes: BTreeMap::new(),
        attribute_sets: 0,
        kernel: Some(kernel(fib::Counts::default())),
        audit: Audit::default(),
        collectors: BTreeMap::new(),
        mrt: None,
        memory_kib: 0,
    }
}

/// The same when its first routes are there.
pub(crate) fn settled() -> StatusReport {
    let mut status = starting();
    status.complete = true;
    status.settled = Some(SystemTime::UNIX_EPOCH);
    status.peers.ever_established = 1;
    status.kernel = Some(kernel(fib::Counts {
        desired: 2,
        installed: 2,
        ..fib::Counts::default()
    }));
    status
}

/// A kernel with these IPv4 routes.
pub(crate) fn kernel(ipv4: fib::Counts) -> fib::Status {
    fib::Status {
        mark: fib::Mark::default(),
        in_sync: true,
        complete: true,
        ipv4,
        ipv6: fib::Counts::default(),
        blackholes: 0,
        objects: 0,
        refusals: BTreeMap::new(),
        totals: fib::Totals::default(),
        problems: vec!["10.244.2.0/24: no such device".into()],
    }
}

/// A session that is no node's.
pub(crate) fn session(name: &str, state: SessionState) -> PeerStatus {
    PeerStatus {
        name: name.into(),
        interface: None,
        address: Ipv4Addr::new(10, 0, 0, 254).into(),
        asn: Some(65001),
        local_asn: 64512,
        kind: None,
        mesh: false,
        state,
        since: SystemTime::UNIX_EPOCH,
        established_count: u64::from(state == SessionState::Established),
        last_error: None,
        hint: None,
        last_notification: None,
        session: None,
        bfd: None,
        families: BTreeMap::new(),
        messages: MessageCounts::default(),
        recorder: Vec::new(),
    }
}
