//! What a speaker is told: plain data, already checked; no strings to parse, no option that means "default".

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    bmp::Views,
    owners::Owners,
    prefix::{Families, Family, Prefix},
    wire::{Community, LargeCommunity},
};

mod password;

pub(crate) use password::Keys;
pub use password::{Algorithm, AoKey, Md5Key, Password};

/// Everything a speaker does. [`crate::speaker::Speaker::apply`] compares it with what runs: peers whose configuration is
/// equal keep their session, whatever else changes.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeakerConfig {
    /// Our AS number, where a peer's `local_asn` does not say otherwise.
    pub asn: u32,
    /// Our BGP Identifier (RFC 6286): not 0.
    pub router_id: Ipv4Addr,
    /// Our cluster ID as a route reflector (RFC 4456 §7).
    pub cluster_id: Ipv4Addr,
    /// Addresses to accept connections on; empty: none.
    pub listen: Vec<SocketAddr>,
    /// Peers by name.
    pub peers: BTreeMap<String, PeerConfig>,
    /// Ranges from which anyone may dial in, by name (the peer's `address` and `port` are then unused).
    pub ranges: BTreeMap<String, RangeConfig>,
    /// What we originate.
    pub originate: BTreeMap<Prefix, Origination>,
    /// Whose prefixes are whose: a route for one counts only if it leads to its owner, whatever policies say.
    pub owners: Arc<Owners>,
    /// Equal-cost multipath.
    pub multipath: Multipath,
    /// How long after the start the sweep and our End-of-RIB wait for the End-of-RIB of peers that are up (RFC 4724 §4.1).
    pub deferral: Duration,
    /// The node is on its way out: GRACEFUL_SHUTDOWN (RFC 8326) on all we announce, LOCAL_PREF 0 to internal peers.
    pub draining: bool,
    /// Who is told over BMP, by name.
    pub collectors: BTreeMap<String, CollectorConfig>,
    /// What is written to files.
    pub mrt: Option<MrtConfig>,
}

/// A collector that we dial, and tell of our peers and their routes (BMP, RFC 7854).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// What we call ourselves (sysName).
    pub system: String,
    /// What we are (sysDescr).
    pub description: String,
    /// Which Adj-RIB-In it is told of.
    pub views: Views,
    /// How often it gets a Statistics Report of each peer; `None`: never.
    pub statistics: Option<Duration>,
}

/// MRT files (RFC 6396).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MrtConfig {
    /// Where they are written to.
    pub directory: PathBuf,
    /// Every UPDATE and change of state, in files of so much time each; whole seconds.
    pub updates: Option<Duration>,
    /// The whole table, so often; whole seconds.
    pub table: Option<Duration>,
}

/// Equal-cost multipath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multipath {
    /// Most paths to one prefix, 1–255; 1 is no multipath.
    pub max_paths: u8,
    /// Paths of equal length count as equal whatever ASes they hold.
    pub as_path_relax: bool,
}

