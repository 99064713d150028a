//! What happens when: a seed's faults, in the order of their beginnings. Nothing here looks at a clock or a lab.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::fabric::{MORE, NODES, Tor, more, pods};

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Term,
}

/// Something that goes wrong, or is done to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A routelet ends, and is started again.
    Restart(u8, End),
    /// A routelet gets no turn (SIGSTOP, SIGCONT).
    Pause(u8),
    /// The wall clock of a routelet jumps by so many seconds, and back.
    Clock(u8, i64),
    /// A link is taken down at the node's end.
    CutAtNode(u8, Tor),
    /// A link is taken down at the ToR's end.
    CutAtTor(u8, Tor),
    /// A link drops everything, and is up.
    Silence(u8, Tor),
    /// A link drops so many packets of a hundred.
    Loss(u8, Tor, u8),
    /// A link drops so many segments of a hundred of BGP's.
    BgpLoss(u8, Tor, u8),
    /// The routing daemon of a ToR ends, and is started again.
    RestartTor(Tor, End),
    /// Someone removes a route of ours.
    DeleteRoute(u8, String),
    /// Someone removes all routes of ours.
    FlushRoutes(u8),
    /// Someone removes a next-hop object of ours.
    DeleteObject(u8),
    /// Someone puts a route of theirs in the place of ours, and takes it away again.
    Occupy(u8, String),
    /// Someone removes all neighbour entries.
    FlushNeighbours(u8),
    /// Someone adds a route and a next-hop object beside ours, and takes them away again.
    Foreign(u8),
    /// A session is taken out of the configuration, and put back.
    RemovePeer(u8, Tor, bool),
    /// A session announces with a longer AS path.
    Prepend(u8, Tor, bool),
    /// A session prefers what it hears.
    Prefer(u8, Tor, bool),
    /// All sessions have another hold time configured.
    HoldTime(u64),
    /// A node announces a prefix more.
    Advertise(u8),
    /// A routelet is told to read its configuration.
    Hangup(u8),
    /// A file that is no manifest lies among them.
    InvalidFile,
}

impl Fault {
    /// What kind it is of.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Restart(_, End::Kill) => "routelet killed",
            Self::Restart(_, End::Term) => "routelet stopped",
            Self::Pause(_) => "routelet paused",
            Self::Clock(..) => "clock jump",
            Self::CutAtNode(..) => "link down at the node",
            Self::CutAtTor(..) => "link down at the ToR",
            Self::Silence(..) => "link silent",
            Self::Loss(..) => "packets lost",
            Self::BgpLoss(..) => "segments of BGP lost",
            Self::RestartTor(Tor::Frr, End::Kill) => "bgpd killed",
            Self::RestartTor(Tor::Frr, End::Term) => "bgpd stopped",
            Self::RestartTor(Tor::Bird, End::Kill) => "BIRD killed",
            Self::RestartTor(Tor::Bird, End::Term) => "BIRD stopped",
            Self::DeleteRoute(..) => "route deleted",
            Self::FlushRoutes(_) => "routes flushed",
            Self::DeleteObject(_) => "next-hop object deleted",
            Self::Occupy(..) => "route replaced by a foreign one",
            Self::FlushNeighbours(_) => "neighbours flushed",
            Self::Foreign(_) => "foreign route and object",
            Self::RemovePeer(..) => "peer removed",
            Self::Prepend(..) => "export policy",
            Self::Prefer(..) => "import policy",
            Self::HoldTime(_) => "hold time changed",
            Self::Advertise(_) => "prefix advertised",
            Self::Hangup(_) => "SIGHUP",
            Self::InvalidFile => "invalid file",
        }
    }

    /// What it lays hands on: no two at the same time.
    fn claims(&self) -> Vec<String> {
        match self {
            Self::Restart(node, _)
            | Self::Pause(node)
            | Self::DeleteRoute(node, _)
            | Self::FlushRoutes(node)
            | Self::DeleteObject(node)
            | Self::Occupy(node, _)
            | Self::Hangup(node) => vec![format!("daemon {node}")],
            Self::Clock(node, _) => vec![format!("clock {node}")],
            Self::CutAtNode(node, tor)
            | Self::CutAtTor(node, tor)
            | Self::Silence(node, tor)
            | Self::Loss(node, tor, _)
            | Self::BgpLoss(node, tor, _) => vec![format!("link {node} {tor:?}")],
            Self::RestartTor(tor, _) => vec![format!("{tor:?}")],
            Self::FlushNeighbours(node) => vec![format!("neighbours {node}")],
            Self::Foreign(node) => vec![format!("foreign {node}")],
            Self::RemovePeer(node, tor, ipv6)
            | Self::Prepend(node, tor, ipv6)
            | Self::Prefer(node, tor, ipv6) => vec![format!("peer {node} {tor:?} {ipv6}")],
            Self::HoldTime(_) => vec!["configuration".into()],
            Self::Advertise(node) => vec![format!("advertisement {node}")],
            // Without a configuration none starts, as with FRR and BIRD.
            Self::InvalidFile => (1..=NODES).map(|node| format!("daemon {node}")).collect(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self:?})", self.kind())
    }
}

