//! Who dialled in: a peer, somebody from a range, or a stranger.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, sync::mpsc};

use super::{Core, Peer};
use crate::{
    config::{Connect, PeerConfig, RangeConfig},
    peer::{driver, socket_options::interface_name, sockets},
    prefix::Prefix,
    rib::task::Settings,
    speaker::Event,
};

impl Core {
    /// Who dialled in is a peer, comes from a range, or is a stranger and is refused at once.
    pub(super) async fn accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        let Some(name) = self.who(&stream, remote) else {
            return self.accepted_from_range(stream, remote).await;
        };
        let Some(peer) = self.peers.get(&name) else {
            return;
        };
        let Ok(place) = Arc::clone(&peer.waiting).try_acquire_owned() else {
            return refuse(&stream, remote, "too many connections wait for its task");
        };
        let command = driver::Command::Accepted(stream, remote, place);
        if let Err(mpsc::error::SendError(command)) = peer.commands.send(Box::new(command))
            && let driver::Command::Accepted(stream, remote, _) = *command
        {
            // Its task has just ended, as those from ranges do: it begins anew.
            if peer.range.is_some() {
                self.forget(&name).await;
                self.accepted_from_range(stream, remote).await;
            }
        }
    }

    fn who(&self, stream: &TcpStream, remote: SocketAddr) -> Option<Arc<str>> {
        let known = self.by_address.get(&remote.ip());
        let on_link = || self.on_link(remote);
        let Some(names) = known else {
            return on_link();
        };
        let local = sockets::canonical(stream.local_addr().ok()?).ip();
        let link_local =
            matches!(remote.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
        let interface = || interface_name(sockets::scope(remote));
        let fits = |peer: &Peer| {
            (!link_local || peer.config.interface == interface())
                && peer.config.source.is_none_or(|source| source == local)
        };
        let candidates = || {
            names
                .iter()
                .filter_map(|name| Some((name, self.peers.get(name)?)))
        };
        candidates()
            .find(|(_, peer)| fits(peer))
            .or_else(|| candidates().find(|_| !link_local))
            .map(|(name, _)| Arc::clone(name))
            .or_else(on_link)
    }

    /// Who is known by the link that somebody with a link-local address dialled in over.
    fn on_link(&self, remote: SocketAddr) -> Option<Arc<str>> {
        let interface = link_of(remote)?;
        let mut peers = self.peers.iter();
        let found = peers.find(|(_, peer)| {
            let of_link = peer.config.unnumbered.is_some() && peer.range.is_none();
            of_link && peer.config.interface.as_deref() == Some(&interface)
        });
        found.map(|(name, _)| Arc::clone(name))
    }

    async fn accepted_from_range(&mut self, stream: TcpStream, remote: SocketAddr) {
        let host = Prefix::host(remote.ip());
        let link = link_of(remote);
        let ranges = self.config.ranges.iter();
        let found = ranges
            .filter(|(_, range)| range.range.contains(&host))
            .filter(|(_, range)| {
                let bound = link.is_some() && range.peer.interface.is_some();
                !bound || range.peer.interface == link
            })
            .max_by_key(|(_, range)| range.range.length());
        let Some((range_name, range)) = found else {
            return refuse(&stream, remote, "not a neighbor");
        };
        let of_range = |peer: &&Peer| peer.range.as_ref() == Some(range_name);
        if self.peers.values().filter(of_range).count() >= range.limit {
            let text = format!(
                "{} was refused: {} peers are connected from the range {}, its limit",
                remote.ip(),
                range.limit,
                range.range
            );
            if self.full.insert(range_name.clone()) {
                let peer = Some(range_name.clone());
                drop(self.events.send(Event::Problem { peer, text }));
            }
            return refuse(&stream, remote, "its range is full");
        }
        self.full.remove(range_name);
        let mut config = member(range, remote.ip(), &range.peer);
        config.port = remote.port();
        // The same address on another link is somebody else.
        let who = match &link {
            Some(link) => format!("{}%{link}", remote.ip()),
            None => remote.ip().to_string(),
        };
        config.interface = link.or(config.interface);
        let (range_name, name) = (range_name.clone(), format!("{range_name}/{who}"));
        let (name, driver) = self.add(&name.into(), Arc::new(config), Some(range_name));
        self.index();
        if let Some(peer) = self.peers.get(&name) {
            let settings = Settings::from(&self.config);
            if self
                .rib
                .configure(settings, vec![peer.set(&name)])
                .await
                .is_err()
            {
                return;
            }
            if let Ok(place) = Arc::clone(&peer.waiting).try_acquire_owned() {
                peer.tell(driver::Command::Accepted(stream, remote, place));
            }
        }
        self.spawn(name, driver, Duration::ZERO);
    }
}

/// The interface that somebody with a link-local address is on.
fn link_of(remote: SocketAddr) -> Option<String> {
    match remote.ip() {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            interface_name(sockets::scope(remote))
        }
        _ => None,
    }
}

/// The configuration of a peer from a range; what came from its connection is kept from `before`.
pub(super) fn member(range: &RangeConfig, address: IpAddr, before: &PeerConfig) -> PeerConfig {
    PeerConfig {
        address,
        port: before.port,
        interface: range
            .peer
            .interface
            .clone()
            .or_else(|| before.interface.clone()),
        connect: Connect::Passive,
        ..range.peer.clone()
    }
}

/// Strangers cost nothing, not even a socket that lingers.
fn refuse(stream: &TcpStream, remote: SocketAddr, reason: &str) {
    tracing::debug!(%remote, reason, "connection refused");
    let linger = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    drop(linger);
}
