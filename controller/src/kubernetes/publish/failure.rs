//! A write that failed: whether the operator has to do something, and what.

use std::fmt;

use kube::Error;

use crate::{
    kubernetes::outage::UNAUTHENTICATED,
    problem::{Problem, Reason},
};

/// What is written, and the right it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// Making our `BGPNode`, for which our Node is read.
    OurNode,
    /// `BGPNode.status`.
    NodeStatus,
    /// The condition of the Node.
    NodeCondition,
    /// Events.
    Events,
    /// `BGPPeer.status`.
    PeerStatus,
}

impl Target {
    /// What is missing without it.
    fn what(self) -> &'static str {
        match self {
            Self::OurNode => "the BGPNode of this node cannot be made",
            Self::NodeStatus => "the status of BGPNode cannot be written",
            Self::NodeCondition => "the Node's condition NetworkUnavailable cannot be written",
            Self::Events => "events cannot be written",
            Self::PeerStatus => "the status of BGPPeer cannot be written",
        }
    }

    /// The rule of a ClusterRole that allows it.
    fn rule(self) -> &'static str {
        match self {
            Self::OurNode => "get on nodes, get and create on bgpnodes.routelet.dev",
            Self::NodeStatus => "patch on bgpnodes.routelet.dev/status",
            Self::NodeCondition => "get on nodes and patch on nodes/status",
            Self::Events => "create and patch on events.events.k8s.io",
            Self::PeerStatus => "patch on bgppeers.routelet.dev/status",
        }
    }
}

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The object, or its kind, is not there.
    Absent,
    /// We may not.
    Forbidden(String),
    /// It does not take us for whom we are.
    Unauthenticated,
    /// The API server does not want it.
    Refused(String),
    /// It does not answer, has no time, or somebody was faster: that passes, and is told of where it lasts.
    Away(String),
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Api(status) => match status.code {
                404 => Self::Absent,
                401 => Self::Unauthenticated,
                403 => Self::Forbidden(status.message.clone()),
                409 | 429 | 500.. => Self::Away(status.message.clone()),
                _ => Self::Refused(status.message.clone()),
            },
            error => Self::Away(error.to_string()),
        }
    }

    /// What the operator has to know, if anything.
    pub(super) fn problem(&self, target: Target) -> Option<Problem> {
        let what = target.what();
        let text = match self {
            Self::Forbidden(why) => format!(
                "{what} ({why}): give the ServiceAccount of routelet {}, as deploy/rbac.yaml does",
                target.rule()
            ),
            Self::Refused(why) => format!(
                "{what} ({why}): look whether the definitions are those of this version (routelet crds | kubectl apply --server-side -f -)"
            ),
            Self::Unauthenticated => UNAUTHENTICATED.to_owned(),
            // The watches tell of both.
            Self::Absent | Self::Away(_) => return None,
        };
        Some(Problem::warning("API server", text).because(Reason::ApiServerProblem))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("it is not there"),
            Self::Unauthenticated => f.write_str("Unauthorized"),
            Self::Forbidden(why) | Self::Refused(why) | Self::Away(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16) -> Failure {
        let status = Status {
            code,
            message: "no".into(),
            ..Status::default()
        };
        Failure::of(&Error::Api(status.boxed()))
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let problem = answer(403).problem(Target::NodeStatus).unwrap();
        assert!(
            problem
                .text
                .contains("patch on bgpnodes.routelet.dev/status, as deploy/rbac.yaml"),
            "{problem}"
        );
        assert!(!problem.is_error());
    }

    #[test]
    fn a_token_that_is_not_taken_is_no_right_that_is_missing() {
        let problem = answer(401).problem(Target::Events).unwrap();
        assert!(problem.text.contains("token"), "{problem}");
        assert!(!problem.text.contains("rbac.yaml"), "{problem}");
    }

    #[test]
    fn what_passes_or_is_told_of_elsewhere_is_no_problem() {
        for code in [404, 409, 429, 500, 503] {
            assert_eq!(answer(code).problem(Target::Events), None, "{code}");
        }
        assert!(answer(422).problem(Target::Events).is_some());
    }
}
