//! Long-lived graceful restart (RFC 9494): who is away for longer than its restart time keeps its routes as a last resort.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::Lab;
use tests::scene::{self, BIRD, FRR, Transport::IPv4};
use tests::segment::Segment;
use tests::story::is_up;
use tests::wait::eventually;

const SOON: Duration = Duration::from_secs(60);
/// Of BIRD.
const PODS: &str = "10.244.53.0/24";
/// Of node1.
const OURS: &str = "10.244.1.0/24";

/// FRR is passed on what BIRD tells.
fn manifest() -> String {
    scene::configuration("  gracefulRestart: {restartSeconds: 3, longLivedSeconds: 3600}\n")
        + &scene::peer("bird", BIRD, IPv4)
        + &scene::peer("frr", FRR, IPv4)
        + "  export: {rules: [{action: Accept}]}\n"
}

const BIRD_STAYS: &str = "graceful restart on; graceful restart time 3; long lived graceful restart on; long lived stale time 3600;";

/// FRR waits and asks for as long.
fn frr() -> String {
    scene::frr(IPv4).replace(
        "router bgp 65254\n",
        "router bgp 65254\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time 3\n bgp long-lived-graceful-restart stale-time 3600\n",
    )
}

/// FRR has the prefix, as a last resort or not.
fn frr_has(lab: &Lab, prefix: &str, stale: bool) -> Result<()> {
    eventually(SOON, &format!("FRR has {prefix}, stale: {stale}"), || {
        let known = lab
            .node("frr")?
            .vtysh(&format!("show bgp ipv4 unicast {prefix} json"))?
            .to_string();
        ensure!(known.contains("\"valid\":true"), "{known}");
        ensure!(known.contains("llgr-stale") == stale, "{known}");
        Ok(())
    })
}

/// node1 uses BIRD's route, as a last resort or not.
fn we_use(lab: &Lab, stale: bool) -> Result<()> {
    let node1 = lab.node("node1")?;
    eventually(SOON, &format!("node1 uses {PODS}, stale: {stale}"), || {
        let route = node1.our_route(PODS)?;
        ensure!(route.gateways() == ["10.0.0.253"], "{route:?}");
        let known = node1.run(&["routelet", "explain", PODS])?;
        ensure!(known.contains("llgr-stale") == stale, "{known}");
        Ok(())
    })
}

#[test]
fn routes_stay_as_a_last_resort_on_both_sides() {
    let segment = Segment::named("longlived")
        .manifest("bgp.yaml", &manifest())
        .routelet(1)
        .frr("frr", FRR, &frr())
        .bird("bird", BIRD, &scene::bird(IPv4, BIRD_STAYS));
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        is_up(node1, "frr")?;
        is_up(node1, "bird")?;
        we_use(lab, false)?;
        frr_has(lab, PODS, false)?;

        // BIRD dies: beyond its three seconds the route stays, and says so to who knows what that means.
        let monitor = node1.watch_routes()?;
        lab.stop("bird", Signal::SIGKILL)?;
        we_use(lab, true)?;
        frr_has(lab, PODS, true)?;
        let lines = monitor.stop()?;
        let deleted = lines
            .iter()
            .find(|line| line.starts_with("Deleted") && line.contains(PODS));
        ensure!(deleted.is_none(), "{deleted:?}");
        lab.start("bird")?;
        is_up(node1, "bird")?;
        we_use(lab, false)?;
        frr_has(lab, PODS, false)?;

        // We die: both keep our pods.
        lab.stop("node1", Signal::SIGKILL)?;
        frr_has(lab, OURS, true)?;
        eventually(SOON, "BIRD has our pods as a last resort", || {
            let known = lab.node("bird")?.birdc(&format!("show route all {OURS}"))?;
            ensure!(known.contains("(65535,6)"), "{known}");
            Ok(())
        })?;
        lab.start("node1")?;
        is_up(node1, "frr")?;
        frr_has(lab, OURS, false)?;
        we_use(lab, false)
    });
}
