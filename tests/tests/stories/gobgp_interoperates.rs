//! GoBGP beside FRR and BIRD: who dials makes no difference, one session carries both families, with MD5.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Lab;
use tests::container::Container;
use tests::scene::{self, Transport::IPv4};
use tests::segment::Segment;
use tests::story::{at, is_up, peer};
use tests::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

fn manifest() -> String {
    let waits = scene::peer("waits", 51, IPv4) + "  authSecretRef: {name: gobgp, key: password}\n";
    let dials = scene::peer("dials", 52, IPv4) + "  passive: true\n";
    scene::configuration("") + &waits + &dials
}

/// Starts gobgpd on a host, with node1 as its one neighbour.
fn start(lab: &Lab, name: &str, number: u8, neighbor: &str) -> Result<()> {
    let configuration = format!(
        "[global.config]\n  as = 650{number}\n  router-id = \"10.0.0.{number}\"\n[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"10.0.0.1\"\n    peer-as = 65001\n{neighbor}  \
         [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv4-unicast\"\n  \
         [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv6-unicast\"\n"
    );
    std::fs::write(lab.node(name)?.path("/etc/gobgpd.toml"), configuration)?;
    let words = ["gobgpd", "-f", "/etc/gobgpd.toml", "--disable-stdlog"];
    lab.spawn(name, &words.map(str::to_owned))?;
    let gobgp = lab.node(name)?;
    let own = [
        format!("10.244.{number}.0/24 nexthop 10.0.0.{number} -a ipv4"),
        format!("fd00:10:244:{number}::/64 nexthop fd00:10::{number} -a ipv6"),
    ];
    for route in own {
        eventually(SOON, "gobgpd answers", || {
            gobgp.sh(&format!("gobgp global rib add {route}")).map(drop)
        })?;
    }
    Ok(())
}

/// GoBGP has node1's pods, and node1's kernel has GoBGP's.
fn both_ways(lab: &Lab, gobgp: &Container, number: u8) -> Result<()> {
    let node1 = lab.node("node1")?;
    eventually(SOON, "routes flow both ways", || {
        for (family, pods, gateway) in [
            (
                "ipv4",
                format!("10.244.{number}.0/24"),
                format!("10.0.0.{number}"),
            ),
            (
                "ipv6",
                format!("fd00:10:244:{number}::/64"),
                format!("fd00:10::{number}"),
            ),
        ] {
            let route = node1.our_route(&pods)?;
            ensure!(route.gateways() == [gateway.clone()], "{route:?}");
            let known = gobgp.run(&["gobgp", "global", "rib", "-a", family])?;
            let (wanted, hop) = if family == "ipv4" {
                ("10.244.1.0/24", "10.0.0.1 ")
            } else {
                ("fd00:10:244:1::/64", "fd00:10::1 ")
            };
            ensure!(
                known
                    .lines()
                    .any(|line| line.contains(wanted) && line.contains(hop)),
                "{known}"
            );
        }
        Ok(())
    })
}

#[test]
fn gobgp_waits_for_us_or_dials_us() {
    let segment = Segment::named("gobgp")
        .manifest("bgp.yaml", &manifest())
        .routelet(1)
        .host("waits", 51)
        .host("dials", 52);
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        scene::secret(lab, "gobgp", "swordfish")?;
        start(
            lab,
            "waits",
            51,
            "    auth-password = \"swordfish\"\n  [neighbors.transport.config]\n    passive-mode = true\n    local-address = \"10.0.0.51\"\n",
        )?;
        start(
            lab,
            "dials",
            52,
            "  [neighbors.timers.config]\n    connect-retry = 1\n    hold-time = 9\n  [neighbors.transport.config]\n    local-address = \"10.0.0.52\"\n",
        )?;
        for (name, number) in [("waits", 51), ("dials", 52)] {
            is_up(node1, name)?;
            both_ways(lab, lab.node(name)?, number)?;
        }
        ensure!(
            at(&peer(node1, "dials")?, "/session/holdSeconds")? == 9,
            "the shorter hold time counts"
        );

        // A refresh each way, a route that goes, and the same sessions still.
        for name in ["waits", "dials"] {
            let gobgp = lab.node(name)?;
            gobgp.run(&["gobgp", "neighbor", "10.0.0.1", "softreset"])?;
        }
        lab.node("dials")?
            .sh("gobgp global rib del 10.244.52.0/24 -a ipv4")?;
        eventually(SOON, "what is withdrawn is gone", || {
            node1.no_route_of_ours("10.244.52.0/24")
        })?;
        both_ways(lab, lab.node("waits")?, 51)?;
        for name in ["waits", "dials"] {
            let told = peer(node1, name)?;
            ensure!(
                at(&told, "/establishedCount")? == 1 && at(&told, "/messages/faulty")? == 0,
                "{told:#}"
            );
        }
        // GoBGP's own way to end a session.
        lab.node("waits")?
            .run(&["gobgp", "neighbor", "10.0.0.1", "disable"])?;
        eventually(SOON, "the reason is shown", || {
            let told = peer(node1, "waits")?;
            let error = at(&told, "/lastError")?.to_string();
            ensure!(error.contains("Administrative Shutdown"), "{error}");
            node1.no_route_of_ours("10.244.51.0/24")
        })?;
        Ok(())
    });
}
