//! Sessions that are not between two IPv4 neighbours who name each other: over IPv6, through a router, from a range.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Lab;
use tests::container::Container;
use tests::scene::{self, BIRD, FRR, IMPATIENT, Transport};
use tests::story::{Steady, append, at, complains, edit, is_up, peer, peers, story_with};
use tests::wait::eventually;

const SOON: Duration = Duration::from_secs(20);
/// What a busy machine may need for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// node1's kernel leads to the prefix by that gateway.
fn leads(node1: &Container, prefix: &str, gateway: &str) -> Result<()> {
    eventually(SOON, &format!("{prefix} by {gateway}"), || {
        let route = node1.our_route(prefix)?;
        ensure!(route.gateways() == [gateway], "{route:?}");
        Ok(())
    })
}

/// Both routers' pods are in node1's kernel, and node1's pods with both of them, each family by an address of its own.
fn both_families_both_ways(lab: &Lab) -> Result<()> {
    let node1 = lab.node("node1")?;
    leads(node1, "10.244.54.0/24", "10.0.0.254")?;
    leads(node1, "fd00:10:244:54::/64", "fd00:10::254")?;
    leads(node1, "10.244.53.0/24", "10.0.0.253")?;
    leads(node1, "fd00:10:244:53::/64", "fd00:10::253")?;
    eventually(SOON, "FRR and BIRD have node1's pods", || {
        for (family, prefix, hop) in [
            ("ipv4", "10.244.1.0/24", "10.0.0.1"),
            ("ipv6", "fd00:10:244:1::/64", "fd00:10::1"),
        ] {
            let frr = lab
                .node("frr")?
                .vtysh(&format!("show bgp {family} unicast {prefix} json"))?
                .to_string();
            ensure!(frr.contains(&format!("\"ip\":\"{hop}\"")), "{frr}");
            let bird = lab
                .node("bird")?
                .birdc(&format!("show route all {prefix}"))?;
            ensure!(bird.contains(&format!("BGP.next_hop: {hop}")), "{bird}");
        }
        Ok(())
    })
}

#[test]
fn a_session_over_ipv6_carries_both_families() {
    let peers = [("bird", BIRD), ("frr", FRR)]
        .map(|(name, number)| scene::peer(name, number, Transport::IPv6));
    let manifest = scene::configuration(IMPATIENT) + &peers.concat();
    scene::between("sixonly", &manifest, Transport::IPv6).story(|lab| {
        let node1 = lab.node("node1")?;
        is_up(node1, "frr")?;
        is_up(node1, "bird")?;
        both_families_both_ways(lab)?;
        // One family less on their side: the other stays, on the same session or the next.
        lab.node("frr")?.vtysh_configure(&[
            "router bgp 65254",
            "address-family ipv4 unicast",
            "no neighbor fd00:10::1 activate",
        ])?;
        eventually(SOON, "only IPv6 is left", || {
            node1.no_route_of_ours("10.244.54.0/24")
        })?;
        leads(node1, "fd00:10:244:54::/64", "fd00:10::254")
    });
}

#[test]
fn a_router_on_the_link_is_spoken_to_from_the_nodes_own_address() {
    let manifest = scene::configuration(IMPATIENT) + &scene::peer("frr", FRR, Transport::IPv6);
    scene::between("twoaddresses", &manifest, Transport::IPv6).story(|lab| {
        let (node1, frr) = (lab.node("node1")?, lab.node("frr")?);
        is_up(node1, "frr")?;
        // Nearer to FRR's than node1's own: the kernel prefers it (RFC 6724, rule 8). FRR knows node1's own, and does not dial.
        node1.sh("ip address add fd00:10::255/64 dev eth1 nodad")?;
        let chosen = node1.sh("ip route get fd00:10::254")?;
        ensure!(chosen.contains("src fd00:10::255"), "{chosen}");
        frr.vtysh_configure(&["router bgp 65254", "neighbor fd00:10::1 passive"])?;
        let before = at(&peer(node1, "frr")?, "/establishedCount")?.as_u64();
        scene::clear_frr(frr, Transport::IPv6)?;
        eventually(
            PATIENCE,
            "the next session is from node1's own address",
            || {
                let peer = peer(node1, "frr")?;
                let count = at(&peer, "/establishedCount")?.as_u64();
                ensure!(count > before, "{peer:#}");
                let local = at(&peer, "/session/local")?.as_str().unwrap_or_default();
                ensure!(local.starts_with("[fd00:10::1]:"), "{local}");
                Ok(())
            },
        )?;
        leads(node1, "fd00:10:244:54::/64", "fd00:10::254")?;

        // Where its own address is on another link, it is spoken to from one that is on this: FRR learns of it.
        node1.sh("ip address del fd00:10::1/64 dev eth1")?;
        node1.sh("ip address add fd00:10::1/128 dev lo")?;
        frr.vtysh_configure(&[
            "router bgp 65254",
            "neighbor fd00:10::255 remote-as 65001",
            "neighbor fd00:10::255 passive",
            "address-family ipv6 unicast",
            "neighbor fd00:10::255 activate",
        ])?;
        eventually(PATIENCE, "a session from the link's address", || {
            let peer = peer(node1, "frr")?;
            let local = at(&peer, "/session/local")?.as_str().unwrap_or_default();
            ensure!(local.starts_with("[fd00:10::255]:"), "{local}");
            Ok(())
        })
    });
}

