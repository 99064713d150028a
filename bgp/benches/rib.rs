//! The Rib with its task, in one process: `cargo bench -p bgp --bench rib [internet|ten|withdraw|reflector]`.
//!
//! Nanoseconds of CPU a prefix of the Rib's thread and of the whole, wall time, peak memory, UPDATEs in and out. Sources hand
//! over parsed UPDATEs as sessions do; sinks take the octets and count what is in them.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop when something is wrong"
)]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bgp::{
    bmp::Down,
    config::{
        AddPath, Connect, MaxPrefixes, Multipath, NextHopAddresses, NextHopMode, OverLimit,
        Password, PeerAsn, PeerConfig, Policy, Timers, Ttl, Verdict,
    },
    prefix::{Families, Prefix},
    rib::task::{
        Ending, Outbound, PeerChange, PeerId, PeerMessage, RibHandle, Room, Session, Settings,
    },
    status::PeerKind,
    wire::{AsPath, Attributes, Community, Context, Nlri, Update, update::Announced},
};
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word));
    if asked("internet") {
        runtime.block_on(internet());
    }
    if asked("ten") {
        runtime.block_on(ten());
    }
    if asked("reflector") {
        runtime.block_on(reflector());
    }
}

/// A generator of numbers: xorshift64*.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// UPDATEs for so many prefixes in so many attribute sets; half of the sets have one prefix.
fn table(source: u32, prefixes: u32, sets: u32) -> Vec<Update> {
    let mut numbers = Numbers(0x1234_5678 + u64::from(source));
    let mut next: u32 = 0;
    let singles = sets / 2;
    let mut updates = Vec::new();
    for set in 0..sets {
        let many = if set % 2 == 0 && set / 2 < singles {
            1
        } else {
            let left = prefixes - next - (sets - set) / 2;
            let sets_left = (sets - set).div_ceil(2);
            (left / sets_left).max(1)
        };
        let mut nlri = Vec::new();
        for _ in 0..many.min(prefixes - next) {
            // 16 M /24s, in an order that is not that of their numbers.
            let address = ((next.wrapping_mul(40_503) % (1 << 20)) << 8) + 0x0100_0000;
            nlri.push(Nlri::from(Prefix::v4(Ipv4Addr::from(address), 24).unwrap()));
            next += 1;
        }
        let hops = 2 + numbers.below(5);
        let path: Vec<u32> = std::iter::once(65001 + source)
            .chain((0..hops).map(|_| 1 + numbers.below(60_000) as u32))
            .collect();
        let communities = (0..numbers.below(5))
            .map(|_| Community(numbers.next() as u32 & 0xefff_ffff))
            .collect();
        let attributes = Attributes {
            as_path: AsPath::sequence(&path),
            next_hop: Some(address(source).into()),
            med: Some(set),
            communities,
            ..Attributes::default()
        };
        for nlri in nlri.chunks(900) {
            updates.push(Update {
                announced: [Announced {
                    attributes: attributes.clone().into(),
                    nlri: nlri.to_vec(),
                }]
                .into_iter()
                .collect(),
                ..Update::default()
            });
        }
    }
    updates
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0100 + number))
}

fn settings() -> Settings {
    Settings {
        asn: 64512,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        cluster_id: Ipv4Addr::new(10, 0, 0, 1),
        multipath: Multipath {
            max_paths: 1,
            as_path_relax: false,
        },
        deferral: Duration::from_secs(15),
        draining: false,
        stable: true,
        originate: BTreeMap::new(),
        owners: Arc::default(),
    }
}

