//! The conditions of a `BGPNode`: what holds, with a reason that never changes its name and a message with what to do.

use jiff::Timestamp;

use super::sight::{Sight, short, some};
use crate::{
    crd::status::{Condition, Time},
    desired::Duty,
    problem::Problem,
    report::{is_held_down, is_up},
};

/// Longest message.
const LETTERS: usize = 1000;

/// What is wrong with one node or one object shows in these on all nodes at once.
pub(super) const SHARED: [&str; 2] = [EXPECTED, VALID];
const EXPECTED: &str = "ExpectedRoutes";
/// What somebody is putting right: each step of it is news, in words too.
pub(super) const VALID: &str = "ConfigurationValid";

/// One aspect, before it is known since when it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aspect {
    pub(super) type_: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Aspect {
    pub(super) fn holds(
        type_: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status: "True",
            reason,
            message: message.into(),
        }
    }

    pub(super) fn fails(
        type_: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status: "False",
            ..Self::holds(type_, reason, message)
        }
    }

    pub(super) fn unknown(
        type_: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status: "Unknown",
            ..Self::holds(type_, reason, message)
        }
    }
}

/// All aspects of a node.
pub(super) fn of_node(sight: &Sight) -> [Aspect; 5] {
    [
        ready(sight),
        sessions(sight),
        kernel(sight),
        expected(sight),
        configuration(sight),
    ]
}

/// As conditions: one that was so `before` has been so since then.
pub(super) fn since(
    before: &[Condition],
    aspects: impl IntoIterator<Item = Aspect>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let since = |aspect: &Aspect| {
        before
            .iter()
            .find(|known| known.type_ == aspect.type_ && known.status == aspect.status)
            .map_or(Time(now), |known| known.last_transition_time)
    };
    aspects
        .into_iter()
        .map(|aspect| Condition {
            last_transition_time: since(&aspect),
            type_: aspect.type_.into(),
            status: aspect.status.into(),
            reason: aspect.reason.into(),
            message: short(&aspect.message, LETTERS),
            observed_generation: generation,
        })
        .collect()
}

/// As `/readyz`, but that a drained node is not.
fn ready(sight: &Sight) -> Aspect {
    const READY: &str = "Ready";
    if sight.status.duty == Duty::Drained {
        return Aspect::fails(
            READY,
            "Drained",
            "all sessions are held down: routelet undrain on the node brings it back",
        );
    }
    match &sight.unready {
        None => Aspect::holds(
            READY,
            "Ready",
            "pods of this node are reached and reach others",
        ),
        Some((check, missing)) => {
            let reason = match *check {
                "sync" => "InitialSync",
                "kernel" => "KernelRefuses",
                "peers" => "NoPeerEver",
                _ => "Unhealthy",
            };
            Aspect::fails(READY, reason, missing)
        }
    }
}

/// A peer that is named is missed; a node of the cluster only where no other is there: nodes come and go.
fn sessions(sight: &Sight) -> Aspect {
    const ESTABLISHED: &str = "SessionsEstablished";
    let meant = || {
        let peers = sight.peers.iter();
        peers.filter(|peer| !is_held_down(&sight.desired, &peer.name))
    };
    let down = |mesh: bool| -> Vec<&str> {
        meant()
            .filter(|peer| peer.mesh == mesh && !is_up(peer))
            .map(|peer| peer.name.as_str())
            .collect()
    };
    let (named, nodes) = (down(false), down(true));
    let of_nodes = meant().filter(|peer| peer.mesh).count();
    let counts = format!(
        "{} of {} sessions are up",
        sight.status.peers.established, sight.status.peers.total
    );
    if !named.is_empty() {
        let down = some(named);
        return Aspect::fails(
            ESTABLISHED,
            "PeersDown",
            format!("{counts}; not {down}: routelet peers on the node says why"),
        );
    }
    if of_nodes > 0 && nodes.len() == of_nodes {
        return Aspect::fails(
            ESTABLISHED,
            "NoNodeEstablished",
            format!(
                "no other node is reached, not {}: routelet peers on the node says why",
                some(nodes)
            ),
        );
    }
    if !nodes.is_empty() {
        return Aspect::holds(
            ESTABLISHED,
            "NodesAway",
            format!("{counts}; nodes that are away: {}", some(nodes)),
        );
    }
    match meant().next() {
        Some(_) => Aspect::holds(ESTABLISHED, "AllEstablished", counts),
        None => Aspect::holds(ESTABLISHED, "NoPeers", "there is nobody to peer with"),
    }
}

fn kernel(sight: &Sight) -> Aspect {
    const IN_KERNEL: &str = "RoutesInKernel";
    let Some(kernel) = &sight.status.kernel else {
        return match sight.desired.fib {
            Some(_) => Aspect::fails(
                IN_KERNEL,
                "InstallerEnded",
                "the installer has ended; the log of routelet on the node says why",
            ),
            None => Aspect::unknown(
                IN_KERNEL,
                "NotInstalling",
                "kernel.install is false: nothing is installed on this node",
            ),
        };
    };
    let sum =
        |count: fn(&fib::Counts) -> u64| count(&kernel.ipv4).saturating_add(count(&kernel.ipv6));
    let (failed, unresolved) = (sum(|counts| counts.failed), sum(|counts| counts.unresolved));
    let why = || kernel.problems.first().map_or("", String::as_str);
    if failed > 0 {
        return Aspect::fails(
            IN_KERNEL,
            "KernelRefuses",
            format!("the kernel does not take {failed} routes: {}", why()),
        );
    }
    if unresolved > 0 {
        return Aspect::fails(
            IN_KERNEL,
            "NextHopUnresolved",
            format!("no next hop of {unresolved} routes resolves: {}", why()),
        );
    }
    if sight.status.settled.is_none() {
        return Aspect::fails(
            IN_KERNEL,
            "InitialSync",
            "the first routes are on their way",
        );
    }
    let installed = sum(|counts| counts.installed);
    Aspect::holds(
        IN_KERNEL,
        "Installed",
        format!("routes in the kernel: {installed}"),
    )
}

/// What the audit has found for a while and nothing else explains.
fn expected(sight: &Sight) -> Aspect {
    let mut findings = sight.audited.astray.iter();
    let Some(first) = findings.next() else {
        return Aspect::holds(EXPECTED, "AsExpected", sight.status.audit.summary());
    };
    let node = first.node.as_deref().map(|node| format!("Node {node}: "));
    let mut message = format!("{}{first}", node.unwrap_or_default());
    let more = findings.count();
    if more > 0 {
        message.push_str(&format!("; and {more} more"));
    }
    Aspect::fails(EXPECTED, first.is.reason().word(), message)
}

fn configuration(sight: &Sight) -> Aspect {
    let mut errors = sight.configured.iter().filter(|problem| problem.is_error());
    let Some(first) = errors.next() else {
        return Aspect::holds(VALID, "Valid", "the configuration is in force");
    };
    let mut message = words(first);
    let more = errors.count();
    if more > 0 {
        message.push_str(&format!(
            "; and {more} more: routelet status on the node tells all"
        ));
    }
    Aspect::fails(VALID, first.reason.word(), message)
}

fn words(problem: &Problem) -> String {
    format!("{}: {}", problem.about, problem.text)
}

#[cfg(test)]
mod tests;
