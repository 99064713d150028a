//! Many speakers of the `bgp` crate in this process, each on an address of its own with one peer and pods to tell of: what so many
//! daemons would be to that peer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bgp::{
    config::{
        AddPath, Connect, GracefulRestartConfig, MaxPrefixes, Multipath, NextHopAddresses,
        NextHopMode, Origination, OverLimit, Password, PeerAsn, PeerConfig, Policy, Set, Source,
        SpeakerConfig, Timers, Ttl, Verdict,
    },
    prefix::{Families, Prefix},
    speaker::{Event, Speaker},
};
use tokio::runtime::{Builder, Runtime};

use super::message::mapped;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Station {
    /// Its address.
    pub address: Ipv4Addr,
    /// That of its peer.
    pub peer: Ipv4Addr,
    /// The AS of both.
    pub asn: u32,
    /// Its pod CIDR of IPv4.
    pub pods4: (Ipv4Addr, u8),
    /// Its pod CIDR of IPv6, a /64.
    pub pods6: Ipv6Addr,
}

/// All of them, running. Dropping it ends them.
#[derive(Debug)]
pub struct Speakers {
    counts: Arc<Counts>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct Counts {
    up: AtomicUsize,
    heard: AtomicUsize,
}

impl Speakers {
    /// Starts them in the network namespace of the calling thread.
    ///
    /// # Errors
    /// A pod CIDR is none.
    pub fn start(stations: impl Iterator<Item = Station>) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let counts = Arc::new(Counts::default());
        for station in stations {
            let config = station.config()?;
            let counts = Arc::clone(&counts);
            drop(runtime.spawn(live(config, counts)));
        }
        Ok(Self {
            counts,
            _runtime: runtime,
        })
    }

    /// Sessions that are Established.
    #[must_use]
    pub fn up(&self) -> usize {
        self.counts.up.load(Ordering::Relaxed)
    }

    /// Prefixes that came from the peer, at all stations together.
    #[must_use]
    pub fn heard(&self) -> usize {
        self.counts.heard.load(Ordering::Relaxed)
    }
}

/// Runs one of them for as long as the runtime lives.
async fn live(config: SpeakerConfig, counts: Arc<Counts>) {
    let mut speaker = Speaker::start(config);
    let mut events = speaker.events();
    let Some(mut installs) = speaker.installs() else {
        return;
    };
    let mut was = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(Event::Session { up, .. }) => {
                    match (was, up) {
                        (false, true) => counts.up.fetch_add(1, Ordering::Relaxed),
                        (true, false) => counts.up.fetch_sub(1, Ordering::Relaxed),
                        _ => continue,
                    };
                    was = up;
                }
                Ok(Event::Problem { .. } | Event::Bfd { .. }) => {}
                Err(_) => return,
            },
            batch = installs.recv() => match batch {
                Some(batch) => {
                    let there = batch.iter().filter(|install| !install.next_hops.is_empty());
                    counts.heard.fetch_add(there.count(), Ordering::Relaxed);
                }
                None => return,
            },
        }
    }
}

impl Station {
    /// As a node of the cluster with no configuration would have it.
    fn config(self) -> Result<SpeakerConfig> {
        let pods4 = Prefix::v4(self.pods4.0, self.pods4.1).context("pod CIDR")?;
        let pods6 = Prefix::v6(self.pods6, 64).context("pod CIDR")?;
        let origination = Origination {
            source: Source::PodCIDR,
            peers: None,
            set: Set::default(),
            others: Vec::new(),
        };
        Ok(SpeakerConfig {
            asn: self.asn,
            router_id: self.address,
            cluster_id: self.address,
            listen: vec![SocketAddr::new(self.address.into(), 179)],
            peers: [("node".to_owned(), self.to_peer())].into(),
            ranges: [].into(),
            originate: [(pods4, origination.clone()), (pods6, origination)].into(),
            owners: Arc::default(),
            multipath: Multipath {
                max_paths: 16,
                as_path_relax: false,
            },
            deferral: Duration::from_secs(15),
            draining: false,
            collectors: [].into(),
            mrt: None,
        })
    }

    fn to_peer(self) -> PeerConfig {
        PeerConfig {
            address: self.peer.into(),
            interface: None,
            unnumbered: None,
            port: 179,
            asn: PeerAsn::Number(self.asn),
            local_asn: self.asn,
            source: Some(IpAddr::from(self.address)),
            connect: if self.address < self.peer {
                Connect::Dial
            } else {
                Connect::After(Duration::from_secs(10))
            },
            ttl: Ttl::Send(255),
            password: Password::None,
            timers: Timers {
                connect_retry: Duration::from_secs(5),
                hold: Duration::from_secs(90),
                keepalive: Duration::from_secs(30),
                idle_hold_max: Duration::from_secs(60),
            },
            families: Families::all(),
            extended_next_hop: false,
            bfd: None,
            add_path: AddPath::default(),
            graceful_restart: Some(GracefulRestartConfig {
                restart_time: 120,
                long_lived: 0,
                notification: true,
                restarted: false,
            }),
            next_hop: NextHopMode::Auto,
            next_hop_addresses: NextHopAddresses {
                v4: Some(self.address),
                v6: Some(mapped(self.address)),
            },
            route_reflector_client: false,
            allow_own_as: 0,
            max_prefixes: MaxPrefixes {
                count: 0,
                action: OverLimit::Warn,
            },
            import: Arc::new(Policy::always("all", Verdict::Accept)),
            export: None,
            shutdown: None,
            mesh: true,
        }
    }
}