fn config(number: u32) -> PeerConfig {
    let all = Arc::new(Policy::always("all", Verdict::Accept));
    PeerConfig {
        address: address(number),
        interface: None,
        unnumbered: None,
        port: 179,
        asn: PeerAsn::Any,
        local_asn: 64512,
        source: None,
        connect: Connect::Dial,
        ttl: Ttl::Send(1),
        password: Password::None,
        timers: Timers {
            connect_retry: Duration::from_secs(5),
            hold: Duration::from_secs(90),
            keepalive: Duration::from_secs(30),
            idle_hold_max: Duration::from_secs(60),
        },
        families: Families::IPV4,
        extended_next_hop: false,
        add_path: AddPath::default(),
        graceful_restart: None,
        next_hop: NextHopMode::Auto,
        next_hop_addresses: NextHopAddresses::default(),
        route_reflector_client: true,
        allow_own_as: 0,
        max_prefixes: MaxPrefixes {
            count: 0,
            action: OverLimit::Warn,
        },
        bfd: None,
        import: all.clone(),
        export: Some(all),
        shutdown: None,
        mesh: false,
    }
}

/// What a sink has seen.
#[derive(Default)]
struct Seen {
    announced: AtomicUsize,
    withdrawn: AtomicUsize,
    updates: AtomicUsize,
    octets: AtomicUsize,
}

struct Bench {
    rib: RibHandle,
    seen: BTreeMap<u32, Arc<Seen>>,
}

impl Bench {
    async fn start() -> Self {
        let events = broadcast::channel(16).0;
        let rib = RibHandle::start(settings(), None, events);
        Self {
            rib,
            seen: BTreeMap::new(),
        }
    }

    /// Peers come up; each reads what it is sent, and counts.
    async fn up(&mut self, numbers: std::ops::Range<u32>, kind: PeerKind) {
        let sets = numbers
            .clone()
            .map(|number| PeerChange::Set {
                peer: PeerId(number),
                name: format!("peer{number}").into(),
                config: Arc::new(config(number)),
            })
            .collect();
        self.rib.configure(settings(), sets).await.unwrap();
        for number in numbers {
            let (messages, inbox) = mpsc::unbounded_channel();
            let (orders, _) = mpsc::unbounded_channel();
            let room = Arc::new(Room::default());
            let seen = Arc::new(Seen::default());
            self.seen.insert(number, seen.clone());
            tokio::spawn(read(
                inbox,
                room.clone(),
                seen,
                self.rib.clone(),
                PeerId(number),
            ));
            let session = Session {
                config: Arc::new(config(number)),
                context: Context {
                    families: Families::IPV4,
                    four_octet_as: true,
                    internal: kind == PeerKind::Internal,
                    ..Context::default()
                },
                kind,
                asn: match kind {
                    PeerKind::External => 65001 + number,
                    PeerKind::Internal => 64512,
                },
                router_id: Ipv4Addr::from(0x0a01_0000 + number),
                address: address(number),
                local_address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254)),
                local_link_local: None,
                interface: None,
                refresh: bgp::rib::task::Refreshing::Enhanced,
                expects_end_of_rib: Families::IPV4,
                preserved: Families::empty(),
                knows_long_stale: false,
                opening: Arc::default(),
                outbound: Outbound {
                    messages,
                    room,
                    orders,
                },
            };
            let message = PeerMessage::Established(Box::new(session));
            self.rib.send(PeerId(number), message).await.unwrap();
        }
    }

    /// Waits until each sink has seen so many; gives the UPDATEs they got.
    async fn until(&self, sinks: std::ops::Range<u32>, wanted: impl Fn(&Seen) -> bool) -> usize {
        for sink in sinks.clone() {
            while !wanted(&self.seen[&sink]) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        sinks
            .map(|sink| self.seen[&sink].updates.load(Ordering::Relaxed))
            .sum()
    }
}

/// A socket's worth of UPDATEs at once.
async fn feed(rib: RibHandle, source: u32, updates: Vec<Update>) {
    let mut batch = Vec::new();
    let mut octets = 0;
    for update in updates {
        octets += 70
            + 4 * update
                .announced
                .iter()
                .map(|it| it.nlri.len())
                .sum::<usize>();
        batch.push(update);
        if octets > 64 * 1024 {
            let message = PeerMessage::Updates(std::mem::take(&mut batch));
            rib.send(PeerId(source), message).await.unwrap();
            octets = 0;
        }
    }
    let message = PeerMessage::Updates(batch);
    rib.send(PeerId(source), message).await.unwrap();
}

