//! What the origin check means beside import: it is asked again when owners change, and what it refuses is said.

use std::sync::Arc;

use super::{
    Rib,
    route::{Flags, Route},
    table::Number,
    task::PeerId,
};
use crate::{
    owners::Owners,
    prefix::{Family, Prefix},
};

/// Seconds in which a peer's routes that lead astray are spoken of once; the counts and the routes themselves show all.
const BREATH: u32 = 10;

impl Rib {
    /// Owners have changed: looks again at all routes that one of them may concern.
    pub(super) fn check_origins_again(&mut self, old: &Owners) {
        let new = Arc::clone(&self.settings.owners);
        if *old == *new {
            return;
        }
        let concerned =
            |prefix: &Prefix| old.claimed(prefix).is_some() || new.claimed(prefix).is_some();
        for family in Family::ALL {
            let table = &self.sides.of(family).table;
            let numbers: Vec<Number> = table
                .iter()
                .filter(|(number, _)| table.prefix(*number).as_ref().is_some_and(concerned))
                .map(|(number, _)| number)
                .collect();
            for number in numbers {
                self.import_prefix_again(family, number);
            }
        }
    }

    /// Says it when a route begins to lead astray; `before` is what the route in its place was.
    pub(super) fn tell_if_astray(
        &mut self,
        id: PeerId,
        prefix: Prefix,
        route: &Route,
        before: Option<Flags>,
    ) {
        let known = before.is_some_and(|before| before.contains(Flags::ASTRAY));
        if known || !route.flags.contains(Flags::ASTRAY) {
            return;
        }
        let since = self.since;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let lately = |said: u32| since.saturating_sub(said) < BREATH;
        if peer.astray_said.is_some_and(lately) {
            return;
        }
        peer.astray_said = Some(since);
        let why = self.refusal(prefix, route);
        self.problem(id, format!("{prefix} refused by the {why}"));
    }
}