/// One peer: who we talk to.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// Its address.
    pub address: IpAddr,
    /// The interface a link-local `address` is on; also binds the session to it.
    pub interface: Option<String>,
    /// It is whoever is at the other end of `interface`: `address` is the link-local one known there, unspecified while there is
    /// none, and who dials in from another one there is taken as well.
    pub unnumbered: Option<Unnumbered>,
    /// TCP port to dial.
    pub port: u16,
    /// Which AS numbers its OPEN may carry.
    pub asn: PeerAsn,
    /// The AS number we show it.
    pub local_asn: u32,
    /// The address we speak from; `None`: the kernel chooses.
    pub source: Option<IpAddr>,
    /// Who dials.
    pub connect: Connect,
    /// Time to live of our packets and of theirs.
    pub ttl: Ttl,
    /// What TCP segments are signed with.
    pub password: Password,
    /// Timers.
    pub timers: Timers,
    /// Families to offer.
    pub families: Families,
    /// Offer IPv6 next hops for IPv4 prefixes (RFC 8950).
    pub extended_next_hop: bool,
    /// Add-path (RFC 7911).
    pub add_path: AddPath,
    /// Graceful restart; `None`: not offered.
    pub graceful_restart: Option<GracefulRestartConfig>,
    /// What stands as next hop in what we announce.
    pub next_hop: NextHopMode,
    /// Our addresses as a next hop, by family: `Self` mode and what we originate use them. Where one is absent the
    /// session's own local address serves, if its family fits.
    pub next_hop_addresses: NextHopAddresses,
    /// It is our client (RFC 4456).
    pub route_reflector_client: bool,
    /// How often our own AS may stand in an AS_PATH from it.
    pub allow_own_as: u8,
    /// Maximum prefixes.
    pub max_prefixes: MaxPrefixes,
    /// Whether BFD watches the path to it, and how.
    pub bfd: Option<BfdConfig>,
    /// What comes in.
    pub import: Arc<Policy>,
    /// What goes out; `None`: what we originate, and what route reflection demands (RFC 8212 in spirit).
    pub export: Option<Arc<Policy>>,
    /// Administratively down, with the message it is told (RFC 9003, at most 255 octets of UTF-8).
    pub shutdown: Option<String>,
    /// A node of our own cluster: shown collapsed, counted together.
    pub mesh: bool,
}

/// A peer that is known by its link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unnumbered {
    /// What is in the way of finding it, or of its finding us, in words.
    pub note: Option<String>,
}

/// BFD to a peer (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdConfig {
    /// The fastest we take packets: Required Min RX Interval.
    pub min_rx: Duration,
    /// The fastest we send them: Desired Min TX Interval.
    pub min_tx: Duration,
    /// Packets that may be missed, at least 1.
    pub multiplier: u8,
    /// How far away the peer is.
    pub hops: Hops,
}

/// How far away the other side of a BFD session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hops {
    /// On the same link (RFC 5881).
    Single,
    /// Perhaps further (RFC 5883).
    Multi,
    /// `Single` where its address lies in a subnet of an interface of ours, else `Multi`.
    OnLink,
}

/// Peers that are not known before they dial in.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeConfig {
    /// From where.
    pub range: Prefix,
    /// How each is treated; `address` and `port` are replaced by those of the connection, and we never dial.
    pub peer: PeerConfig,
    /// Most peers at once.
    pub limit: usize,
}

/// Which AS numbers a peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAsn {
    /// Just this one.
    Number(u32),
    /// Our own.
    Internal,
    /// Any but our own.
    External,
    /// Any.
    Any,
}

/// Who opens the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// We dial at once.
    Dial,
    /// We listen, and dial only if nothing has come for this long (the higher address of two equal speakers); when we start,
    /// for a second at most.
    After(Duration),
    /// We never dial.
    Passive,
}

/// Time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Send with this TTL (1–255); accept any.
    Send(u8),
    /// GTSM (RFC 5082): send with 255, accept only what came over at most this many hops (1–254).
    Security(u8),
}

/// Session timers (RFC 4271 §10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// How long a dial may take, and the longest wait before the next: waits begin at one second and double up to this,
    /// with jitter.
    pub connect_retry: Duration,
    /// Hold time we propose, whole seconds: 0 or at least 3.
    pub hold: Duration,
    /// Keepalive interval; never more than a third of what was agreed.
    pub keepalive: Duration,
    /// Longest stay in Idle, where a peer is refused, after sessions that ended in errors: the stay begins at one second
    /// and doubles.
    pub idle_hold_max: Duration,
}

/// Add-path (RFC 7911).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddPath {
    /// Take several paths to one prefix.
    pub receive: bool,
    /// Send at most this many; 0: none beyond the best.
    pub send_max: u8,
}

/// Graceful restart as offered (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestartConfig {
    /// How long the peer should keep our routes, seconds (0–4095).
    pub restart_time: u16,
    /// Long-lived stale time, seconds (RFC 9494); 0: not offered.
    pub long_lived: u32,
    /// Offer the N bit (RFC 8538).
    pub notification: bool,
    /// This process follows an earlier one whose routes are still in the kernel: R and F bits (RFC 4724 §4.1).
    pub restarted: bool,
}

