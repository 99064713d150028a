//! Which lost probes a fault explains, and which nobody does.
//!
//! A fault that touches the way of packets explains what was lost within its bound. What changes nothing but what daemons know or
//! say explains nothing: a restart, a clock, a configuration. Where a second fault that touches the way of packets, or the absence of a
//! daemon, befalls the same flow before the first is over and recovered from, there need not have been a live path. And what a ToR led into
//! the void while it had no route is its own doing, where it had cause to look for another way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fabric::{BFD_EVERY, HOLD, Tor, WITH_BFD};
use super::fault::Happened;
use super::hole::Hole;
use super::probe::{EVERY, Flow, Record};
use super::schedule::Fault;

/// How long a link without carrier may cost packets: the far side, FRR or BIRD, needs its time too.
const CARRIER: Duration = Duration::from_millis(1000);
/// How long a silent one may, where BFD watches it.
const BFD: Duration = Duration::from_millis(3 * BFD_EVERY + 500);
/// … and where only the hold time ends the session.
const SILENT: Duration = Duration::from_millis(1000 * HOLD + 1000);
/// What is on its way when something ends.
const AFTER: Duration = Duration::from_millis(200);
/// Until a route that someone took from us stands again.
const PUT_BACK: Duration = Duration::from_millis(500);
/// So often it is put back at once; then with growing delay, from the first to the last.
const PUT_BACK_AT_ONCE: usize = 3;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// How long it counts as one fight.
const FIGHT: Duration = Duration::from_secs(45);
/// Until a session is back after what ended it is over.
const SESSION: Duration = Duration::from_secs(15);
/// Until a daemon that was started has all routes.
const START: Duration = Duration::from_secs(20);
/// The machine's share: how much later, as a multiple of how late a process that only sleeps was run.
const LATENESS: u32 = 4;

/// Whether packets may meet it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touches {
    /// It takes a way from packets, or may.
    Packets,
    /// It has ToRs choose another way.
    Choice,
    /// Nobody is there who could answer another fault.
    Absence,
    /// None of it.
    Nothing,
}

/// Whose packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// From a node or to it.
    Both(u8),
    /// From a node.
    From(u8),
    /// To a node.
    To(u8),
    /// To a node, in IPv6.
    ToIPv6(u8),
}

impl Scope {
    fn covers(self, flow: Flow) -> bool {
        match self {
            Self::All => true,
            Self::Both(node) => flow.from == node || flow.to == node,
            Self::From(node) => flow.from == node,
            Self::To(node) => flow.to == node,
            Self::ToIPv6(node) => flow.to == node && flow.ipv6,
        }
    }
}

/// What a fault means for flows.
#[derive(Debug)]
struct Impairment<'a> {
    happened: &'a Happened,
    touches: Touches,
    scope: Scope,
    /// What is lost before this is explained by it alone.
    bound: Option<Instant>,
    /// It is over and recovered from.
    over: Instant,
}

/// What became of the probes of a round.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Probes sent.
    pub sent: usize,
    /// … of which nothing would explain the loss.
    pub strict: usize,
    /// Lost ones.
    pub lost: usize,
    /// … of them to holes in the table of a ToR.
    pub holes: usize,
    /// … where faults met.
    pub several: usize,
    /// By kind of fault: how many flows lost something to it, and for how long after its beginning at worst.
    pub worst: BTreeMap<&'static str, (usize, Duration)>,
    /// What nothing explains, in words.
    pub unexplained: Vec<String>,
}

