//! Whatever comes over the wire, the answer is the one that the RFCs name, and nobody else on the node notices.

mod faults;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::Lab;
use tests::byhand::{
    Heard, Open, Peer, Table, Update, capability, keepalive, kind, message, notification, numbered,
    read_update, refresh,
};
use tests::segment::Segment;
use tests::story::{Steady, at, peer};
use tests::wait::{eventually, now};

use faults::{FAULTS, Fault, Given, Outcome};

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const OUR_AS: u32 = 65_001;
const THEIR_AS: u32 = 65_009;
/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Everyone of 10.0.128.0/18 may dial in as an external peer, everyone of 10.0.208.0/20 as an internal one; the observer is
/// told all that is accepted, and BIRD is the neighbour that must not notice anything.
const MANIFEST: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 65001, topology: External}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: good}
spec: {peerAddress: 10.0.0.253, peerASN: 65253}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: observer}
spec: {peerAddress: 10.0.200.1, peerASN: 65200, passive: true, export: {rules: [{action: Accept}]}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: crowded}
spec: {peerAddress: 10.0.200.2, peerASN: 65202, passive: true}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: external}
spec: {peerRange: 10.0.128.0/18, peerASN: 65009, import: {rules: [{action: Accept}]}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: internal}
spec: {peerRange: 10.0.208.0/20, peerASN: Internal, import: {rules: [{action: Accept}]}}
";

const BIRD: &str = "
protocol bgp node1 {
	local 10.0.0.253 as 65253;
	neighbor 10.0.0.1 as 65001;
	connect delay time 1;
	ipv4 { import all; export none; };
}
";

/// Lets `tell` run beside a healthy session, which must have noticed nothing at the end.
fn unnoticed(name: &str, tell: impl FnOnce(&Lab) -> Result<()>) {
    let segment = Segment::named(name)
        .manifest("bgp.yaml", MANIFEST)
        .routelet(1)
        .bird("bird", 253, BIRD)
        .host("stranger", 100);
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        let neighbour = Steady::session(node1, "good")?;
        tell(lab)?;
        neighbour.holds()?;
        ensure!(lab.ended("node1")?.is_none(), "the daemon has ended");
        let said = lab.said("node1");
        ensure!(!said.contains("panicked"), "{said}");
        Ok(())
    });
}

/// Address number `number` of those that may dial in.
fn external(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, 128 | high, low)
}

fn internal(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, 208 | high, low)
}

/// An OPEN without hold time: what is slow here is the machine.
fn open(asn: u32, id: Ipv4Addr) -> Open {
    Open {
        hold: 0,
        ..Open::of(asn, id)
    }
}

fn dial(lab: &Lab, from: Ipv4Addr) -> Result<Peer> {
    Peer::dial(lab.node("stranger")?, from.into(), OURS)
}

/// A session that is up.
fn session(lab: &Lab, from: Ipv4Addr, asn: u32) -> Result<Peer> {
    let mut session = dial(lab, from)?;
    session.establish(&open(asn, from))?;
    Ok(session)
}

/// Ends a session in a way whose answer is known: an answer of its own shows that it was still up, and had read all before.
fn still_up(session: &mut Peer) -> Result<()> {
    session.send(&message(250, &[]))?;
    let answer = session.refusal()?;
    ensure!(
        answer == (1, 3, vec![250]),
        "the session was ended by {answer:?}"
    );
    Ok(())
}

/// The session to which node1 tells everything.
struct Observer {
    session: Peer,
    table: Table,
}

impl Observer {
    fn new(lab: &Lab) -> Result<Self> {
        Ok(Self {
            session: session(lab, Ipv4Addr::new(10, 0, 200, 1), 65_200)?,
            table: Table::default(),
        })
    }

    /// Listens until the mark of the prefix is `mark`.
    fn sees(&mut self, prefix: &[u8], mark: Option<u16>) -> Result<()> {
        let start = now();
        while self.table.mark(prefix) != mark {
            match self.session.hear(SOON.saturating_sub(start.elapsed()))? {
                Heard::Message {
                    kind: kind::UPDATE,
                    body,
                } => self.table.hear(&read_update(&body)?)?,
                Heard::Message {
                    kind: kind::KEEPALIVE,
                    ..
                } => {}
                other => anyhow::bail!(
                    "the observer's prefix has mark {:?} instead of {mark:?}, then {other:?}",
                    self.table.mark(prefix)
                ),
            }
        }
        Ok(())
    }
}