async fn read(
    mut inbox: mpsc::UnboundedReceiver<Bytes>,
    room: Arc<Room>,
    seen: Arc<Seen>,
    rib: RibHandle,
    id: PeerId,
) {
    while let Some(octets) = inbox.recv().await {
        count(&octets, &seen);
        let left = room.queued.fetch_sub(octets.len(), Ordering::SeqCst) - octets.len();
        if left <= Room::LIMIT / 2 && room.awaited.swap(false, Ordering::SeqCst) {
            // The task may have ended.
            let _ = rib.send(id, PeerMessage::Writable).await;
        }
    }
}

/// Counts without parsing more than it must, so that what is measured is the Rib.
fn count(mut octets: &[u8], seen: &Seen) {
    let (mut announced, mut withdrawn, mut updates) = (0, 0, 0);
    seen.octets.fetch_add(octets.len(), Ordering::Relaxed);
    while octets.len() >= 19 {
        let length = usize::from(u16::from_be_bytes([octets[16], octets[17]]));
        if octets[18] == 2 {
            let body = &octets[19..length];
            let gone = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let rest = &body[2 + gone..];
            let attributes = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
            // All prefixes are /24: 4 octets each.
            announced += (rest.len() - 2 - attributes) / 4;
            withdrawn += gone / 4;
            updates += usize::from(body.len() > 4);
        }
        octets = &octets[length..];
    }
    seen.updates.fetch_add(updates, Ordering::Relaxed);
    seen.withdrawn.fetch_add(withdrawn, Ordering::Release);
    seen.announced.fetch_add(announced, Ordering::Release);
}

/// One of the figures of /proc/self/status, in MiB.
fn memory(field: &str) -> f64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| {
            rest.trim_matches([':', '\t', ' ', 'k', 'B'])
                .parse::<f64>()
                .ok()
        })
        .unwrap_or(0.0)
        / 1024.0
}

/// CPU time of the thread `name`, or of all; in seconds.
fn cpu(name: Option<&str>) -> f64 {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let comm = std::fs::read_to_string(path.join("comm")).ok()?;
            let schedstat = std::fs::read_to_string(path.join("schedstat")).ok()?;
            let nanoseconds: f64 = schedstat.split(' ').next()?.parse().ok()?;
            name.is_none_or(|name| comm.trim() == name)
                .then_some(nanoseconds / 1e9)
        })
        .sum()
}

struct Watch {
    began: Instant,
    rib: f64,
    all: f64,
}

impl Watch {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            rib: cpu(Some("rib")),
            all: cpu(None),
        }
    }

    fn end(&self, what: &str, prefixes: usize, more: &str) {
        let each = 1e9 / prefixes as f64;
        println!(
            "{what:<44} wall {:6.3} s · rib {:5.0} ns · all {:5.0} ns a prefix · {more}",
            self.began.elapsed().as_secs_f64(),
            (cpu(Some("rib")) - self.rib) * each,
            (cpu(None) - self.all) * each,
        );
    }
}

