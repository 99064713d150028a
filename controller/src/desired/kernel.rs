//! What may go into the kernel, and the CNI configuration.

use bgp::prefix::Prefix;
use fib::{AllowedRange, Guard, Mark, Unresolved};

use super::View;
use crate::{cni::Conflist, crd::configuration::UnresolvedNextHop};

/// The installer's configuration.
pub(super) fn fib(view: &View<'_>) -> fib::Config {
    let kernel = &view.config.kernel;
    let own = view.pod_cidrs(view.name);
    let pods = view.pod_network();
    let pods = pods.iter().map(|cidr| AllowedRange::within(cidr.network()));
    let beyond = kernel.allowed_prefixes.iter().map(|range| {
        let (min_len, max_len) = range.lengths();
        AllowedRange {
            cidr: range.cidr.0.network(),
            min_len,
            max_len,
        }
    });
    fib::Config {
        mark: Mark {
            protocol: kernel.protocol,
            table: kernel.table,
            metric: kernel.metric,
        },
        max_paths: if kernel.ecmp {
            usize::from(kernel.max_paths)
        } else {
            1
        },
        unresolved: match kernel.unresolved_next_hop {
            UnresolvedNextHop::Reject => Unresolved::Reject,
            UnresolvedNextHop::Gateway => Unresolved::Gateway,
            UnresolvedNextHop::Onlink => Unresolved::Onlink,
        },
        guard: Guard {
            allowed: pods.chain(beyond).collect(),
            // One that is another node's leads there, whatever our Node says.
            own_pod_cidrs: own.iter().map(Prefix::network).collect(),
            service_cidrs: view
                .config
                .pod_network
                .service_cidrs
                .iter()
                .map(|cidr| cidr.0.network())
                .collect(),
            accept_default: kernel.accept_default_route,
        },
        blackholes: if view.config.advertise.blackhole_own {
            own.iter().map(Prefix::network).collect()
        } else {
            Vec::new()
        },
    }
}

/// The conflist, once the pod CIDRs are known. Where nothing is installed no pod could be reached, so none is written.
pub(super) fn conflist(view: &View<'_>) -> Option<Conflist> {
    let cidrs = view.pod_cidrs(view.name);
    let wanted = view.config.cni.write_conflist && view.config.kernel.install && !cidrs.is_empty();
    wanted.then(|| Conflist::new(&view.config.cni, cidrs))
}