/// Whoever dials in from the upper addresses of either family is a peer; FRR and BIRD are there.
fn from_ranges(also: &str) -> String {
    let range = |name: &str, range: &str| {
        format!(
            "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec:\n  peerRange: \"{range}\"\n  peerASN: External\n{also}"
        )
    };
    scene::configuration(IMPATIENT)
        + &range("four", "10.0.0.240/28")
        + &range("six", "fd00:10::200/119")
}

fn whoever_dials_in(name: &str, transport: Transport) {
    let range = match transport {
        Transport::IPv4 => "four",
        Transport::IPv6 => "six",
    };
    let [frr, bird] = [FRR, BIRD].map(|number| format!("{range}/{}", transport.address(number)));
    scene::between(name, &from_ranges(""), transport).story(|lab| {
        let node1 = lab.node("node1")?;
        is_up(node1, &frr)?;
        is_up(node1, &bird)?;
        both_families_both_ways(lab)?;

        // One of them leaves: it is a peer no more, and the other noticed nothing.
        let steady = Steady::session(node1, &bird)?;
        scene::frr_now(
            lab.node("frr")?,
            transport,
            &format!("neighbor {} shutdown", transport.address(1)),
        )?;
        eventually(SOON, "FRR and its routes are gone", || {
            ensure!(!peers(node1)?.contains_key(&frr), "it is still a peer");
            node1.no_route_of_ours("10.244.54.0/24")?;
            node1.no_route_of_ours("fd00:10:244:54::/64")
        })?;
        steady.holds()?;

        // It is back, now with a password, which the range does not know yet.
        let (with, without) = (
            from_ranges("  authSecretRef: {name: key, key: password}\n"),
            from_ranges(""),
        );
        scene::frr_now(
            lab.node("frr")?,
            transport,
            &format!("no neighbor {} shutdown", transport.address(1)),
        )?;
        is_up(node1, &frr)?;
        scene::secret(lab, "key", "right")?;
        edit(&lab.manifests().join("bgp.yaml"), &without, &with)?;
        eventually(SOON, "who knows no password is out", || {
            let left = peers(node1)?;
            ensure!(left.is_empty(), "{:?}", left.keys());
            Ok(())
        })?;
        scene::frr_now(
            lab.node("frr")?,
            transport,
            &format!("neighbor {} password right", transport.address(1)),
        )?;
        is_up(node1, &frr)?;
        lab.reconfigure_bird(&scene::bird(transport, "password \"right\";"))?;
        is_up(node1, &bird)?;
        both_families_both_ways(lab)
    });
}

#[test]
fn whoever_dials_in_from_a_range_is_a_peer() {
    whoever_dials_in("range", Transport::IPv4);
}

#[test]
fn an_ipv6_range_is_one_too() {
    whoever_dials_in("rangesix", Transport::IPv6);
}

/// A session from node1 to the spine, past the ToR, and the one prefix that the spine tells on it.
struct Past {
    spine: &'static str,
    node1: &'static str,
    family: &'static str,
    /// How FRR's own commands begin.
    ip: &'static str,
    prefix: &'static str,
    tor: &'static str,
}

const FOUR: Past = Past {
    spine: "10.255.1.0",
    node1: "10.1.0.1",
    family: "ipv4",
    ip: "ip",
    prefix: "10.77.0.0/16",
    tor: "10.1.0.254",
};

const SIX: Past = Past {
    spine: "fd00:255:11::",
    node1: "fd00:1::1",
    family: "ipv6",
    ip: "ipv6",
    prefix: "fd00:77::/48",
    tor: "fd00:1::254",
};