/// Plays one malformed UPDATE: the route is there first, then comes the fault.
fn play(lab: &Lab, observer: &mut Observer, number: u16, fault: &Fault) -> Result<()> {
    let prefix = numbered(u32::from(number), fault.ipv6);
    let (from, path, asn): (_, &[u32], _) = if fault.internal {
        (internal(number), &[], OUR_AS)
    } else {
        (external(number), &[THEIR_AS], THEIR_AS)
    };
    let given = Given {
        from,
        path,
        prefix: prefix.clone(),
        ipv6: fault.ipv6,
    };
    let mut session = session(lab, from, asn)?;
    session.send(&given.route(1).octets())?;
    observer.sees(&prefix, Some(1)).context("the good route")?;
    session.send(&(fault.make)(&given))?;
    match fault.outcome {
        Outcome::Withdrawn => observer.sees(&prefix, None)?,
        Outcome::Kept => observer.sees(&prefix, Some(2))?,
        Outcome::Unchanged => {}
        Outcome::Reset(code, subcodes) => {
            let (answered, subcode, data) = session.refusal()?;
            ensure!(
                answered == code && subcodes.contains(&subcode),
                "answered by {answered}/{subcode} {data:?}"
            );
        }
    }
    if !matches!(fault.outcome, Outcome::Reset(..)) {
        still_up(&mut session)?;
    }
    observer.sees(&prefix, None)
}

