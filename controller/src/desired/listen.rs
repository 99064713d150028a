//! Addresses we accept connections on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{View, session::Sessions};
use crate::{crd::configuration::ListenMode, problem::Problem};

/// The node's own addresses and those that sessions speak from; every address; or none.
pub(super) fn addresses(
    view: &View<'_>,
    sessions: &Sessions,
    problems: &mut Vec<Problem>,
) -> Vec<SocketAddr> {
    let port = view.config.listen_port;
    let addresses: BTreeSet<IpAddr> = match view.config.listen_mode {
        ListenMode::None => BTreeSet::new(),
        ListenMode::All => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].into(),
        ListenMode::NodeIP => {
            let sources = sessions.all().filter_map(|peer| peer.source);
            view.addresses.each().chain(sources).collect()
        }
    };
    if addresses.is_empty()
        && view.config.listen_mode == ListenMode::NodeIP
        && !sessions.ranges.is_empty()
    {
        problems.push(Problem::error(
            "BGPConfiguration default",
            "a BGPPeer waits for peers to dial in, but this node has no InternalIP to listen on: add one, or set listenMode: All",
        ));
    }
    addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect()
}
