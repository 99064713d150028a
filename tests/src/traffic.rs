//! What must not suffer while something else changes: pings between all pods, and every kernel's routes to them.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cni::Pod;
use crate::converge::Cluster;
use crate::kernel::RouteMonitor;
use crate::ping::Stream;
use crate::story::{CONVERGENCE, at_most_lost, stop, streams};
use crate::wait::always;

const EVERY: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_secs(3);

/// Running pings, and an eye on every kernel.
#[derive(Debug)]
pub struct Traffic<'a, 'lab> {
    cluster: &'a Cluster<'lab>,
    streams: Vec<Stream>,
    monitors: Vec<RouteMonitor>,
}

impl<'lab> Cluster<'lab> {
    /// A pod on every node, once all reach all and all sessions are up.
    pub fn pod_each(&self) -> Result<Vec<Pod<'lab>>> {
        let mut pods = Vec::new();
        for member in &self.members {
            pods.extend(member.pods(1)?);
        }
        self.reach(&pods, CONVERGENCE)?;
        self.settled()?;
        Ok(pods)
    }

    /// Starts pings between these pods, one a node, every 10 ms.
    pub fn traffic(&self, pods: &[Pod<'_>]) -> Result<Traffic<'_, 'lab>> {
        let members = self.members.iter();
        Ok(Traffic {
            cluster: self,
            monitors: members
                .map(|member| member.container.watch_routes())
                .collect::<Result<Vec<_>>>()?,
            streams: streams(pods, EVERY)?,
        })
    }
}

impl Traffic<'_, '_> {
    /// Ends it, a while later. Not one ping may have been lost, and no route to another node's pods ever absent.
    pub fn unharmed(self) -> Result<()> {
        // What follows late: the neighbours' stale timers end, or the deferral.
        always(LATE, "all routes stay", || {
            let missing = self.cluster.missing()?;
            ensure!(missing.is_empty(), "{}", missing.join(", "));
            Ok(())
        })?;
        at_most_lost(&stop(self.streams)?, 0)?;
        for (member, monitor) in self.cluster.members.iter().zip(self.monitors) {
            let lines = monitor.stop()?;
            let others = self.cluster.members.iter();
            let others = others.filter(|other| other.name != member.name);
            for cidr in others.flat_map(|other| &other.facts.pod_cidrs) {
                let gone = lines.iter().find(|line| {
                    line.starts_with("Deleted ") && line.split(' ').any(|word| word == cidr)
                });
                ensure!(
                    gone.is_none(),
                    "{}: a route was absent: {gone:?}",
                    member.name
                );
            }
        }
        Ok(())
    }
}
