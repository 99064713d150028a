//! The task behind the front door: it knows all peers and listeners, and goes from one configuration to the next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, broadcast, mpsc, oneshot, watch},
    task::{Id, JoinError, JoinSet},
};

use super::{
    Event, Gone, NoRefresh, Refresh, Stop,
    changes::{Change, change},
    status::Inquiry,
};
use crate::{
    bfd::Bfd,
    bmp::{self, collector::Collector},
    config::{PeerConfig, SpeakerConfig},
    listener::{Listener, Notice, keys},
    mrt::{record::Recorder, writer::Writer},
    peer::{
        deadlines::doubled,
        driver::{self, Anew, Detail, Driver, Stay},
        socket_options::interface_name,
        sockets::scope,
    },
    prefix::{Families, Prefix},
    rib::task::{Ending, PeerChange, PeerId, PeerMessage, RibHandle, Settings},
    status::SpeakerStatus,
    wire::{Cease, Notification},
};

mod accept;

use accept::member;

/// What the front door asks for.
#[derive(Debug)]
pub(super) enum Command {
    Apply(Box<SpeakerConfig>, oneshot::Sender<()>),
    Status(Detail, oneshot::Sender<SpeakerStatus>),
    Refresh(
        String,
        Refresh,
        oneshot::Sender<Result<Families, NoRefresh>>,
    ),
    Lost(Arc<str>, Arc<[IpAddr]>, Gone),
    Stop(Stop, oneshot::Sender<()>),
}

/// The longest wait for peers to take our last words.
const GOODBYE: Duration = Duration::from_secs(2);
/// Connections and news of listeners that may wait.
const NOTICES: usize = 256;

pub(super) struct Core {
    config: SpeakerConfig,
    rib: RibHandle,
    bfd: Bfd,
    events: broadcast::Sender<Event>,
    peers: BTreeMap<Arc<str>, Peer>,
    /// Who has an address; several where interfaces or source addresses tell them apart.
    by_address: HashMap<IpAddr, Vec<Arc<str>>>,
    tasks: JoinSet<()>,
    running: HashMap<Id, (Arc<str>, PeerId)>,
    last_id: u32,
    listeners: BTreeMap<SocketAddr, Listener>,
    listening: BTreeMap<SocketAddr, Result<(), String>>,
    notices: (mpsc::Sender<Notice>, mpsc::Receiver<Notice>),
    /// Ranges that were told to be full since they last took somebody.
    full: BTreeSet<String>,
    collectors: BTreeMap<String, Collector>,
    writer: Option<Writer>,
    /// Who records what peers say.
    tap: watch::Sender<Option<Recorder>>,
}

/// Connections that may wait for the task of their peer.
const WAITING: usize = 256;

/// A peer that runs.
struct Peer {
    id: PeerId,
    config: Arc<PeerConfig>,
    /// Unbounded, for nothing said here may get lost or wait; what peers can cause needs a place among [`Peer::waiting`], all
    /// else follows from what an operator or the kernel's links do.
    commands: mpsc::UnboundedSender<Box<driver::Command>>,
    /// Places for connections its task has not taken yet.
    waiting: Arc<Semaphore>,
    /// The range it came from.
    range: Option<String>,
    panics: u32,
}

impl Core {
    pub(super) fn new(
        config: SpeakerConfig,
        rib: RibHandle,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self {
            config,
            rib,
            bfd: Bfd::new(),
            events,
            peers: BTreeMap::new(),
            by_address: HashMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            last_id: 0,
            listeners: BTreeMap::new(),
            listening: BTreeMap::new(),
            notices: mpsc::channel(NOTICES),
            full: BTreeSet::new(),
            collectors: BTreeMap::new(),
            writer: None,
            tap: watch::Sender::new(None),
        }
    }

