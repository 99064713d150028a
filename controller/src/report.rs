//! What the daemon says of itself: one set of structs for the tables and for JSON.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use bgp::{
    bfd::packet::State,
    prefix::{Family, Prefix},
    speaker::Direction,
    status::{
        CollectorStatus, FamilyCounts, MrtStatus, PeerStatus, RouteStatus, SessionState,
        SpeakerStatus,
    },
};
use serde::Serialize;

use crate::{
    audit::Audit,
    desired::{Desired, Duty},
    problem::{Problem, Reason},
};

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusReport {
    /// The node's name.
    pub(crate) node: String,
    /// Our version.
    pub(crate) version: &'static str,
    /// All is as it should be: what the exit code says.
    pub(crate) healthy: bool,
    /// … and if not, why, in words with what to do.
    pub(crate) problems: Vec<Problem>,
    /// AS number.
    pub(crate) asn: u32,
    /// BGP Identifier.
    pub(crate) router_id: Ipv4Addr,
    /// Addresses connections are accepted on.
    pub(crate) listen: Vec<SocketAddr>,
    /// Since when the process runs.
    pub(crate) started: SystemTime,
    /// Where the configuration comes from.
    pub(crate) configuration: String,
    /// When it was taken over last.
    pub(crate) loaded: SystemTime,
    /// What `drain` and `undrain` said last.
    pub(crate) duty: Duty,
    /// The Node is cordoned.
    pub(crate) cordoned: bool,
    /// All initial routes are in.
    pub(crate) complete: bool,
    /// When they first were, and the kernel in step with them.
    pub(crate) settled: Option<SystemTime>,
    /// Sessions in numbers.
    pub(crate) peers: PeerCounts,
    /// Routes by family, all sessions together.
    pub(crate) routes: BTreeMap<Family, FamilyCounts>,
    /// Prefixes with a usable route, by family.
    pub(crate) prefixes: BTreeMap<String, usize>,
    /// Distinct sets of path attributes in memory.
    pub(crate) attribute_sets: usize,
    /// What the kernel has; `None`: nothing is installed (`kernel.install: false`).
    pub(crate) kernel: Option<fib::Status>,
    /// The routes of the pod network against what the cluster says should be.
    pub(crate) audit: Audit,
    /// Who is told over BMP, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) collectors: BTreeMap<String, CollectorStatus>,
    /// What is written to MRT files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mrt: Option<MrtStatus>,
    /// Resident memory, KiB.
    pub(crate) memory_kib: u64,
}

/// Sessions in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerCounts {
    /// Configured or accepted.
    pub(crate) total: usize,
    /// … and up.
    pub(crate) established: usize,
    /// Nodes of the cluster among them.
    pub(crate) nodes: usize,
    /// … and up.
    pub(crate) nodes_established: usize,
    /// Up now or at some time since the start.
    pub(crate) ever_established: usize,
    /// Held down on purpose.
    pub(crate) shutdown: usize,
    /// Up, with settings that wait for the next session.
    pub(crate) waiting: usize,
}

/// `GET /v1/routes`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoutesReport {
    /// The routes, in order of their prefix.
    pub(crate) routes: Vec<RouteStatus>,
    /// There are more; `limit` cut them off.
    pub(crate) truncated: bool,
}

/// `GET /v1/fib`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FibReport {
    /// In numbers.
    pub(crate) status: fib::Status,
    /// Prefix by prefix.
    pub(crate) routes: Vec<fib::RouteStatus>,
    /// There are more; `limit` cut them off.
    pub(crate) truncated: bool,
}

/// `POST /v1/refresh`: one session.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefreshReport {
    /// Its name.
    pub(crate) peer: String,
    /// Its routes or ours.
    pub(crate) direction: Direction,
    /// The families of what is told once more.
    pub(crate) families: Vec<Family>,
    /// Why nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

/// `GET /v1/explain`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExplainReport {
    /// What was asked.
    pub(crate) query: Prefix,
    /// The answer in one sentence.
    pub(crate) verdict: String,
    /// Whether packets go where they should.
    pub(crate) healthy: bool,
    /// Whose pod CIDR it lies in.
    pub(crate) owner: Option<Owner>,
    /// What the speaker knows.
    pub(crate) speaker: Option<bgp::status::Explanation>,
    /// What the installer and the kernel make of it.
    pub(crate) kernel: Option<fib::Explanation>,
}

