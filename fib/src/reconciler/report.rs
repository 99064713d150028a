//! What the reconciler says of itself.

use std::{collections::BTreeMap, io, time::Instant};

use ipnetwork::IpNetwork;

use crate::{
    guard::{Refusal, network, trunc},
    kernel::{Failure, Found, Key, Layer},
    reconciler::{Decision, Reconciler, learned},
    resolve::{Family, resolve},
    route::NextHop,
    routes::{Entry, Standing},
    status::{Explanation, Filter, Lookup, Refused, Resolution, RouteState, RouteStatus, Status},
    target::{Target, write_hop},
};

/// So many examples of one kind of problem are named.
const EXAMPLES: usize = 3;

impl Reconciler {
    /// Desired against kernel, in numbers.
    pub(crate) fn status(&self) -> Status {
        let refusals = |n: usize| {
            let by_layer = [
                &self.routes.tally4,
                &self.routes.tally6,
                &self.routes.tally_blackholes,
            ];
            by_layer
                .iter()
                .filter_map(|tally| tally.refusals.get(n))
                .sum::<u64>()
        };
        let refusals: BTreeMap<&'static str, u64> = Refusal::KINDS
            .iter()
            .enumerate()
            .map(|(n, kind)| (*kind, refusals(n)))
            .filter(|(_, n)| *n > 0)
            .collect();
        Status {
            mark: self.config.mark,
            in_sync: self.is_in_sync(),
            complete: self.complete,
            ipv4: self.routes.tally4.counts,
            ipv6: self.routes.tally6.counts,
            blackholes: self.routes.tally_blackholes.counts.installed,
            objects: self.objects.count() as u64,
            refusals,
            totals: self.totals,
            problems: self.problems(),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut failed: Vec<&Key> = self.failures.keys().collect();
        failed.sort_unstable();
        for key in failed.iter().take(EXAMPLES) {
            if let Some(retry) = self.failures.get(*key) {
                problems.push(format!(
                    "{}: {}",
                    key.prefix,
                    failure_in_words(&retry.failure)
                ));
            }
        }
        if failed.len() > EXAMPLES {
            problems.push(format!(
                "{} more routes fail in the kernel",
                failed.len() - EXAMPLES
            ));
        }
        for (id, retry) in self.objects.failures().take(EXAMPLES) {
            let reason = failure_in_words(&retry.failure);
            problems.push(format!(
                "next-hop object {id}: {reason}; its routes are plain meanwhile"
            ));
        }
        let unresolved = self
            .outcomes
            .iter()
            .flatten()
            .filter_map(|outcome| outcome.as_ref().err());
        problems.extend(unresolved.take(EXAMPLES).map(ToString::to_string));
        for (key, fight) in self
            .fights
            .iter()
            .filter(|(_, fight)| fight.times() > 3)
            .take(EXAMPLES)
        {
            problems.push(format!(
                "{}: another program took our route {} times; find it with `ip monitor route`",
                key.prefix,
                fight.times()
            ));
        }
        problems
    }

    /// The prefixes that `filter` selects, sorted.
    pub(crate) fn routes(&self, now: Instant, filter: &Filter) -> Vec<RouteStatus> {
        let within = |prefix: &IpNetwork| {
            filter.within.is_none_or(|within| {
                within.is_ipv4() == prefix.is_ipv4()
                    && within.prefix() <= prefix.prefix()
                    && within.contains(prefix.ip())
            })
        };
        let fine = |entry: &Entry| {
            entry.standing == Standing::Installed && !entry.queued && !entry.in_flight
        };
        let fits = |key: &Key, entry: &Entry| {
            key.layer == Layer::Learned
                && within(&key.prefix)
                && !(filter.only_problems && fine(entry))
        };
        let mut selected: Vec<(Key, &Entry)> = match &filter.among {
            Some(among) => among
                .iter()
                .map(|prefix| learned(*prefix))
                .filter_map(|key| Some((key, self.routes.get(&key)?)))
                .filter(|(key, entry)| fits(key, entry))
                .collect(),
            None => self
                .routes
                .iter()
                .filter(|(key, entry)| fits(key, entry))
                .collect(),
        };
        selected.sort_unstable_by_key(|(key, _)| (key.prefix.is_ipv6(), key.prefix));
        if filter.limit > 0 {
            selected.truncate(filter.limit);
        }
        selected
            .into_iter()
            .map(|(key, entry)| self.route(now, &key, entry))
            .collect()
    }

    fn route(&self, now: Instant, key: &Key, entry: &Entry) -> RouteStatus {
        let kernel = self.targets.get(entry.kernel).filter(|_| entry.kernel != 0);
        RouteStatus {
            prefix: key.prefix,
            next_hops: self.next_hops(entry).to_vec(),
            kernel: kernel.map(|target| self.target_in_words(target)),
            state: self.state(now, key, entry),
        }
    }

    fn next_hops(&self, entry: &Entry) -> &[NextHop] {
        self.wanted
            .get(entry.wanted)
            .map_or(&[], |set| set.next_hops.as_slice())
    }

    fn state(&self, now: Instant, key: &Key, entry: &Entry) -> RouteState {
        if entry.wanted == 0 {
            return if entry.found {
                RouteState::Stale
            } else {
                RouteState::Removing
            };
        }
        if let (Standing::Failed, Some(retry)) = (entry.standing, self.failures.get(key)) {
            let retry_in = retry.at.saturating_duration_since(now).as_millis();
            return RouteState::Failed {
                errno: retry.failure.errno,
                reason: failure_in_words(&retry.failure),
                retry_in_ms: u64::try_from(retry_in).unwrap_or(u64::MAX),
            };
        }
        match self.decide(key, entry) {
            Decision::Refused(refusal) => RouteState::Refused {
                kind: refusal.kind(),
                reason: refusal.to_string(),
            },
            Decision::Unresolved => {
                let reason = match self.outcome(entry.wanted) {
                    Some(Err(reason)) => reason.to_string(),
                    _ => "not resolved yet".to_owned(),
                };
                RouteState::Unresolved { reason }
            }
            Decision::Awaited => RouteState::Pending,
            Decision::Route(_) | Decision::Nothing => {
                let waits = entry.queued || entry.in_flight || self.is_outdated(key);
                if waits {
                    RouteState::Pending
                } else {
                    RouteState::Installed
                }
            }
        }
    }

    /// The whole way of a prefix but for the kernel's own answer, which takes a question to it.
    pub(crate) fn explain(&self, now: Instant, query: IpNetwork) -> Explanation {
        let query = trunc(query);
        // From the most specific prefix that could cover the query to the least.
        let known = (0..=query.prefix()).rev().find_map(|length| {
            let key = learned(network(query.ip(), length));
            self.routes.get(&key).map(|entry| (key, entry))
        });
        let key = known.map_or(learned(query), |(key, _)| key);
        let entry = known.map(|(_, entry)| *entry).unwrap_or_default();
        let verdict = match key.prefix {
            IpNetwork::V4(prefix) => self.gate.check4(prefix),
            IpNetwork::V6(prefix) => self.gate.check6(prefix),
        };
        let refusal = verdict.err().or_else(|| match self.decide(&key, &entry) {
            Decision::Refused(refusal) => Some(refusal),
            _ => None,
        });
        let foreign = self.network.at(key.prefix).iter();
        let mut kernel_routes: Vec<String> = foreign
            .map(|route| self.network.in_words(key.prefix, route))
            .collect();
        for layer in [Layer::Learned, Layer::Blackhole] {
            let key = Key { layer, ..key };
            let target = self
                .routes
                .get(&key)
                .and_then(|entry| self.targets.get(entry.kernel));
            if let Some(target) = target {
                let mark = self.marks.current;
                let words = self.target_in_words(target);
                let (protocol, metric) = (mark.protocol, layer.metric(mark));
                kernel_routes.push(format!(
                    "{} {words} proto {protocol} metric {metric}",
                    key.prefix
                ));
            }
        }
        Explanation {
            query,
            route: known.map(|(key, entry)| self.route(now, &key, entry)),
            refusal: refusal.as_ref().map(Refused::from),
            next_hops: self
                .next_hops(&entry)
                .iter()
                .map(|hop| self.resolution(&key, hop))
                .collect(),
            kernel_routes,
            lookup: Lookup::Unreachable {
                address: query.ip(),
                reason: "the kernel did not answer".to_owned(),
            },
        }
    }

    fn resolution(&self, key: &Key, next_hop: &NextHop) -> Resolution {
        let resolved = resolve(
            &self.network,
            next_hop,
            Family::of(&key.prefix),
            self.config.unresolved,
        );
        let mut resolution = Resolution {
            next_hop: *next_hop,
            hops: Vec::new(),
            by: None,
            failure: None,
        };
        match resolved {
            Ok(resolved) => {
                for hop in &resolved.hops {
                    let mut words = String::new();
                    // Writing to a String does not fail.
                    let _ = write_hop(&mut words, hop, &|index| self.network.name(index));
                    let failed = hop
                        .gateway
                        .is_some_and(|via| self.network.neighbour_failed(hop.interface, via));
                    resolution.hops.push(if failed {
                        words + " (does not answer)"
                    } else {
                        words
                    });
                }
                resolution.by = resolved
                    .by
                    .map(|(prefix, route)| self.network.in_words(prefix, route));
            }
            Err(failure) => resolution.failure = Some(failure.to_string()),
        }
        resolution
    }

    /// The kernel's answer to "which way", in words.
    pub(crate) fn lookup_in_words(
        &self,
        address: std::net::IpAddr,
        found: Result<Found, String>,
    ) -> Lookup {
        match found {
            Err(reason) => Lookup::Unreachable { address, reason },
            Ok(found) => {
                let prefix = found.prefix.unwrap_or(IpNetwork::from(address));
                let route = self.network.in_words(prefix, &found.route);
                let owner =
                    self.marks
                        .owner(found.route.protocol, found.route.table, found.route.metric);
                let blackhole = matches!(found.route.target(), Target::Blackhole);
                if blackhole {
                    return Lookup::Unreachable {
                        address,
                        reason: route,
                    };
                }
                Lookup::Route {
                    address,
                    route,
                    ours: matches!(owner, crate::kernel::Owner::Ours(_)),
                }
            }
        }
    }

    /// The interfaces as they are now.
    pub(crate) fn interfaces(&self) -> Vec<crate::event::Interface> {
        self.network.interfaces()
    }
}

/// An error of the kernel in words, with its own explanation and what to do where that is known.
pub(super) fn failure_in_words(failure: &Failure) -> String {
    let error = io::Error::from_raw_os_error(failure.errno);
    let mut words = match &failure.text {
        Some(text) => format!("{text} ({error})"),
        None => error.to_string(),
    };
    match failure.errno {
        Failure::EPERM => words.push_str("; add the capability NET_ADMIN"),
        Failure::EEXIST => words.push_str("; a route that is not ours appeared in the same place"),
        101 => words.push_str("; the gateway is on no connected subnet"),
        12 | 105 => {
            words.push_str("; the kernel is out of memory for routes (see net.ipv6.route.max_size)")
        }
        _ => {}
    }
    words
}