/// Judges the probes of a round in which this happened, and the ToRs had these holes.
#[must_use]
pub fn judge(happened: &[Happened], holes: &[Hole], record: &Record) -> Verdict {
    let whole = happened.iter().map(|one| impairment(one, happened, record));
    let of_tors = happened.iter().filter_map(of_tors);
    let impairments: Vec<_> = whole.chain(of_tors).collect();
    let mut verdict = Verdict::default();
    for (flow, arrived) in &record.flows {
        let on_it: Vec<_> = impairments
            .iter()
            .filter(|one| one.scope.covers(*flow))
            .collect();
        let mut unexplained: Option<(usize, usize)> = None;
        let mut hit: BTreeMap<&'static str, Duration> = BTreeMap::new();
        for (number, (tick, arrived)) in record.ticks.iter().zip(arrived).enumerate() {
            verdict.sent += 1;
            let why = explanation(&on_it, holes, *flow, *tick);
            verdict.strict += usize::from(why.is_none());
            if *arrived {
                continue;
            }
            verdict.lost += 1;
            match why {
                Some(Explanation::Bound(one)) => {
                    let since = tick.saturating_duration_since(one.happened.begun.from);
                    let worst = hit.entry(one.happened.fault.kind()).or_default();
                    *worst = (*worst).max(since);
                }
                Some(Explanation::Hole) => verdict.holes += 1,
                Some(Explanation::Several) => verdict.several += 1,
                None => {
                    let first = unexplained.map_or(number, |(first, _)| first);
                    unexplained = Some((first, unexplained.map_or(0, |(_, count)| count) + 1));
                }
            }
        }
        for (kind, longest) in hit {
            let worst = verdict.worst.entry(kind).or_default();
            *worst = (worst.0 + 1, worst.1.max(longest));
        }
        if let Some((first, count)) = unexplained {
            verdict
                .unexplained
                .push(in_words(*flow, first, count, record, &on_it));
        }
    }
    verdict
}

enum Explanation<'a> {
    Bound(&'a Impairment<'a>),
    Hole,
    Several,
}

fn explanation<'a>(
    on_it: &[&'a Impairment<'a>],
    holes: &[Hole],
    flow: Flow,
    tick: Instant,
) -> Option<Explanation<'a>> {
    // A probe sent just before is on its way when it happens.
    let begun = |one: &Impairment<'_>| one.happened.begun.from <= tick + EVERY;
    let bound = on_it
        .iter()
        .filter(|one| begun(one) && one.bound.is_some_and(|until| tick <= until))
        .max_by_key(|one| one.happened.begun.from)
        .copied();
    if let Some(one) = bound {
        return Some(Explanation::Bound(one));
    }
    let now: Vec<_> = on_it
        .iter()
        .filter(|one| begun(one) && tick <= one.over)
        .collect();
    let has_cause = now
        .iter()
        .any(|one| matches!(one.touches, Touches::Packets | Touches::Choice));
    let met = |hole: &Hole| hole.explains(flow.to, flow.ipv6, tick);
    if has_cause && holes.iter().any(met) {
        return Some(Explanation::Hole);
    }
    let count = |touches| now.iter().filter(|one| one.touches == touches).count();
    let packets = count(Touches::Packets);
    let several = packets > 0 && packets + count(Touches::Absence) > 1;
    several.then_some(Explanation::Several)
}

fn impairment<'a>(happened: &'a Happened, all: &[Happened], record: &Record) -> Impairment<'a> {
    use Scope::{All, Both, From};
    use Touches::{Absence, Choice, Nothing, Packets};
    let (begun, ended) = (happened.begun, happened.ended);
    let after = |bound: Duration| Some(begun.until + bound);
    let (touches, scope, bound, recovery) = match &happened.fault {
        Fault::CutAtNode(node, _) | Fault::CutAtTor(node, _) => {
            (Packets, Both(*node), after(CARRIER), SESSION)
        }
        Fault::Silence(node, _) => {
            let bound = if *node <= WITH_BFD { BFD } else { SILENT };
            let until = (begun.until + bound).min(ended.until + AFTER);
            (Packets, Both(*node), Some(until), SESSION)
        }
        Fault::Loss(node, ..) => (Packets, Both(*node), Some(ended.until + AFTER), SESSION),
        Fault::BgpLoss(node, ..) => (Packets, Both(*node), None, SESSION),
        Fault::RestartTor(..) => (Packets, All, None, START),
        Fault::DeleteRoute(node, _) | Fault::FlushRoutes(node) | Fault::DeleteObject(node) => {
            let bound = put_back(*node, happened, all);
            (Packets, From(*node), after(bound), bound)
        }
        Fault::Occupy(node, _) => {
            let bound = put_back(*node, happened, all);
            (Packets, From(*node), Some(ended.until + bound), bound)
        }
        Fault::Pause(node) if *node <= WITH_BFD => {
            // Both ToRs take it for dead.
            let until = ended.until + SESSION;
            (Packets, Both(*node), Some(until), SESSION)
        }
        Fault::RemovePeer(node, ..) => (Packets, Both(*node), None, SESSION),
        Fault::Restart(node, _) => (Absence, Both(*node), None, START),
        Fault::Pause(node) => (Absence, Both(*node), None, AFTER),
        Fault::Clock(node, _)
        | Fault::FlushNeighbours(node)
        | Fault::Foreign(node)
        | Fault::Prefer(node, ..)
        | Fault::Advertise(node)
        | Fault::Hangup(node) => (Nothing, Both(*node), None, AFTER),
        Fault::Prepend(node, ..) => (Choice, Both(*node), None, AFTER * 5),
        Fault::HoldTime(_) | Fault::InvalidFile => (Nothing, All, None, AFTER),
    };
    let late = |until: Instant| until + record.lateness(begun.from, until) * LATENESS;
    Impairment {
        happened,
        touches,
        scope,
        bound: bound.map(late),
        over: late(ended.until + recovery),
    }
}