/// The node that owns a pod CIDR.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    /// Its name.
    pub(crate) node: String,
    /// The pod CIDR.
    pub(crate) cidr: Prefix,
    /// Its addresses: where a next hop should lead.
    pub(crate) addresses: Vec<IpAddr>,
    /// It is this node.
    pub(crate) here: bool,
}

/// `GET /v1/dump`: everything.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dump {
    /// As `status`.
    pub(crate) status: StatusReport,
    /// As `peers`.
    pub(crate) peers: Vec<PeerStatus>,
    /// All routes.
    pub(crate) routes: Vec<RouteStatus>,
    /// All prefixes of the installer.
    pub(crate) fib: Vec<fib::RouteStatus>,
    /// Interfaces.
    pub(crate) links: Vec<fib::Interface>,
    /// What this node should be.
    pub(crate) desired: serde_json::Value,
    /// As `events`.
    pub(crate) events: Vec<crate::journal::Entry>,
}

impl PeerCounts {
    /// Counts the sessions of a speaker.
    pub(crate) fn of(speaker: &SpeakerStatus, desired: &Desired) -> Self {
        let mut counts = Self::default();
        for peer in speaker.peers.values() {
            let up = usize::from(is_up(peer));
            counts.total += 1;
            counts.established += up;
            counts.ever_established += usize::from(peer.established_count > 0);
            counts.nodes += usize::from(peer.mesh);
            counts.nodes_established += if peer.mesh { up } else { 0 };
            counts.shutdown += usize::from(is_held_down(desired, &peer.name));
            let session = peer.session.as_ref();
            counts.waiting += usize::from(session.is_some_and(|one| !one.waiting.is_empty()));
        }
        counts
    }
}

/// Whether routes flow.
pub(crate) fn is_up(peer: &PeerStatus) -> bool {
    peer.state == SessionState::Established
}

/// Whether it is down on purpose.
pub(crate) fn is_held_down(desired: &Desired, peer: &str) -> bool {
    desired
        .speaker
        .peers
        .get(peer)
        .is_some_and(|config| config.shutdown.is_some())
}

/// Counts by family, all sessions together; End-of-RIB: seen from every peer.
pub(crate) fn sum(speaker: &SpeakerStatus) -> BTreeMap<Family, FamilyCounts> {
    let mut all: BTreeMap<Family, FamilyCounts> = BTreeMap::new();
    for (family, counts) in speaker.peers.values().flat_map(|peer| &peer.families) {
        let sum = all.entry(*family).or_insert(FamilyCounts {
            end_of_rib: true,
            ..FamilyCounts::default()
        });
        sum.received += counts.received;
        sum.accepted += counts.accepted;
        sum.stale += counts.stale;
        sum.refused_by_origin += counts.refused_by_origin;
        sum.looped += counts.looped;
        sum.advertised += counts.advertised;
        sum.end_of_rib &= counts.end_of_rib;
    }
    all
}

/// What is wrong beyond what the configuration says: sessions that are down, the speaker's and the kernel's own words.
pub(crate) fn troubles(
    speaker: &SpeakerStatus,
    kernel: Option<&fib::Status>,
    desired: &Desired,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(
        speaker
            .problems
            .iter()
            .map(|text| Problem::error("speaker", text).because(Reason::SpeakerProblem)),
    );
    problems.extend(
        kernel
            .into_iter()
            .flat_map(|kernel| &kernel.problems)
            .map(|text| Problem::error("kernel", text).because(Reason::KernelProblem)),
    );
    let nodes_up = speaker.peers.values().any(|peer| peer.mesh && is_up(peer));
    problems.extend(speaker.peers.values().filter_map(strays));
    problems.extend(speaker.peers.values().filter_map(unwatched));
    problems.extend(speaker.collectors.iter().filter_map(unreached));
    let files = speaker.mrt.iter();
    problems.extend(files.filter_map(|mrt| {
        let text = mrt.problem.as_ref()?;
        Some(Problem::warning("mrt", text).because(Reason::MonitoringProblem))
    }));
    for peer in speaker.peers.values() {
        if is_up(peer) || is_held_down(desired, &peer.name) {
            continue;
        }
        let mut text = format!("{:?}", peer.state);
        if let Some(error) = &peer.last_error {
            text.push_str(&format!(": {error}"));
        }
        if let Some(hint) = &peer.hint {
            text.push_str(&format!(" ({hint})"));
        }
        // A node that is away is everyday life in a cluster, unless it is all of them.
        let about = format!("peer {}", peer.name);
        let problem = if peer.mesh && nodes_up {
            Problem::warning(about, text)
        } else {
            Problem::error(about, text)
        };
        problems.push(problem.because(Reason::SessionDown));
    }
    problems
}

