//! The Node's condition `NetworkUnavailable`: True until the first routes are in the kernel and the node has a pod CIDR that is its
//! own, then False. While it is True the node bears the taint `node.kubernetes.io/network-unavailable`, and no pod that needs the
//! network is placed on it.
//!
//! What happens to routes later is told by `BGPNode`, and a node whose neighbours are away is not to lose its pods. A daemon that
//! starts where its routes are still in the kernel does not take False back.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Value, json};

use crate::report::StatusReport;

/// Its type.
const TYPE: &str = "NetworkUnavailable";

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Pods are not reached yet.
    NotYet,
    /// They cannot be: the node has no pod CIDR.
    NoPodCidr,
    /// They are.
    Routed,
}

/// What is to be said, if anything, of a node that may be without pod CIDRs (`podless`), by a process that may follow another
/// whose routes are still in the kernel (`follows`).
pub(super) fn verdict(status: &StatusReport, podless: bool, follows: bool) -> Option<Verdict> {
    // Where nothing is installed, somebody else has to say it.
    let kernel = status.kernel.as_ref()?;
    let there = |counts: &fib::Counts| counts.installed.saturating_add(counts.stale) > 0;
    match status.settled {
        Some(_) if podless => Some(Verdict::NoPodCidr),
        Some(_) => Some(Verdict::Routed),
        None if follows || there(&kernel.ipv4) || there(&kernel.ipv6) => None,
        None => Some(Verdict::NotYet),
    }
}

impl Verdict {
    fn words(self) -> [&'static str; 3] {
        match self {
            Self::NotYet => [
                "True",
                "RoutesNotInKernel",
                "routelet has not installed the first routes yet",
            ],
            Self::NoPodCidr => [
                "True",
                "NoPodCIDR",
                "the Node has no pod CIDR, or none that may be announced: routelet status on the node says why",
            ],
            Self::Routed => [
                "False",
                "RouteletRoutesInstalled",
                "routelet has installed the routes to the pods of other nodes",
            ],
        }
    }

    /// Whether the Node, which has these conditions, says it already.
    pub(super) fn is_said(self, conditions: &[NodeCondition]) -> bool {
        let [status, reason, _] = self.words();
        conditions.iter().any(|known| {
            known.type_ == TYPE && known.status == status && known.reason.as_deref() == Some(reason)
        })
    }

    /// What makes the Node, which has these conditions, say it: a strategic merge patch of this one condition.
    pub(super) fn patch(self, conditions: &[NodeCondition], now: Timestamp) -> Value {
        let [status, reason, message] = self.words();
        let was = conditions
            .iter()
            .find(|known| known.type_ == TYPE && known.status == status)
            .and_then(|known| known.last_transition_time.clone());
        let condition = NodeCondition {
            type_: TYPE.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(was.unwrap_or(Time(now))),
        };
        json!({"status": {"conditions": [condition]}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{kernel, settled, starting};

    #[test]
    fn a_first_start_says_that_pods_are_not_reached_until_its_routes_are_in_the_kernel() {
        let mut status = starting();
        assert_eq!(verdict(&status, false, false), Some(Verdict::NotYet));
        status.complete = true;
        assert_eq!(verdict(&status, false, false), Some(Verdict::NotYet));
        assert_eq!(verdict(&settled(), false, false), Some(Verdict::Routed));
    }

    #[test]
    fn a_node_without_a_pod_cidr_takes_no_pods() {
        assert_eq!(verdict(&starting(), true, false), Some(Verdict::NotYet));
        assert_eq!(verdict(&settled(), true, false), Some(Verdict::NoPodCidr));
        assert_eq!(verdict(&settled(), true, true), Some(Verdict::NoPodCidr));
    }

    #[test]
    fn a_restart_takes_nothing_back() {
        let mut status = starting();
        assert_eq!(verdict(&status, false, true), None);
        // Without its state directory, but with the routes of the earlier process.
        status.kernel = Some(kernel(fib::Counts {
            stale: 3,
            ..fib::Counts::default()
        }));
        assert_eq!(verdict(&status, false, false), None);
    }

    #[test]
    fn where_nothing_is_installed_nothing_is_said() {
        let mut status = settled();
        status.kernel = None;
        assert_eq!(verdict(&status, false, false), None);
    }

    #[test]
    fn it_is_one_condition_and_its_transition_is_kept() {
        let now = Timestamp::from_second(1000).unwrap();
        let said = Verdict::Routed.patch(&[], now);
        assert_eq!(
            said,
            json!({"status": {"conditions": [{
                "type": "NetworkUnavailable", "status": "False", "reason": "RouteletRoutesInstalled",
                "message": "routelet has installed the routes to the pods of other nodes",
                "lastHeartbeatTime": "1970-01-01T00:16:40Z", "lastTransitionTime": "1970-01-01T00:16:40Z",
            }]}})
        );
        let mut known: Vec<NodeCondition> =
            serde_json::from_value(said["status"]["conditions"].clone()).unwrap();
        assert!(Verdict::Routed.is_said(&known));
        assert!(!Verdict::NotYet.is_said(&known));
        // Somebody else said the same for another reason.
        known[0].reason = Some("RouteCreated".into());
        assert!(!Verdict::Routed.is_said(&known));
        let again = Verdict::Routed.patch(&known, Timestamp::from_second(2000).unwrap());
        assert_eq!(
            again["status"]["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:16:40Z"
        );
    }
}