/// One fault and its time, counted from the beginning of its round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When it begins.
    pub at: Duration,
    /// When it is undone, after that.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// The faults of a round of that length; all are over when it ends.
#[must_use]
pub fn schedule(seed: u64, length: Duration) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let (mut steps, mut now) = (Vec::new(), 0);
    let mut busy: BTreeMap<String, u64> = BTreeMap::new();
    let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    loop {
        now += rng.u64(300..3000);
        let (fault, lasts) = draw(&mut rng);
        let (claims, over) = (fault.claims(), now + lasts);
        if now >= length {
            return steps;
        }
        let free = |claim: &String| busy.get(claim).is_none_or(|until| *until < now);
        if over > length || !claims.iter().all(free) {
            continue;
        }
        for claim in claims {
            busy.insert(claim, over + 500);
        }
        steps.push(Step {
            at: Duration::from_millis(now),
            lasts: Duration::from_millis(lasts),
            fault,
        });
    }
}

/// One fault, and for how many milliseconds.
fn draw(rng: &mut Rng) -> (Fault, u64) {
    let node = rng.u8(1..=NODES);
    let tor = if rng.bool() { Tor::Frr } else { Tor::Bird };
    let ipv6 = rng.bool();
    let end = if rng.bool() { End::Kill } else { End::Term };
    let other = 1 + (node + rng.u8(0..NODES - 1)) % NODES;
    match rng.u8(0..100) {
        0..16 => (Fault::Restart(node, end), rng.u64(0..3000)),
        16..22 => (Fault::Pause(node), rng.u64(100..3000)),
        22..28 => {
            let jump = rng.choice([3600, -3600, 86_400, -86_400, 5, -5]);
            let clock = Fault::Clock(node, jump.unwrap_or(3600));
            (clock, rng.u64(1000..10_000))
        }
        28..33 => (Fault::CutAtNode(node, tor), rng.u64(100..8000)),
        33..38 => (Fault::CutAtTor(node, tor), rng.u64(100..8000)),
        38..43 => (Fault::Silence(node, tor), rng.u64(500..15_000)),
        43..46 => (Fault::Loss(node, tor, rng.u8(5..60)), rng.u64(1000..10_000)),
        46..51 => (
            Fault::BgpLoss(node, tor, rng.u8(20..=100)),
            rng.u64(1000..20_000),
        ),
        51..56 => (Fault::RestartTor(tor, end), rng.u64(0..2000)),
        56..63 => {
            let prefix = if rng.u8(0..4) == 0 {
                more(rng.u16(0..MORE))
            } else {
                pods(other, ipv6)
            };
            (Fault::DeleteRoute(node, prefix), 0)
        }
        63..65 => (Fault::FlushRoutes(node), 0),
        65..68 => (Fault::DeleteObject(node), 0),
        68..71 => (Fault::FlushNeighbours(node), 0),
        71..74 => (Fault::Foreign(node), rng.u64(500..10_000)),
        74..76 => (Fault::Occupy(node, pods(other, false)), rng.u64(100..3000)),
        76..80 => (Fault::RemovePeer(node, tor, ipv6), rng.u64(500..8000)),
        80..84 => (Fault::Prepend(node, tor, ipv6), rng.u64(500..10_000)),
        84..88 => (Fault::Prefer(node, tor, ipv6), rng.u64(500..10_000)),
        88..90 => (Fault::HoldTime(rng.u64(10..30)), rng.u64(1000..2000)),
        90..94 => (Fault::Advertise(node), rng.u64(500..10_000)),
        94..98 => (Fault::Hangup(node), 0),
        _ => (Fault::InvalidFile, rng.u64(500..8000)),
    }
}

/// The kinds among `steps`, with how often each comes.
#[must_use]
pub fn kinds(steps: &[Step]) -> BTreeMap<&'static str, usize> {
    let mut all = BTreeMap::new();
    for step in steps {
        *all.entry(step.fault.kind()).or_default() += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{kinds, schedule};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(schedule(7, HOUR), schedule(7, HOUR));
        assert_ne!(schedule(7, HOUR), schedule(8, HOUR));
    }

    #[test]
    fn every_kind_comes_and_all_is_over_at_the_end() {
        let steps = schedule(1, HOUR);
        assert_eq!(kinds(&steps).len(), 26, "{:?}", kinds(&steps));
        assert!(steps.iter().all(|step| step.at + step.lasts <= HOUR));
        assert!(steps.is_sorted_by_key(|step| step.at));
    }

    #[test]
    fn nothing_is_laid_hands_on_twice_at_a_time() {
        let steps = schedule(3, HOUR);
        for (number, step) in steps.iter().enumerate() {
            let later = steps.iter().skip(number + 1);
            for other in later.take_while(|other| other.at <= step.at + step.lasts) {
                let claims = other.fault.claims();
                assert!(
                    !step
                        .fault
                        .claims()
                        .iter()
                        .any(|claim| claims.contains(claim)),
                    "{step:?} and {other:?}"
                );
            }
        }
    }
}