#[test]
fn a_malformed_update_costs_no_more_than_rfc_7606_says() {
    unnoticed("faults", |lab| {
        let mut observer = Observer::new(lab)?;
        let mut failed = Vec::new();
        for (number, fault) in (1..).zip(FAULTS) {
            if let Err(error) = play(lab, &mut observer, number, fault) {
                failed.push(format!("{}: {error:#}", fault.name));
                drop(observer);
                observer = eventually(SOON, "the observer is back", || Observer::new(lab))?;
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        println!("{} malformed UPDATEs, each answered rightly", FAULTS.len());
        Ok(())
    });
}

#[test]
fn a_malformed_header_or_open_is_refused_with_its_code() {
    unnoticed("opens", |lab| {
        let ours = |asn| open(asn, Ipv4Addr::new(9, 9, 9, 9));
        let good = ours(THEIR_AS);
        let with = |parameters: &[u8]| {
            Open {
                parameters: parameters.to_vec(),
                ..good.clone()
            }
            .octets()
        };
        let mut unmarked = good.octets();
        if let Some(octet) = unmarked.get_mut(15) {
            *octet = 0;
        }
        let lying = |length: u16, kind: u8, body: &[u8]| {
            let mut octets = message(kind, body);
            octets.splice(16..18, length.to_be_bytes());
            octets
        };
        let cases: Vec<(&str, Vec<u8>, u8, &[u8])> = vec![
            ("a marker with a zero", unmarked, 1, &[1]),
            ("length 18", lying(18, kind::OPEN, &[]), 1, &[2]),
            ("length 0", lying(0, kind::OPEN, &[]), 1, &[2]),
            (
                "an OPEN of 4,097 octets",
                message(kind::OPEN, &[0; 4078]),
                1,
                &[2],
            ),
            ("length 65,535", lying(65_535, kind::UPDATE, &[]), 1, &[2]),
            ("type 0", message(0, &[]), 1, &[3]),
            ("type 9", message(9, &[]), 1, &[3]),
            (
                "an OPEN of 3 octets",
                message(kind::OPEN, &[4, 0, 1]),
                1,
                &[2],
            ),
            (
                "version 3",
                Open {
                    version: 3,
                    ..good.clone()
                }
                .octets(),
                2,
                &[1],
            ),
            ("another AS", ours(65_008).octets(), 2, &[2]),
            ("AS 0", ours(0).octets(), 2, &[2]),
            (
                "router ID 0",
                Open {
                    id: Ipv4Addr::UNSPECIFIED,
                    ..good.clone()
                }
                .octets(),
                2,
                &[3],
            ),
            (
                "hold time 1",
                Open {
                    hold: 1,
                    ..good.clone()
                }
                .octets(),
                2,
                &[6],
            ),
            (
                "hold time 2",
                Open {
                    hold: 2,
                    ..good.clone()
                }
                .octets(),
                2,
                &[6],
            ),
            (
                "parameters beyond the end",
                with(&[10, 2, 0x20, 1]),
                2,
                &[0],
            ),
            (
                "a capability beyond its parameter",
                with(&[4, 2, 2, 1, 9]),
                2,
                &[0],
            ),
            ("an unknown parameter", with(&[3, 9, 1, 0]), 2, &[4]),
            (
                "a multiprotocol capability of 3 octets",
                with(&Open::parameters(&capability(1, &[0, 1, 1]))),
                2,
                &[0],
            ),
            (
                "an AS capability of 2 octets",
                with(&Open::parameters(&capability(65, &[0, 1]))),
                2,
                &[0],
            ),
            (
                "an AS capability that says otherwise",
                with(&Open::parameters(&capability(65, &[0, 0, 0xfd, 0xe7]))),
                2,
                &[2],
            ),
            (
                "no family in common",
                with(&Open::parameters(
                    &[
                        capability(1, &[0, 25, 0, 65]),
                        capability(65, &THEIR_AS.to_be_bytes()),
                    ]
                    .concat(),
                )),
                2,
                &[7],
            ),
            ("a KEEPALIVE before the OPEN", keepalive(), 5, &[1]),
            (
                "an UPDATE before the OPEN",
                Update::default().octets(),
                5,
                &[1],
            ),
            ("a ROUTE-REFRESH before the OPEN", refresh(1, 1), 5, &[1]),
            (
                "an UPDATE instead of a KEEPALIVE",
                [good.octets(), Update::default().octets()].concat(),
                5,
                &[2],
            ),
            (
                "a KEEPALIVE with a body",
                [good.octets(), message(kind::KEEPALIVE, &[0])].concat(),
                1,
                &[2],
            ),
            (
                "an OPEN when it is up",
                [good.octets(), keepalive(), good.octets()].concat(),
                5,
                &[3],
            ),
            (
                "a ROUTE-REFRESH of 3 octets",
                [
                    good.octets(),
                    keepalive(),
                    message(kind::REFRESH, &[0, 1, 0]),
                ]
                .concat(),
                1,
                &[2],
            ),
        ];
        let mut failed = Vec::new();
        for (number, (name, octets, code, subcodes)) in (1..).zip(&cases) {
            let answer = dial(lab, external(number)).and_then(|mut session| {
                session.send(octets)?;
                session.refusal()
            });
            match answer {
                Ok((answered, subcode, _)) if answered == *code && subcodes.contains(&subcode) => {}
                other => failed.push(format!("{name}: {other:?} instead of {code}/{subcodes:?}")),
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    });
}

#[test]
fn a_peer_in_pieces_or_in_silence_keeps_nobody_waiting() {
    unnoticed("pieces", |lab| {
        let stranger = lab.node("stranger")?;
        // Octet by octet.
        let from = external(1);
        let mut slow = dial(lab, from)?;
        for octet in open(THEIR_AS, from).octets() {
            slow.send(&[octet])?;
        }
        slow.await_kind(kind::OPEN)?;
        for octet in keepalive() {
            slow.send(&[octet])?;
        }
        slow.await_kind(kind::KEEPALIVE)?;
        still_up(&mut slow)?;
        // Two hundred sockets that say nothing, from the very address of a peer, and then that peer.
        let crowded = Ipv4Addr::new(10, 0, 200, 2);
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(Peer::dial(stranger, crowded.into(), OURS)?);
        }
        let start = now();
        let mut real = eventually(SOON, "the real one comes through", || {
            session(lab, crowded, 65_202)
        })?;
        println!(
            "up after {} ms behind 200 silent sockets",
            start.elapsed().as_millis()
        );
        drop(silent);
        // What it says last is not answered.
        real.send(&notification(6, 2, b"\x05hello"))?;
        match real.await_kind(kind::NOTIFICATION) {
            Ok(answer) => anyhow::bail!("a NOTIFICATION was answered by {answer:?}"),
            Err(_) => real.closed(SOON)?,
        }
        eventually(SOON, "the reason is shown", || {
            let told = peer(lab.node("node1")?, "crowded")?;
            let error = at(&told, "/lastError")?.to_string();
            ensure!(
                error.contains("Administrative Shutdown") && error.contains("hello"),
                "{error}"
            );
            Ok(())
        })?;
        // Nobody knows this one.
        let unknown = Ipv4Addr::new(10, 0, 250, 1);
        dial(lab, unknown)?.closed(SOON)
    });
}

/// Sessions of noise: each is over in some milliseconds.
const ROUNDS: u16 = 200;

#[test]
fn noise_ends_sessions_but_nothing_else() {
    unnoticed("noise", |lab| {
        let mut random = Random(20_261_123);
        let mut ended = 0;
        for round in 0..ROUNDS {
            let from = external(1 + round);
            let mut session = session(lab, from, THEIR_AS)?;
            let mut octets = [
                Update::announcing(&[THEIR_AS, 64_999], from)
                    .communities(&[(Table::MARK, 3)])
                    .prefixes(&numbered(u32::from(round), false))
                    .octets(),
                Update::announcing6(
                    &[THEIR_AS],
                    faults::HOST6,
                    &numbered(u32::from(round), true),
                )
                .octets(),
                refresh(1, 1),
                keepalive(),
            ]
            .concat();
            for _ in 0..=random.below(4) {
                let at = random.below(octets.len());
                if let Some(octet) = octets.get_mut(at) {
                    *octet = random.below(256) as u8;
                }
            }
            octets.truncate(octets.len() - random.below(octets.len()) / 4);
            // A lying length swallows what follows, but not so much. Where the session has ended already, nobody takes this.
            octets.extend([0; 5000]);
            let _ = session.send(&octets);
            ended += usize::from(session.refusal().is_ok());
        }
        println!("{ended} of {ROUNDS} sessions ended with a NOTIFICATION");
        ensure!(
            ended > usize::from(ROUNDS) / 2,
            "only {ended} sessions ended with a NOTIFICATION"
        );
        // All of it is forgotten with its sessions.
        eventually(SOON, "no route is left of all this", || {
            let dump = lab.node("node1")?.routelet(&["status"])?;
            let left = at(&dump, "/prefixes")?;
            let count: u64 = left
                .as_object()
                .context("prefixes")?
                .values()
                .filter_map(serde_json::Value::as_u64)
                .sum();
            ensure!(count <= 2, "{left}");
            Ok(())
        })
    });
}

/// A small deterministic generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most.max(1)
    }
}