impl Past {
    fn manifests(&self, files: &Path) -> Result<()> {
        let Self { spine, prefix, .. } = self;
        let bgp = files.join("racks/manifests/bgp.yaml");
        edit(
            &bgp,
            "  timers:",
            &format!("  kernel: {{allowedPrefixes: [{{cidr: \"{prefix}\"}}]}}\n  timers:"),
        )?;
        append(
            &bgp,
            &format!(
                "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: spine}}\nspec:\n  node: node1\n  \
                 peerAddress: \"{spine}\"\n  peerASN: 65100\n  import: {{rules: [{{action: Accept}}]}}\n"
            ),
        )
    }

    fn told_by(&self, spine: &Container) -> Result<()> {
        let Self {
            node1,
            family,
            ip,
            prefix,
            ..
        } = self;
        let lines = [
            format!("{ip} route {prefix} blackhole"),
            format!("{ip} prefix-list TOLD seq 5 permit {prefix}"),
            "router bgp 65100".into(),
            format!("neighbor {node1} remote-as 65001"),
            format!("neighbor {node1} ebgp-multihop 2"),
            format!("neighbor {node1} timers connect 1"),
            format!("address-family {family} unicast"),
            format!("network {prefix}"),
            format!("neighbor {node1} activate"),
            format!("neighbor {node1} prefix-list TOLD out"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        spine.vtysh_configure(&lines)
    }
}

const WATCHED: &str = "  bfd: {minRxMs: 300, minTxMs: 300, multiplier: 3}\n";

impl Past {
    /// BFD goes the same way (RFC 5883, of its own port), and sees what no link shows.
    fn watched(&self, lab: &Lab, bgp: &Path) -> Result<()> {
        let (node1, spine) = (lab.node("node1")?, lab.node("spine")?);
        append(bgp, WATCHED)?;
        let line = format!("neighbor {} bfd", self.node1);
        spine.vtysh_configure(&["router bgp 65100", &line])?;
        let is_watched = || {
            eventually(3 * SOON, "BFD is up, over several hops", || {
                let spine = peer(node1, "spine")?;
                ensure!(at(&spine, "/bfd/state")? == "Up", "{spine:#}");
                ensure!(at(&spine, "/bfd/multihop")? == true, "{spine:#}");
                ensure!(at(&spine, "/state")? == "Established", "{spine:#}");
                node1.our_route(self.prefix).map(drop)
            })
        };
        is_watched()?;
        let uplinks = ["eth1", "eth2"];
        for uplink in uplinks {
            spine.drop_packets(uplink, "udp dport 4784 drop")?;
        }
        eventually(SOON, "its route is gone", || {
            node1.no_route_of_ours(self.prefix)
        })?;
        // TCP still gets through, so the session may be back already: without BFD, as with one who has none.
        let why = at(&peer(node1, "spine")?, "/bfd/lastDown")?.to_string();
        ensure!(why.contains("it said nothing for"), "{why}");
        for uplink in uplinks {
            spine.heal(uplink)?;
        }
        is_watched()?;
        edit(bgp, WATCHED, "")?;
        spine.vtysh_configure(&["router bgp 65100", &format!("no {line}")])?;
        is_up(node1, "spine")
    }
}

fn past_the_tor(way: &Past) {
    story_with(
        "racks",
        |files| way.manifests(files),
        |lab| {
            let cluster = lab.converged()?;
            let node1 = cluster.member("node1")?.container;
            let bgp = lab.manifests().join("bgp.yaml");
            way.told_by(lab.node("spine")?)?;
            let tor = Steady::session(node1, "tor1")?;
            complains(node1, "spine", &["ebgpMultihop"])?;

            append(&bgp, "  ebgpMultihop: 2\n")?;
            is_up(node1, "spine")?;
            // The spine is not on a network of node1, and its default route is nobody's word.
            eventually(SOON, "the next hop is not resolved", || {
                let why = node1.output(&["routelet", "explain", way.prefix])?.stdout;
                ensure!(why.contains("unresolved"), "{why}");
                node1.no_route_of_ours(way.prefix)
            })?;
            edit(
                &bgp,
                "  kernel: {",
                "  kernel: {unresolvedNextHop: Gateway, ",
            )?;
            leads(node1, way.prefix, way.tor)?;
            let session = peer(node1, "spine")?;
            ensure!(at(&session, "/establishedCount")? == 1, "{session:#}");
            way.watched(lab, &bgp)?;
            leads(node1, way.prefix, way.tor)?;

            edit(&bgp, "  ebgpMultihop: 2\n", "")?;
            complains(node1, "spine", &["ebgpMultihop"])?;
            tor.holds()?;
            cluster.converge(SOON)
        },
    );
}

#[test]
fn a_session_goes_past_a_router() {
    past_the_tor(&FOUR);
}

#[test]
fn a_session_over_ipv6_goes_past_a_router() {
    past_the_tor(&SIX);
}
