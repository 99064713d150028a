//! Whether this node is in service: what the operator ordered, whether the cluster still has a Node for it, and the wait between
//! GRACEFUL_SHUTDOWN and Cease.

use tokio::time::Instant;

use crate::desired::Duty;

/// What takes this node out of service, and how far that is.
#[derive(Debug)]
pub(super) struct Service {
    /// By the operator.
    ordered: Duty,
    /// By the deletion of the Node.
    deleted: Duty,
    /// While draining: until when.
    until: Option<Instant>,
}

impl Service {
    /// As an earlier process left it.
    pub(super) fn again(ordered: Duty) -> Self {
        let ordered = match ordered {
            Duty::InService => Duty::InService,
            // Killed in the middle of a drain: what the operator wanted is what it is.
            Duty::Draining | Duty::Drained => Duty::Drained,
        };
        Self {
            ordered,
            deleted: Duty::InService,
            until: None,
        }
    }

    /// Both causes together.
    pub(super) fn duty(&self) -> Duty {
        self.ordered.max(self.deleted)
    }

    /// What the operator said last: it outlives the process.
    pub(super) fn ordered(&self) -> Duty {
        self.ordered
    }

    /// The cluster has no Node for us any more.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted != Duty::InService
    }

    /// When the wait of a drain is over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The operator wants it out of service.
    pub(super) fn drain(&mut self, until: Instant) {
        self.ordered = self.leave(until);
    }

    /// The operator wants it back. Without a Node it stays out.
    pub(super) fn undrain(&mut self) {
        self.ordered = Duty::InService;
        self.stay();
    }

    /// Whether the cluster has a Node for us; says whether that is news.
    pub(super) fn has_node(&mut self, there: bool, until: Instant) -> bool {
        match (there, self.is_deleted()) {
            (true, false) | (false, true) => return false,
            (false, false) => self.deleted = self.leave(until),
            (true, true) => {
                self.deleted = Duty::InService;
                self.stay();
            }
        }
        true
    }

    /// The wait is over.
    pub(super) fn waited(&mut self) {
        for duty in [&mut self.ordered, &mut self.deleted] {
            if *duty == Duty::Draining {
                *duty = Duty::Drained;
            }
        }
        self.until = None;
    }

    /// Where all sessions are down already there is nothing to wait for.
    fn leave(&mut self, until: Instant) -> Duty {
        if self.duty() == Duty::Drained {
            return Duty::Drained;
        }
        self.until.get_or_insert(until);
        Duty::Draining
    }

    fn stay(&mut self) {
        if self.duty() != Duty::Draining {
            self.until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_node_that_is_deleted_drains_and_comes_back_with_its_node() {
        let mut service = Service::again(Duty::InService);
        assert!(!service.has_node(true, soon()));
        assert!(service.has_node(false, soon()));
        assert_eq!(
            (service.duty(), service.is_deleted()),
            (Duty::Draining, true)
        );
        assert!(service.until().is_some());
        assert!(!service.has_node(false, soon()));
        service.waited();
        assert_eq!((service.duty(), service.until()), (Duty::Drained, None));
        assert!(service.has_node(true, soon()));
        assert_eq!(
            (service.duty(), service.is_deleted()),
            (Duty::InService, false)
        );
    }

    #[test]
    fn a_deletion_is_not_remembered_but_an_order_is() {
        let mut service = Service::again(Duty::InService);
        service.has_node(false, soon());
        service.waited();
        assert_eq!(service.ordered(), Duty::InService);
        service.drain(soon());
        assert_eq!((service.ordered(), service.until()), (Duty::Drained, None));
        service.has_node(true, soon());
        assert_eq!(service.duty(), Duty::Drained);
        assert_eq!(Service::again(Duty::Draining).duty(), Duty::Drained);
    }

    #[test]
    fn an_order_that_is_taken_back_does_not_bring_back_a_deleted_node() {
        let mut service = Service::again(Duty::InService);
        let first = soon();
        service.drain(first);
        service.has_node(false, soon());
        assert_eq!(service.until(), Some(first));
        service.undrain();
        assert_eq!(
            (service.duty(), service.until()),
            (Duty::Draining, Some(first))
        );
        service.has_node(true, soon());
        assert_eq!((service.duty(), service.until()), (Duty::InService, None));
    }

    #[test]
    fn a_node_that_comes_back_in_the_wait_leaves_the_operators_drain_alone() {
        let mut service = Service::again(Duty::InService);
        service.has_node(false, soon());
        service.drain(soon());
        service.has_node(true, soon());
        assert_eq!(service.duty(), Duty::Draining);
        assert!(service.until().is_some());
        service.waited();
        assert_eq!(service.ordered(), Duty::Drained);
    }
}
