//! Next hops that others choose between: which of them lead nowhere, whether or not a route here goes through them.

use std::{collections::BTreeSet, mem, net::IpAddr};

use super::Reconciler;
use crate::{
    resolve::{Family, resolve},
    route::NextHop,
};

/// What was asked.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    next_hops: BTreeSet<IpAddr>,
    /// The answer may be another one by now.
    stale: bool,
}

impl Tracked {
    pub(super) fn stir(&mut self) {
        self.stale = true;
    }
}

impl Reconciler {
    /// From now on it is these.
    pub(crate) fn track(&mut self, next_hops: BTreeSet<IpAddr>) {
        self.tracked = Tracked {
            next_hops,
            stale: true,
        };
    }

    /// Those that lead nowhere, where that may have changed since the last call.
    pub(crate) fn take_unresolved(&mut self) -> Option<BTreeSet<IpAddr>> {
        if !mem::take(&mut self.tracked.stale) {
            return None;
        }
        let nowhere = |address: &&IpAddr| {
            let family = if address.is_ipv4() {
                Family::V4
            } else {
                Family::V6
            };
            let next_hop = NextHop::new(**address);
            resolve(&self.network, &next_hop, family, self.config.unresolved).is_err()
        };
        Some(
            self.tracked
                .next_hops
                .iter()
                .filter(nowhere)
                .copied()
                .collect(),
        )
    }
}
