//! A hundred thousand routes of each family from BIRD and by FRR: learned, installed, withdrawn, and the kernel's count exact.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::Lab;
use tests::byhand::{Bulk, Open, Peer, Table, numbered_name};
use tests::segment::Segment;
use tests::story::{at, is_up};
use tests::wait::{eventually, now};

const MANY: u32 = 100_000;
const MORE: u32 = 500_000;
const TIME: Duration = Duration::from_secs(120);

/// node1 takes whatever its one peer says.
fn manifest(address: &str, asn: u32, most: u32) -> String {
    format!(
        "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {{name: default}}
spec:
  asNumber: 65001
  topology: External
  kernel:
    allowedPrefixes:
    - {{cidr: 20.0.0.0/6, minLength: 24, maxLength: 24}}
    - {{cidr: 24.0.0.0/6, minLength: 24, maxLength: 24}}
    - {{cidr: \"2001:db8::/32\", minLength: 64, maxLength: 64}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {{name: peer}}
spec: {{peerAddress: {address}, peerASN: {asn}, maxPrefixes: {{count: {most}}}, import: {{rules: [{{action: Accept}}]}}}}
"
    )
}

/// node1's kernel has exactly so many of the routes of each family, all of them by `gateways`, and routelet says so too.
fn exactly(lab: &Lab, four: u32, six: u32, gateways: [&str; 2]) -> Result<()> {
    let node1 = lab.node("node1")?;
    for (family, count, start, gateway) in [
        ("-4", four, "^2[0-9]\\.", gateways[0]),
        ("-6", six, "^2001:db8:", gateways[1]),
    ] {
        // An IPv6 route through a next-hop object shows what that holds on a line of its own.
        let shown = node1.sh(&format!(
            "ip {family} route show table main proto 179 | \
             awk '/^[^ \\t]/ {{ ours = $1 ~ /{start}/; all += ours }} \
             ours && / via {gateway} dev eth1 / {{ right++ }} END {{ print all + 0, right + 0 }}'"
        ))?;
        ensure!(
            shown.trim() == format!("{count} {count}"),
            "{family}: all and by {gateway}: {} of {count}",
            shown.trim()
        );
    }
    let fib = node1.routelet(&["status"])?;
    for (family, count) in [("ipv4", four), ("ipv6", six)] {
        let installed = at(&fib, &format!("/kernel/{family}/installed"))?.as_u64();
        ensure!(
            installed == Some(u64::from(count)),
            "routelet says {installed:?} of {count} in {family}"
        );
    }
    Ok(())
}

/// The routes come, and go again.
fn come_and_go(
    lab: &Lab,
    count: [u32; 2],
    gateways: [&str; 2],
    announce: impl FnOnce() -> Result<()>,
    withdraw: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let [four, six] = count;
    let start = now();
    announce()?;
    eventually(TIME, "the kernel has all of them", || {
        exactly(lab, four, six, gateways)
    })?;
    println!(
        "{four} + {six} routes in the kernel after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let start = now();
    withdraw()?;
    eventually(TIME, "the kernel has dropped all of them", || {
        exactly(lab, 0, 0, gateways)
    })?;
    println!("gone after {:.1} s", start.elapsed().as_secs_f64());
    let (code, said) = (lab.ended("node1")?, lab.said("node1"));
    ensure!(code.is_none(), "the daemon has ended: {said}");
    Ok(())
}

#[test]
fn a_hundred_thousand_of_each_family_from_bird() {
    let mut bird = String::from("protocol direct { ipv4; ipv6; }\n");
    for (family, ipv6) in [("ipv4", false), ("ipv6", true)] {
        write!(
            bird,
            "protocol static many_{family} {{\n\tdisabled;\n\t{family};\n"
        )
        .ok();
        for number in 0..MANY {
            writeln!(bird, "\troute {} blackhole;", numbered_name(number, ipv6)).ok();
        }
        bird += "}\n";
    }
    bird += "
protocol bgp node1 {
	local 10.0.0.253 as 65253;
	neighbor 10.0.0.1 as 65001;
	connect delay time 1;
	ipv4 { import all; export where source = RTS_STATIC; next hop self; };
	ipv6 { import all; export where source = RTS_STATIC; next hop address fd00:10::253; };
}
";
    let segment = Segment::named("birdmany")
        .manifest("bgp.yaml", &manifest("10.0.0.253", 65_253, 2 * MANY))
        .routelet(1)
        .bird("bird", 253, &bird);
    segment.story(|lab| {
        let bird = lab.node("bird")?;
        is_up(lab.node("node1")?, "peer")?;
        let both = |verb: &str| -> Result<()> {
            bird.birdc(&format!("{verb} many_ipv4"))?;
            bird.birdc(&format!("{verb} many_ipv6")).map(drop)
        };
        come_and_go(
            lab,
            [MANY, MANY],
            ["10.0.0.253", "fd00:10::253"],
            || both("enable"),
            || both("disable"),
        )
    });
}

/// A speaker by hand on the host, without hold time.
fn by_hand(lab: &Lab, to: Ipv4Addr) -> Result<Peer> {
    let from = Ipv4Addr::new(10, 0, 0, 100);
    let mut session = Peer::dial(lab.node("stranger")?, from.into(), to.into())?;
    session.establish(&Open {
        hold: 0,
        ..Open::of(65_100, from)
    })?;
    Ok(session)
}

fn announce(session: &mut Peer, four: u32, six: u32) -> Result<()> {
    let path = [65_100];
    session.send(&Bulk::of(four, &path, "10.0.0.100".parse()?).announce(1))?;
    session.send(&Bulk::of(six, &path, "fd00:10::100".parse()?).announce(1))
}

fn withdraw(session: &mut Peer, four: u32, six: u32) -> Result<()> {
    session.send(&Table::withdraw(four, false))?;
    session.send(&Table::withdraw(six, true))
}

#[test]
fn a_hundred_thousand_of_each_family_by_frr() {
    let frr = "
router bgp 65254
 bgp router-id 10.0.0.254
 no bgp ebgp-requires-policy
 neighbor 10.0.0.1 remote-as 65001
 neighbor 10.0.0.1 timers connect 1
 neighbor 10.0.0.1 advertisement-interval 0
 neighbor 10.0.0.100 remote-as 65100
 neighbor 10.0.0.100 passive
 address-family ipv6 unicast
  neighbor 10.0.0.1 activate
  neighbor 10.0.0.100 activate
 exit-address-family
exit
";
    let segment = Segment::named("frrmany")
        // FRR also tells node1 what it has from node1.
        .manifest("bgp.yaml", &manifest("10.0.0.254", 65_254, 3 * MANY))
        .routelet(1)
        .frr("frr", 254, frr)
        .host("stranger", 100);
    segment.story(|lab| {
        is_up(lab.node("node1")?, "peer")?;
        let mut source = eventually(TIME, "FRR takes the source", || {
            by_hand(lab, Ipv4Addr::new(10, 0, 0, 254))
        })?;
        let mut again = source.writer().map(Peer::on).context("writer")?;
        // On a shared network FRR leaves an IPv4 next hop alone; an IPv6 one over an IPv4 session it replaces by itself.
        come_and_go(
            lab,
            [MANY, MANY],
            ["10.0.0.100", "fd00:10::254"],
            || announce(&mut source, MANY, MANY),
            || withdraw(&mut again, MANY, MANY),
        )
    });
}

#[test]
fn half_a_million_and_its_peer_is_lost() {
    let segment = Segment::named("lost")
        .manifest("bgp.yaml", &manifest("10.0.0.100", 65_100, 2 * MORE))
        .routelet(1)
        .host("stranger", 100);
    segment.story(|lab| {
        let mut source = by_hand(lab, Ipv4Addr::new(10, 0, 0, 1))?;
        let mut again = source.writer().map(Peer::on)?;
        come_and_go(
            lab,
            [MORE, 0],
            ["10.0.0.100", "fd00:10::100"],
            || announce(&mut source, MORE, 0),
            // Cease: Administrative Shutdown.
            || again.send(&tests::byhand::notification(6, 2, &[])),
        )
    });
}
