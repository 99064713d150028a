//! Addresses we accept connections on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{View, found, session::Sessions};
use crate::{crd::configuration::ListenMode, problem::Problem};

/// The node's own addresses and those that sessions speak from, link-local ones among them; every address; or none.
pub(super) fn addresses(
    view: &View<'_>,
    sessions: &Sessions,
    problems: &mut Vec<Problem>,
) -> Vec<SocketAddr> {
    let port = view.config.listen_port;
    let at = |address: IpAddr| SocketAddr::new(address, port);
    let addresses: BTreeSet<SocketAddr> = match view.config.listen_mode {
        ListenMode::None => BTreeSet::new(),
        ListenMode::All => [
            at(Ipv4Addr::UNSPECIFIED.into()),
            at(Ipv6Addr::UNSPECIFIED.into()),
        ]
        .into(),
        ListenMode::NodeIP => {
            let sources = sessions.all().filter_map(|peer| peer.source);
            let on_links = sessions.all().filter_map(|peer| found::listen(view, peer));
            let addresses = view.addresses.each().chain(sources);
            addresses.map(at).chain(on_links).collect()
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
    addresses.into_iter().collect()
}