async fn internet() {
    const PREFIXES: u32 = 1_000_000;
    const SETS: u32 = 185_000;
    let updates = table(1, PREFIXES, SETS);
    let messages = updates.len();
    let before = memory("VmRSS");
    let mut bench = Bench::start().await;
    bench.up(1..3, PeerKind::External).await;
    let watch = Watch::begin();
    feed(bench.rib.clone(), 1, updates).await;
    let all = PREFIXES as usize;
    let updates = bench
        .until(2..3, |seen| seen.announced.load(Ordering::Acquire) >= all)
        .await;
    let counts = bench.rib.counts().await.unwrap();
    watch.end(
        "1 M prefixes, 185 k sets, 1 source, 1 sink",
        all,
        &format!(
            "UPDATEs {messages} in, {updates} out · {} sets · input {before:.0} MiB, now {:.0}, peak {:.0}",
            counts.attribute_sets,
            memory("VmRSS"),
            memory("VmHWM"),
        ),
    );
    let watch = Watch::begin();
    let down = PeerMessage::Down(Ending::Gone, Down::TheyLeft);
    bench.rib.send(PeerId(1), down).await.unwrap();
    let more = bench
        .until(2..3, |seen| seen.withdrawn.load(Ordering::Acquire) >= all)
        .await;
    watch.end(
        "… the source is lost",
        all,
        &format!(
            "{} UPDATEs · now {:.0} MiB",
            more - updates,
            memory("VmRSS")
        ),
    );
}

async fn ten() {
    const PREFIXES: u32 = 100_000;
    const SETS: u32 = 18_500;
    let tables: Vec<_> = (1..11)
        .map(|source| table(source, PREFIXES, SETS))
        .collect();
    let mut bench = Bench::start().await;
    bench.up(1..21, PeerKind::External).await;
    let watch = Watch::begin();
    let feeds: Vec<_> = (1..)
        .zip(tables)
        .map(|(source, table)| tokio::spawn(feed(bench.rib.clone(), source, table)))
        .collect();
    for feed in feeds {
        feed.await.unwrap();
    }
    // Until nothing waits and nothing more comes.
    let mut last = 0;
    loop {
        let counts = bench.rib.counts().await.unwrap();
        let waiting: usize = counts.peers.values().map(|peer| peer.waiting).sum();
        let octets = (11..21)
            .map(|sink| bench.seen[&sink].octets.load(Ordering::Relaxed))
            .sum();
        if waiting == 0 && octets == last {
            break;
        }
        last = octets;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let updates = bench.until(11..21, |_| true).await;
    watch.end(
        "10 sources × the same 100 k, 10 sinks",
        10 * PREFIXES as usize,
        &format!("{updates} UPDATEs out · peak {:.0} MiB", memory("VmHWM")),
    );
    let watch = Watch::begin();
    let before = bench.until(11..21, |_| true).await;
    for source in 1..11 {
        let down = PeerMessage::Down(Ending::Gone, Down::TheyLeft);
        bench.rib.send(PeerId(source), down).await.unwrap();
    }
    let updates = bench
        .until(11..21, |seen| {
            seen.withdrawn.load(Ordering::Acquire) >= PREFIXES as usize
        })
        .await;
    watch.end(
        "… all sources are lost",
        10 * PREFIXES as usize,
        &format!("{} UPDATEs out", updates - before),
    );
}

async fn reflector() {
    for clients in [500_u32, 1000] {
        let mut bench = Bench::start().await;
        let watch = Watch::begin();
        bench.up(1..clients + 1, PeerKind::Internal).await;
        for client in 1..=clients {
            let prefix = Prefix::v4(Ipv4Addr::from(0x0a80_0000 + (client << 8)), 24).unwrap();
            let attributes = Attributes {
                next_hop: Some(address(client).into()),
                local_pref: Some(100),
                ..Attributes::default()
            };
            let update = Update {
                announced: [Announced {
                    attributes: attributes.into(),
                    nlri: vec![prefix.into()],
                }]
                .into_iter()
                .collect(),
                ..Update::default()
            };
            let message = PeerMessage::Updates(vec![update]);
            bench.rib.send(PeerId(client), message).await.unwrap();
        }
        let others = clients as usize - 1;
        let updates = bench
            .until(1..clients + 1, |seen| {
                seen.announced.load(Ordering::Acquire) >= others
            })
            .await;
        watch.end(
            &format!("reflector, {clients} clients × 1 prefix"),
            (clients * clients) as usize,
            &format!("{updates} UPDATEs out"),
        );
    }
}