    /// Runs until told to stop, or until the front door is dropped: then all sessions close without a word.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.go_over(self.config.clone()).await;
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::Stop(how, reply)) => {
                        self.stop(how).await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.obey(command).await,
                },
                Some(notice) = self.notices.1.recv() => self.noticed(notice).await,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Apply(config, reply) => {
                self.go_over(*config).await;
                let _ = reply.send(());
            }
            Command::Status(detail, reply) => self.inquire(detail, reply),
            Command::Refresh(name, what, reply) => {
                let peer = self.peers.get(&*name).map(|peer| peer.id);
                let rib = self.rib.clone();
                drop(tokio::spawn(async move {
                    let done = match peer {
                        Some(peer) => rib.refresh(peer, what).await,
                        None => Err(NoRefresh::Unknown),
                    };
                    // Whoever asked may have gone.
                    let _ = reply.send(done);
                }));
            }
            Command::Lost(interface, addresses, gone) => {
                for peer in self.peers.values() {
                    let (interface, addresses) = (Arc::clone(&interface), Arc::clone(&addresses));
                    peer.tell(driver::Command::Lost(interface, addresses, gone));
                }
            }
            Command::Stop(..) => {} // run has seen to it
        }
    }

    fn inquire(&self, detail: Detail, reply: oneshot::Sender<SpeakerStatus>) {
        let mut inquiry = Inquiry::new(&self.config, &self.listening, Vec::new());
        let collectors = self.collectors.iter();
        inquiry.speaker.collectors = collectors
            .map(|(name, collector)| (name.clone(), collector.status()))
            .collect();
        inquiry.speaker.mrt = self.writer.as_ref().map(Writer::status);
        for peer in self.peers.values() {
            let (answer, report) = oneshot::channel();
            peer.tell(driver::Command::Report(detail, answer));
            inquiry.peers.push((peer.id, report));
        }
        let (rib, bfd) = (self.rib.clone(), self.bfd.clone());
        drop(tokio::spawn(async move {
            drop(reply.send(inquiry.answered(rib, bfd).await));
        }));
    }

    /// From what runs to what `config` says. The Rib learns all changes in one message, before any session changes.
    async fn go_over(&mut self, config: SpeakerConfig) {
        let new_id = config.router_id != self.config.router_id;
        let mut steps = Steps::default();
        for (name, peer) in &self.peers {
            let wanted = match &peer.range {
                None => config.peers.get(&**name).cloned(),
                Some(range) => config
                    .ranges
                    .get(range)
                    .filter(|range| range.range.contains(&Prefix::host(peer.config.address)))
                    .map(|range| member(range, peer.config.address, &peer.config)),
            };
            let Some(wanted) = wanted else {
                steps.remove.push(Arc::clone(name));
                continue;
            };
            match change(&peer.config, &wanted) {
                Change::None if !new_id => {}
                Change::None => steps.change.push((Arc::clone(name), wanted, renamed())),
                Change::Kept(_) if new_id => {
                    steps.change.push((Arc::clone(name), wanted, renamed()));
                }
                Change::Kept(anew) => steps.change.push((Arc::clone(name), wanted, anew)),
                Change::Replaced if peer.range.is_some() => steps.remove.push(Arc::clone(name)),
                Change::Replaced => {
                    steps.remove.push(Arc::clone(name));
                    steps.add.push((Arc::clone(name), wanted));
                }
            }
        }
        for (name, wanted) in &config.peers {
            if self
                .peers
                .get(&**name)
                .is_none_or(|peer| peer.range.is_some())
            {
                steps.add.push((name.as_str().into(), wanted.clone()));
            }
        }
        self.config = config;
        self.listen();
        self.monitor();
        self.take(steps).await;
    }

    /// Collectors and files as the configuration says; those that stay the same are not touched.
    fn monitor(&mut self) {
        let wanted = &self.config.collectors;
        let (stay, mut gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.collectors)
                .into_iter()
                .partition(|(name, one)| wanted.get(name) == Some(one.config()));
        self.collectors = stay;
        for (name, config) in wanted {
            self.collectors.entry(name.clone()).or_insert_with(|| {
                let before = gone.remove(name);
                Collector::start(name, config.clone(), self.rib.sender(), before)
            });
        }
        for collector in gone.into_values() {
            tokio::spawn(collector.stop());
        }
        if self.writer.as_ref().map(Writer::config) != self.config.mrt.as_ref() {
            self.tap.send_replace(None);
            let before = self.writer.take().and_then(Writer::retire);
            let wanted = self.config.mrt.clone();
            self.writer = wanted.map(|config| Writer::start(config, self.rib.clone(), before));
            let recorder = self.writer.as_ref().and_then(Writer::recorder);
            self.tap.send_replace(recorder);
        }
    }

    async fn take(&mut self, steps: Steps) {
        let mut changes = Vec::new();
        for name in &steps.remove {
            if let Some(peer) = self.peers.remove(name) {
                peer.tell(driver::Command::Stop(
                    Notification::cease(Cease::PeerDeconfigured),
                    "no longer configured".into(),
                ));
                changes.push(PeerChange::Remove(peer.id));
            }
        }
        let mut anew = Vec::new();
        for (name, config, how) in steps.change {
            if let Some(peer) = self.peers.get_mut(&name) {
                let config = Arc::new(config);
                peer.config = Arc::clone(&config);
                changes.push(peer.set(&name));
                anew.push((name, how));
            }
        }
        let mut drivers = Vec::new();
        for (name, config) in steps.add {
            drivers.push(self.add(&name, Arc::new(config), None));
            changes.extend(self.peers.get(&name).map(|peer| peer.set(&name)));
        }
        self.index();
        let settings = Settings::from(&self.config);
        if self.rib.configure(settings, changes).await.is_err() {
            tracing::error!("the Rib has ended");
        }
        for (name, anew) in anew {
            if let Some(peer) = self.peers.get(&name) {
                peer.tell(driver::Command::Reconfigure {
                    config: Arc::clone(&peer.config),
                    router_id: self.config.router_id,
                    anew,
                });
            }
        }
        for (name, driver) in drivers {
            self.spawn(name, driver, Duration::ZERO);
        }
    }

    /// Makes a peer known; its task starts once the Rib knows it too.
    fn add(
        &mut self,
        name: &Arc<str>,
        config: Arc<PeerConfig>,
        range: Option<String>,
    ) -> (Arc<str>, Driver) {
        self.last_id = self.last_id.wrapping_add(1);
        let id = PeerId(self.last_id);
        let (commands, orders) = mpsc::unbounded_channel();
        let peer = Peer {
            id,
            config,
            commands,
            waiting: Arc::new(Semaphore::new(WAITING)),
            range,
            panics: 0,
        };
        let driver = self.driver(name, &peer, orders);
        self.peers.insert(Arc::clone(name), peer);
        (Arc::clone(name), driver)
    }

    fn driver(
        &self,
        name: &Arc<str>,
        peer: &Peer,
        commands: mpsc::UnboundedReceiver<Box<driver::Command>>,
    ) -> Driver {
        Driver {
            id: peer.id,
            name: Arc::clone(name),
            config: Arc::clone(&peer.config),
            router_id: self.config.router_id,
            rib: self.rib.sender(),
            bfd: self.bfd.clone(),
            events: self.events.clone(),
            complete: self.rib.complete(),
            tap: self.tap.subscribe(),
            commands,
            stay: match peer.range {
                None => Stay::Configured,
                Some(_) => Stay::Connected,
            },
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a task that failed is started again after a while"
    )]
    fn spawn(&mut self, name: Arc<str>, driver: Driver, after: Duration) {
        let id = driver.id;
        let task = self.tasks.spawn(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            driver.run().await;
        });
        self.running.insert(task.id(), (name, id));
    }

    fn index(&mut self) {
        self.by_address.clear();
        for (name, peer) in &self.peers {
            let names = self.by_address.entry(peer.config.address).or_default();
            names.push(Arc::clone(name));
        }
    }

    /// Listeners and their keys as the configuration says.
    fn listen(&mut self) {
        let wanted = &self.config.listen;
        self.listeners.retain(|address, _| wanted.contains(address));
        self.listening.retain(|address, _| wanted.contains(address));
        let all = Arc::new(keys(&self.config, None));
        for address in wanted {
            let keys = match scope(*address) {
                0 => Arc::clone(&all),
                link => Arc::new(keys(&self.config, interface_name(link).as_deref())),
            };
            match self.listeners.get(address) {
                Some(listener) => listener.set_keys(keys),
                None => {
                    let notices = self.notices.0.clone();
                    let listener = Listener::start(*address, keys, notices);
                    self.listeners.insert(*address, listener);
                }
            }
        }
    }

    async fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Accepted(stream, remote) => self.accepted(stream, remote).await,
            Notice::State(address, state) => {
                let news = self.listening.get(&address) != Some(&state);
                match &state {
                    Ok(()) if news => tracing::info!(%address, "listening"),
                    Err(text) if news => {
                        tracing::warn!(%address, problem = %text, "not listening");
                        let (peer, text) = (None, text.clone());
                        drop(self.events.send(Event::Problem { peer, text }));
                    }
                    _ => {}
                }
                if self.listeners.contains_key(&address) {
                    self.listening.insert(address, state);
                }
            }
        }
    }

    async fn forget(&mut self, name: &Arc<str>) {
        if let Some(peer) = self.peers.remove(name) {
            self.index();
            let settings = Settings::from(&self.config);
            let removal = vec![PeerChange::Remove(peer.id)];
            let _ = self.rib.configure(settings, removal).await;
        }
    }

    /// A peer's task has ended: as told, because its peer from a range is gone, or by a fault of ours.
    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let task = match &ended {
            Ok((task, ())) => *task,
            Err(error) => error.id(),
        };
        let Some((name, id)) = self.running.remove(&task) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&name).filter(|peer| peer.id == id) else {
            return;
        };
        if ended.is_ok() {
            // One that was connected again in between would have a new task.
            return self.forget(&name).await;
        }
        tracing::error!(peer = %name, "its task failed and is started again");
        let text = "an internal error ended its session; it is started again".to_owned();
        drop(self.events.send(Event::Problem {
            peer: Some(name.to_string()),
            text,
        }));
        let (commands, orders) = mpsc::unbounded_channel();
        peer.commands = commands;
        let after = doubled(Duration::from_secs(1), peer.panics, Duration::from_secs(60));
        peer.panics = peer.panics.saturating_add(1);
        let _ = self
            .rib
            .send(id, PeerMessage::Down(Ending::Gone, bmp::Down::WeLeft(0)))
            .await;
        if let Some(peer) = self.peers.get(&name) {
            let driver = self.driver(&name, peer, orders);
            self.spawn(name, driver, after);
        }
    }

    async fn stop(&mut self, how: Stop) {
        self.listeners.clear();
        for peer in self.peers.values() {
            peer.tell(match &how {
                Stop::Restart => driver::Command::Leave,
                Stop::Shutdown { message } => driver::Command::Stop(
                    Notification::administrative_shutdown(message),
                    "we shut down".into(),
                ),
            });
        }
        let collectors = std::mem::take(&mut self.collectors);
        let writer = self.writer.take();
        let all = async {
            while self.tasks.join_next().await.is_some() {}
            self.tap.send_replace(None);
            let mut last: JoinSet<()> = collectors.into_values().map(Collector::stop).collect();
            if let Some(writer) = writer {
                last.spawn(writer.stop());
            }
            self.bfd.settle().await;
            while last.join_next().await.is_some() {}
        };
        if tokio::time::timeout(GOODBYE, all).await.is_err() {
            tracing::warn!("some peers did not take our last words");
        }
    }
}

impl Peer {
    fn tell(&self, command: driver::Command) {
        // A task that has ended is noticed elsewhere.
        drop(self.commands.send(Box::new(command)));
    }

    fn set(&self, name: &Arc<str>) -> PeerChange {
        PeerChange::Set {
            peer: self.id,
            name: Arc::clone(name),
            config: Arc::clone(&self.config),
        }
    }
}

/// From what runs to what is wanted.
#[derive(Default)]
struct Steps {
    remove: Vec<Arc<str>>,
    change: Vec<(Arc<str>, PeerConfig, Anew)>,
    add: Vec<(Arc<str>, PeerConfig)>,
}

fn renamed() -> Anew {
    Anew::Session("our router ID changed".into())
}

#[cfg(test)]
mod tests;
