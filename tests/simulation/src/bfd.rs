//! BFD between the speakers: real sessions, packets that take their time and are lost where the path is dead.

use std::time::{Duration, Instant};

use bgp::{
    bfd::{
        news::News,
        packet::{Packet, State},
        session::{Action, Event as Heard, Session},
    },
    peer::deadlines::Jitter,
};

use crate::{
    clock::{Alarm, Event},
    process::Sabotage,
    topology::Node,
    trace::What,
    watch::Finding,
    world::World,
};

/// BFD on the path to one peer.
#[derive(Debug)]
pub struct Watched {
    session: Session,
    up: bool,
    /// What has come while nobody looked, and when.
    waiting: Vec<(Packet, Instant)>,
    /// When it has something to do.
    deadline: Alarm,
    /// When its path was last alive, or its process had other reasons not to know.
    excused: Instant,
}

/// How long BFD may take a dead path for working: its detection time, what was under way, and the pace it begins with.
const UNNOTICED: Duration = Duration::from_secs(5);

impl World {
    /// BFD begins on the path to a peer, where it is configured.
    pub(crate) fn watch_path(&mut self, node: Node, peer: Node) {
        let (now, seed) = (self.clock.now, self.clock.random.u32(1..));
        let Some(one) = self.peer(node, peer) else {
            return;
        };
        let config = one.driver.fsm.config();
        let wanted = config.bfd.filter(|_| config.shutdown.is_none());
        if wanted.is_some() == one.path.is_some() {
            return;
        }
        one.path = wanted.map(|settings| Watched {
            session: Session::new(now, seed, (&settings).into(), Jitter::new(seed.into(), now)),
            up: false,
            waiting: Vec::new(),
            deadline: Alarm::default(),
            excused: now,
        });
        self.feed(node, peer, bgp::peer::fsm::Event::BfdClear);
        self.look_at_path(node, peer);
    }

    /// BFD ends on the path to a peer, and says that this is meant.
    pub(crate) fn leave_path(&mut self, node: Node, peer: Node) {
        let now = self.clock.now;
        let one = self.peer(node, peer);
        if let Some(mut path) = one.and_then(|one| one.path.take()) {
            let last_words = path.session.handle(now, Heard::Shut);
            self.act_on_path(node, peer, last_words);
        }
    }

    /// A packet comes in; it waits where the process is stopped.
    pub(crate) fn datagram(&mut self, from: Node, to: Node, packet: Packet) {
        if !self.network.paths.carry(from, to) {
            return;
        }
        let now = self.clock.now;
        let Some(path) = self.peer(to, from).and_then(|one| one.path.as_mut()) else {
            return;
        };
        path.waiting.push((packet, now));
        self.look_at_path(to, from);
    }

    /// BFD on a path may have something to do.
    pub(crate) fn path_timer(&mut self, node: Node, peer: Node) {
        let now = self.clock.now;
        let path = self.peer(node, peer).and_then(|one| one.path.as_mut());
        if path.is_some_and(|path| path.deadline.rings(now)) {
            self.look_at_path(node, peer);
        }
    }

    /// First what came, then what follows from the time, as in the driver.
    pub(crate) fn look_at_path(&mut self, node: Node, peer: Node) {
        if !self.hosts[node].acts() {
            return;
        }
        let now = self.clock.now;
        let Some(path) = self.peer(node, peer).and_then(|one| one.path.as_mut()) else {
            return;
        };
        let own = path.session.discriminator();
        for (packet, arrived) in std::mem::take(&mut path.waiting) {
            if [0, own].contains(&packet.your_discriminator) {
                self.heard_on_path(node, peer, packet, arrived);
            }
        }
        let never = self.sabotage == Some(Sabotage::NeverExpire);
        if let Some(path) = self.peer(node, peer).and_then(|one| one.path.as_mut()) {
            let mut actions = path.session.handle_timeout(now);
            if never {
                actions.retain(|action| matches!(action, Action::Send(_)));
            }
            self.act_on_path(node, peer, actions);
        }
        let process = self.hosts[node].process.as_mut();
        let one = process.and_then(|process| process.peers.get_mut(&peer));
        if let Some(path) = one.and_then(|one| one.path.as_mut())
            && let Some(at) = path.session.next_timeout()
        {
            let event = Event::Path(node, peer);
            path.deadline.set(at, &mut self.clock, event);
        }
    }

    fn heard_on_path(&mut self, node: Node, peer: Node, packet: Packet, arrived: Instant) {
        let now = self.clock.now;
        let Some(path) = self.peer(node, peer).and_then(|one| one.path.as_mut()) else {
            return;
        };
        let held_down = |session: &Session| {
            let remote = session.remote();
            remote.is_some_and(|remote| remote.state == State::AdminDown)
        };
        let before = held_down(&path.session);
        let actions = path.session.handle(now, Heard::Received(packet, arrived));
        let silent = held_down(&path.session) && !before;
        self.act_on_path(node, peer, actions);
        if silent {
            self.feed(node, peer, News::Silent.into());
        }
    }

    fn act_on_path(&mut self, node: Node, peer: Node, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(packet) => {
                    let takes = self.network.takes(&mut self.clock);
                    let event = Event::Datagram(node, peer, packet);
                    self.clock.after(takes, event);
                }
                Action::State(state, cause) => {
                    let now = self.clock.now;
                    let Some(path) = self.peer(node, peer).and_then(|one| one.path.as_mut()) else {
                        continue;
                    };
                    let news = News::of(&path.session, now, path.up, state, cause);
                    path.up = state == State::Up;
                    if path.up {
                        // It comes up over nothing but a path that works, if only between two looks.
                        path.excused = now;
                    }
                    if let Some(news) = news {
                        self.news(node, peer, news);
                    }
                }
                Action::Forgotten => self.news(node, peer, News::Silent),
                Action::Discard(_) => {}
            }
        }
    }

    fn news(&mut self, node: Node, peer: Node, mut news: News) {
        self.tell(node, What::Path(peer, news.clone()));
        if let News::Dead { forwarding, .. } = &mut news {
            *forwarding |= self.sabotage == Some(Sabotage::BlameForwarding);
        }
        self.feed(node, peer, news.into());
    }

    /// BFD takes no path for working that has been dead for long.
    pub(crate) fn look_at_paths(&mut self) {
        let now = self.clock.now;
        let mut found = None;
        for (node, host) in self.hosts.iter_mut().enumerate() {
            let acts = host.acts();
            let peers = host
                .process
                .iter_mut()
                .flat_map(|process| &mut process.peers);
            for (peer, one) in peers {
                let Some(path) = &mut one.path else { continue };
                if !acts || self.network.paths.are_whole(node, *peer) {
                    path.excused = now;
                } else if path.up && now - path.excused > UNNOTICED {
                    let dead = now - path.excused;
                    found = Some((node, *peer, dead));
                }
            }
        }
        if let Some((node, peer, dead)) = found {
            let text =
                format!("its BFD takes the path to node {peer} for working, dead for {dead:?}");
            self.found(Finding::new(node, text));
        }
    }
}
