//! What a peer's task is told, and what it does about it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, oneshot},
};

use super::{
    PeerReport, Running,
    link::{Link, Signing},
    report::{Connected, Detail},
};
use crate::{
    bfd::Watch,
    config::{Password, PeerConfig},
    peer::{fsm::Event, socket_options::ao, sockets},
    speaker::Gone,
    wire::{Cease, Notification},
};

/// What a peer's task is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// The peer dialled, and is here; its place among those that wait is free once it is taken.
    Accepted(TcpStream, SocketAddr, OwnedSemaphorePermit),
    /// Another configuration.
    Reconfigure {
        /// All of it.
        config: Arc<PeerConfig>,
        /// Our BGP Identifier.
        router_id: Ipv4Addr,
        /// What has to begin anew over it.
        anew: Anew,
    },
    /// So much of this interface is gone, and these were our addresses on it.
    Lost(Arc<str>, Arc<[IpAddr]>, Gone),
    /// How it is.
    Report(Detail, oneshot::Sender<PeerReport>),
    /// The end, for good: this is said first.
    Stop(Notification, String),
    /// The end, for a restart of ours: without a word where graceful restart was agreed.
    Leave,
    /// A fault of ours, for the test of what follows.
    #[cfg(test)]
    Fail,
}

/// What has to begin anew over another configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Anew {
    /// Nothing.
    Nothing,
    /// The attempts to get a session; one that is up stays.
    Attempts,
    /// What is with this address, where the peer, which is known by its link, is no more; and the attempts to get a session.
    Moved(IpAddr),
    /// The session, for this reason.
    Session(String),
}

impl Running {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Accepted(stream, remote, place) => {
                drop(place);
                self.accepted(stream, remote);
            }
            Command::Reconfigure {
                config,
                router_id,
                anew,
            } => self.reconfigure(config, router_id, anew),
            Command::Lost(interface, addresses, gone) => self.lost(&interface, &addresses, gone),
            Command::Report(detail, reply) => {
                let of_session = self.routes.connection();
                let link = self.links.iter().find(|link| Some(link.id) == of_session);
                let connected = link.map(|link| Connected {
                    local: link.local,
                    remote: link.remote,
                    signed_with: link.signed_with(&self.fsm.config().password),
                });
                let bfd = self.watch.as_ref().map(Watch::status);
                drop(reply.send(self.reporter.report(&self.fsm, connected, bfd, detail)));
            }
            Command::Stop(notification, reason) => {
                self.feed(Event::Stop {
                    notification,
                    reason,
                });
                self.ended = true;
            }
            #[cfg(test)]
            Command::Fail => unreachable!("as a test wants it"),
            Command::Leave => {
                if let Some(watch) = self.watch.take() {
                    watch.leave();
                }
                self.feed(Event::Reconnect {
                    notification: Notification::cease(Cease::OtherConfigurationChange),
                    reason: "we restart".into(),
                });
                // The Rib hears nothing of it: what it had installed stays in the kernel for whoever follows us.
                self.routes.hush();
                self.ended = true;
            }
        }
    }

    fn reconfigure(&mut self, config: Arc<PeerConfig>, router_id: Ipv4Addr, anew: Anew) {
        let was_down = held_down(self.fsm.config()).is_some();
        let held = held_down(&config);
        let anew = self.sign(&config).unwrap_or(anew);
        self.reporter.reconfigured(&config);
        self.fsm.reconfigure(config, router_id);
        self.watch_path();
        match (held, anew) {
            (Some(reason), _) => {
                let notification = match &self.fsm.config().shutdown {
                    Some(message) => Notification::administrative_shutdown(message),
                    None => Notification::cease(Cease::OtherConfigurationChange),
                };
                self.feed(Event::Stop {
                    notification,
                    reason: reason.clone(),
                });
                self.reporter.held_down(reason);
            }
            (None, _) if was_down => {
                self.reporter.released();
                self.feed(Event::Start);
            }
            (None, Anew::Session(reason)) => self.feed(Event::Reconnect {
                notification: Notification::cease(Cease::OtherConfigurationChange),
                reason,
            }),
            (None, Anew::Moved(from)) => self.moved(from),
            (None, Anew::Attempts) => self.feed(Event::Reconsider),
            (None, Anew::Nothing) => {}
        }
    }

    /// Goes over to another key with all connections; what has to begin anew where that cannot be.
    fn sign(&mut self, config: &PeerConfig) -> Option<Anew> {
        for link in &mut self.links {
            match link.sign(&config.password) {
                Ok(Signing::Stays) => {}
                Ok(Signing::Changed) => self.reporter.signs_anew(),
                Err(error) => {
                    let reason = format!("our configuration changed: password ({error})");
                    return Some(Anew::Session(reason));
                }
            }
        }
        None
    }

    /// A session with whoever dialled in from another address than the one known goes on.
    fn moved(&mut self, from: IpAddr) {
        let config = self.fsm.config();
        let link = config.interface.as_deref().unwrap_or("?");
        let note = config
            .unnumbered
            .as_ref()
            .and_then(|known| known.note.as_deref());
        let reason = match (config.address, note) {
            (address, Some(note)) if address.is_unspecified() => note.to_owned(),
            (address, _) => format!("the router on {link} is {address} now"),
        };
        let lost = |link: &Link| config.address.is_unspecified() || link.remote.ip() == from;
        if self.links.iter().any(lost) {
            self.feed(Event::PathDead(reason));
        }
        self.feed(Event::Reconsider);
    }

    fn lost(&mut self, interface: &str, addresses: &[IpAddr], gone: Gone) {
        let bound =
            gone == Gone::Interface && self.fsm.config().interface.as_deref() == Some(interface);
        let ours = |link: &Link| addresses.contains(&link.local.ip());
        if bound || self.links.iter().any(ours) {
            self.feed(Event::PathDead(match gone {
                Gone::Interface => format!("interface {interface} is gone or has no carrier"),
                Gone::Addresses => format!("our address is gone from interface {interface}"),
            }));
        }
    }

    fn accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        if let Err(error) = sockets::adopt(&stream, self.fsm.config(), remote.ip()) {
            self.reporter.refused(&error);
            return;
        }
        let keys = self.fsm.config().password.keys();
        if let Some(id) = self.adopt(stream, keys) {
            self.feed(Event::Accepted(id));
        }
    }
}

/// Never a session without the signatures that were asked for.
pub(super) const NO_AO: &str = "held down: this kernel has no TCP-AO (CONFIG_TCP_AO, Linux 6.7 or newer); boot one that has, or take authSecretRef (MD5) on both sides";

/// Why the configuration keeps a peer down, if it does.
pub(super) fn held_down(config: &PeerConfig) -> Option<String> {
    match (&config.shutdown, &config.password) {
        (Some(message), _) if message.is_empty() => Some("administratively down".into()),
        (Some(message), _) => Some(format!("administratively down: {message}")),
        (None, Password::Missing(why)) => {
            Some(format!("held down, its password is missing: {why}"))
        }
        (None, Password::Ao(_)) if !ao::is_known() => Some(NO_AO.into()),
        (None, Password::None | Password::Key(_) | Password::Ao(_)) => None,
    }
}