/// What stands as next hop in what we announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopMode {
    /// Ourselves to external peers and for what we originate; unchanged to internal ones.
    Auto,
    /// Always ourselves.
    SelfAddress,
    /// Unchanged, except for what we originate.
    Keep,
}

/// Our own addresses as a next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHopAddresses {
    /// For IPv4 prefixes.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 prefixes.
    pub v6: Option<Ipv6Addr>,
}

/// Maximum prefixes a peer may send, both families together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// 0: no limit.
    pub count: u32,
    /// What happens beyond it.
    pub action: OverLimit,
}

/// What happens beyond the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// It is said once.
    Warn,
    /// Cease/1 (RFC 4486), and we stay away for this long.
    Shutdown(Duration),
}

/// A prefix we originate.
#[derive(Clone, Debug, PartialEq)]
pub struct Origination {
    /// Where it comes from.
    pub source: Source,
    /// Who is told, by name (that of a range stands for all who came from it); `None`: all peers.
    pub peers: Option<BTreeSet<String>>,
    /// Its attributes beyond ORIGIN IGP, an empty AS_PATH and our own next hop.
    pub set: Set,
    /// Who is told too, or instead of that, with other attributes.
    pub others: Vec<(BTreeSet<String>, Set)>,
}

impl Origination {
    /// Every restriction to peers by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        self.peers
            .iter()
            .chain(self.others.iter().map(|(peers, _)| peers))
    }
}

/// Where a route comes from; what `origin` in a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Source {
    /// A pod CIDR of this node.
    PodCIDR,
    /// A service address.
    Service,
    /// A static prefix of a BGPAdvertisement.
    Static,
    /// A peer told us.
    Learned,
}

/// Ordered rules; the first that matches decides (unless its action is `Continue`).
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What `explain` calls it.
    pub name: String,
    /// The rules in order.
    pub rules: Vec<Rule>,
    /// What happens to what no rule decided.
    pub default: Verdict,
}

impl Policy {
    /// The policy that accepts (or rejects) all.
    #[must_use]
    pub fn always(name: &str, default: Verdict) -> Self {
        Self {
            name: name.into(),
            rules: Vec::new(),
            default,
        }
    }
}

/// The end of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The route goes on.
    Accept,
    /// It does not.
    Reject,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is for; all that is given must hold.
    pub matches: Match,
    /// What it changes.
    pub set: Set,
    /// `Some`: the verdict; `None`: the changes are kept and the next rule is asked (Continue).
    pub verdict: Option<Verdict>,
}

/// The conditions of a rule; an empty list or `None` matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// The prefix lies in one of these.
    pub prefixes: Vec<PrefixRange>,
    /// The family.
    pub family: Option<Family>,
    /// It carries any of these.
    pub communities: Vec<CommunityValue>,
    /// Its AS path, as numbers with one space between, is matched by this.
    pub as_path: Option<AsPathRegex>,
    /// Its next hop is any of these.
    pub next_hops: Vec<IpAddr>,
    /// Where it comes from.
    pub source: Option<Source>,
}

/// Prefixes inside `prefix` whose length is in the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixRange {
    /// The covering prefix.
    pub prefix: Prefix,
    /// Shortest length matched, bits.
    pub min_length: u8,
    /// Longest length matched, bits.
    pub max_length: u8,
}

/// A community of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityValue {
    /// RFC 1997.
    Standard(Community),
    /// RFC 8092.
    Large(LargeCommunity),
}

/// A compiled regular expression that knows its source, so that configurations can be compared.
#[derive(Clone, Debug)]
pub struct AsPathRegex(pub regex::Regex);

impl PartialEq for AsPathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// What a rule or an advertisement changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities to add.
    pub add_communities: Vec<CommunityValue>,
    /// Communities to remove.
    pub remove_communities: Vec<CommunityValue>,
    /// AS number to prepend (`None`: our own) and how often (0–255).
    pub prepend: (Option<u32>, u8),
    /// Next hop.
    pub next_hop: Option<IpAddr>,
}