/// Addresses that connections are accepted on, once they are there: no interface of this node has them.
pub(crate) fn absent(listen: &[SocketAddr], links: &[fib::Interface]) -> Vec<Problem> {
    let here = |ip: IpAddr| {
        let mut addresses = links.iter().flat_map(|link| &link.addresses);
        ip.is_unspecified() || addresses.any(|address| address.ip() == ip)
    };
    let absent = listen.iter().filter(|address| !here(address.ip()));
    absent
        .map(|address| {
            Problem::warning(
                "speaker",
                format!("it listens on {address}, but no interface of this node has this address: nobody can dial it; correct the Node's InternalIP or the sourceAddress, or add the address"),
            )
        })
        .collect()
}

/// Pod CIDRs of this node inside the subnet of one of its interfaces: whoever is in that subnet looks for the pods there.
pub(crate) fn on_link(node: &str, desired: &Desired, links: &[fib::Interface]) -> Vec<Problem> {
    let own = desired.owners.iter().filter(|(_, owner)| *owner == node);
    let mut problems = Vec::new();
    for (cidr, _) in own {
        let pods = cidr.network();
        let holds = |subnet: &&ipnetwork::IpNetwork| {
            subnet.prefix() < pods.prefix() && subnet.contains(pods.network())
        };
        let found = links
            .iter()
            .find_map(|link| Some((link, link.addresses.iter().find(holds)?)));
        if let Some((link, address)) = found {
            problems.push(
                Problem::error(
                    format!("Node {node}"),
                    format!("its pod CIDR {cidr} lies in the subnet of {address} on {}: nodes of that subnet look for these pods there and take no route to them; pods and nodes need separate ranges", link.name),
                )
                .because(Reason::PodCidrConflict),
            );
        }
    }
    problems
}

/// A peer whose routes would lead pods of other nodes astray.
fn strays(peer: &PeerStatus) -> Option<Problem> {
    let families = peer.families.values();
    let refused: usize = families.map(|counts| counts.refused_by_origin).sum();
    (refused > 0).then(|| {
        Problem::warning(
            format!("peer {}", peer.name),
            format!("{refused} of its routes are refused by the origin check, for they would lead packets for a node's pods elsewhere: routelet routes received {} says which; look at what it announces", peer.name),
        ).because(Reason::OriginRefused)
    })
}

/// A collector that restarts is back within so long.
const COLLECTOR_PATIENCE: Duration = Duration::from_secs(60);

/// A collector that has been away for long.
fn unreached((name, collector): (&String, &CollectorStatus)) -> Option<Problem> {
    let lasts = SystemTime::now()
        .duration_since(collector.since)
        .is_ok_and(|time| time >= COLLECTOR_PATIENCE);
    if collector.connected || !lasts {
        return None;
    }
    let why = collector.last_error.as_deref().unwrap_or("no answer yet");
    let text = format!(
        "no connection to {} since {}: {why}; is it running, and does it listen there for BMP?",
        collector.address,
        rfc3339(collector.since)
    );
    Some(Problem::warning(format!("collector {name}"), text).because(Reason::MonitoringProblem))
}

/// BFD comes up within seconds of its session; only then is its absence news.
const BFD_PATIENCE: Duration = Duration::from_secs(10);

/// A session that is up while BFD is not.
fn unwatched(peer: &PeerStatus) -> Option<Problem> {
    let bfd = peer.bfd.as_ref()?;
    let since = bfd.since.max(peer.since);
    let lasts = SystemTime::now()
        .duration_since(since)
        .is_ok_and(|time| time >= BFD_PATIENCE);
    if bfd.state == State::Up || !is_up(peer) || !lasts {
        return None;
    }
    let mut text = match (&bfd.problem, &bfd.remote, &bfd.last_down) {
        (Some(problem), _, _) => format!("BFD does not work: {problem}"),
        (None, Some(remote), _) if remote.state == State::AdminDown => {
            "BFD is taken down by an operator on its side".into()
        }
        (None, Some(remote), _) => format!(
            "BFD is {:?} here and {:?} there: packets arrive here, but ours may not arrive there",
            bfd.state, remote.state
        ),
        (None, None, Some(down)) => {
            format!("BFD is down: {down}; is it still configured on its side?")
        }
        (None, None, None) => {
            "BFD is never answered: is it configured on its side, single hop or multihop as here?"
                .into()
        }
    };
    if let Some((why, count)) = bfd.discarded.iter().max_by_key(|(_, count)| **count) {
        text.push_str(&format!(" {count} of its packets were thrown away: {why}."));
    }
    text.push_str(" Until BFD is up a silent loss shows when the hold time ends");
    Some(Problem::warning(format!("peer {}", peer.name), text).because(Reason::BfdNotUp))
}