/// What the ToRs themselves lead into the void.
fn of_tors(happened: &Happened) -> Option<Impairment<'_>> {
    let (scope, until) = match happened.fault {
        // BIRD with `bfd graceful`, which our restarts need, keeps the routes of whoever falls silent, too.
        Fault::Silence(node, Tor::Bird) if node <= WITH_BFD => {
            (Scope::To(node), happened.ended.until + AFTER)
        }
        // FRR leads IPv6 packets by the link-local address of the node, once its session is back: before that has resolved.
        Fault::CutAtNode(node, Tor::Frr) | Fault::CutAtTor(node, Tor::Frr) => {
            (Scope::ToIPv6(node), happened.ended.until + SESSION)
        }
        _ => return None,
    };
    Some(Impairment {
        happened,
        touches: Touches::Nothing,
        scope,
        bound: Some(until),
        over: until,
    })
}

/// How long it may take to put a route back: the longer the more often it was taken before.
fn put_back(node: u8, happened: &Happened, all: &[Happened]) -> Duration {
    let takes = |one: &&Happened| {
        let from = match &one.fault {
            Fault::DeleteRoute(from, _)
            | Fault::FlushRoutes(from)
            | Fault::DeleteObject(from)
            | Fault::Occupy(from, _) => *from,
            _ => return false,
        };
        let (earlier, this) = (one.begun.from, happened.begun.from);
        from == node && earlier < this && this.duration_since(earlier) < FIGHT
    };
    // A route that is replaced and given back is taken twice.
    let times = 2 * all.iter().filter(takes).count() + 1;
    let delay = match times.checked_sub(PUT_BACK_AT_ONCE + 1) {
        Some(beyond) => FIRST_DELAY
            .saturating_mul(1 << beyond.min(8))
            .min(LAST_DELAY),
        None => Duration::ZERO,
    };
    PUT_BACK + delay
}

fn in_words(
    flow: Flow,
    first: usize,
    count: usize,
    record: &Record,
    on_it: &[&Impairment<'_>],
) -> String {
    let start = record.ticks.first().copied();
    let at = record.ticks.get(first).copied();
    let (Some(start), Some(at)) = (start, at) else {
        return String::new();
    };
    let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64();
    let mut text = format!(
        "node{} -> node{} (IPv{}, flow {}): {count} lost, the first at {:.2} s",
        flow.from,
        flow.to,
        if flow.ipv6 { 6 } else { 4 },
        flow.lane,
        seconds(at)
    );
    let near =
        |one: &&&Impairment<'_>| one.happened.begun.from <= at + EVERY && at <= one.over + SESSION;
    for one in on_it.iter().filter(near) {
        text += &format!(
            "\n      {} from {:.2} to {:.2} s, recovered by {:.2} s",
            one.happened.fault,
            seconds(one.happened.begun.from),
            seconds(one.happened.ended.until),
            seconds(one.over)
        );
    }
    text
}