/// A length of time in its two largest units: `3d4h`, `5m12s`, `0.2s`.
pub(crate) fn age(since: SystemTime) -> String {
    let age = SystemTime::now()
        .duration_since(since)
        .unwrap_or(Duration::ZERO);
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{:.1}s", age.as_secs_f32()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// A point in time as RFC 3339, UTC, whole seconds.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| "?".into(), |at| format!("{at:.3}"))
}

/// A report as JSON. Points in time become RFC 3339 text, which says more than serde's seconds and nanoseconds.
///
/// # Errors
/// When a value cannot be said in JSON.
pub(crate) fn json<T: Serialize>(report: &T) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(report)?;
    readable_times(&mut value);
    Ok(value)
}

fn readable_times(value: &mut serde_json::Value) {
    use serde_json::Value;
    if let Value::Object(map) = value {
        let (seconds, nanos) = (map.get("secs_since_epoch"), map.get("nanos_since_epoch"));
        if let (2, Some(Value::Number(seconds)), Some(Value::Number(nanos))) =
            (map.len(), seconds, nanos)
        {
            let since = Duration::new(
                seconds.as_u64().unwrap_or_default(),
                u32::try_from(nanos.as_u64().unwrap_or_default()).unwrap_or_default(),
            );
            let at = SystemTime::UNIX_EPOCH.checked_add(since);
            *value = at.map(rfc3339).into();
            return;
        }
        map.values_mut().for_each(readable_times);
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(readable_times);
    }
}

/// Resident memory of this process, KiB.
pub(crate) fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_readable_in_json() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let value = json(&serde_json::json!({"a": [{"at": at}], "secs_since_epoch": 5})).unwrap();
        assert_eq!(value["a"][0]["at"], "2023-11-14T22:13:20.250Z");
        assert_eq!(value["secs_since_epoch"], 5);
    }

    #[test]
    fn an_address_that_no_interface_has_is_told_of() {
        let links = [fib::Interface {
            index: 2,
            name: "eth0".into(),
            up: true,
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
            peers: Vec::new(),
        }];
        let listen: Vec<SocketAddr> = ["10.0.0.1:179", "[::]:179", "10.0.0.99:179"]
            .map(|address| address.parse().unwrap())
            .into();
        let problems = absent(&listen, &links);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].text.contains("10.0.0.99:179"), "{problems:?}");
    }

    #[test]
    fn a_pod_cidr_among_the_neighbours_of_the_node_is_told_of() {
        let object = "apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.0.7.0/24, \"fd00:10:244:1::/64\"]}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
";
        let mut cluster = crate::cluster::Cluster::default();
        let path = std::path::Path::new("n1.yaml");
        crate::cluster::files::add_file(path, object, &mut cluster, &mut Vec::new());
        let desired = crate::desired::desired(&cluster, "n1", &Default::default());
        let link = |name: &str, addresses: &[&str]| fib::Interface {
            index: 2,
            name: name.into(),
            up: true,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            peers: Vec::new(),
        };
        let bridge = link("cni0", &["10.0.7.1/24", "fd00:10:244:1::1/64"]);
        assert_eq!(on_link("n1", &desired, std::slice::from_ref(&bridge)), []);
        let wide = link("eth0", &["10.0.0.1/16", "fd00:10::1/64"]);
        let problems = on_link("n1", &desired, &[bridge, wide]);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].text.contains("10.0.0.1/16 on eth0"),
            "{problems:?}"
        );
    }

    #[test]
    fn an_age_has_two_units() {
        let ago = |seconds| age(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!(ago(3), "3.0s");
        assert_eq!(ago(42), "42s");
        assert_eq!(ago(312), "5m12s");
        assert_eq!(ago(3 * 3600 + 61), "3h1m");
        assert_eq!(ago(26 * 3600), "1d2h");
    }
}
