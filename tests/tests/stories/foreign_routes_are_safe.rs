//! What a peer must not install is refused, counted and explained; what others installed is never touched; what is ours comes back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::story::{CONVERGENCE, at, edit, story, story_with};
use tests::wait::{always, eventually};

/// What the ToR announces beside the pod CIDRs, and the guard's word for it.
const UNWANTED: [(&str, &str); 5] = [
    ("0.0.0.0/0", "default-route"),
    ("10.99.0.0/16", "outside-allowed"),
    ("10.0.0.128/25", "connected-subnet"),
    ("10.244.1.64/26", "own-pod-cidr"),
    ("10.244.77.0/24", "next-hop-is-ourselves"),
];

/// A ToR that announces what it should not, and nodes whose import rules let everything through: only the installer's guard is left.
fn careless(files: &Path) -> Result<()> {
    let bgp = files.join("tor-bird/manifests/bgp.yaml");
    edit(
        &bgp,
        "  timers:",
        "  kernel: {allowedPrefixes: [{cidr: 10.244.77.0/24}]}\n  timers:",
    )?;
    // A second address of node1's: BIRD tells nobody a route that leads back to its session's own address.
    let address = "        - ip address add 10.0.0.1/24 dev eth1\n";
    edit(
        &files.join("tor-bird.clab.yml"),
        address,
        &format!("{address}        - ip address add 10.0.0.201/24 dev eth1\n"),
    )?;
    let bird = files.join("tor-bird/tor/bird.conf");
    let routes: String = UNWANTED
        .iter()
        .map(|(prefix, _)| format!("\troute {prefix} blackhole;\n"))
        .collect();
    edit(
        &bird,
        "template bgp node {",
        &format!("protocol static unwanted {{\n\tipv4;\n{routes}}}\n\ntemplate bgp node {{"),
    )?;
    edit(
        &bird,
        "ipv4 { import all; export where source = RTS_BGP; };",
        "ipv4 { import all; export filter {\n\t\tif net = 10.244.77.0/24 then bgp_next_hop = 10.0.0.201;\n\t\tif source ~ [ RTS_BGP, RTS_STATIC ] then accept;\n\t\treject;\n\t}; };",
    )?;
    edit(
        &bgp,
        "  peerASN: 65000\n",
        "  peerASN: 65000\n  import: {rules: [{action: Accept}]}\n",
    )
}

#[test]
fn the_guard_refuses_counts_and_explains() {
    story_with("tor-bird", careless, |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        eventually(
            CONVERGENCE,
            "all that is unwanted has arrived and is refused",
            || {
                for (prefix, kind) in UNWANTED {
                    let told = node1.routelet(&["explain", prefix])?.to_string();
                    ensure!(
                        told.contains(kind),
                        "explain {prefix} does not say {kind}: {told}"
                    );
                }
                Ok(())
            },
        )?;
        for (prefix, _) in UNWANTED {
            node1.no_route_of_ours(prefix)?;
        }
        let dump = node1.routelet(&["status"])?;
        let refusals = at(&dump, "/kernel/refusals")?;
        for (_, kind) in UNWANTED {
            let count = refusals
                .get(kind)
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0);
            let expected = UNWANTED.iter().filter(|(_, its)| *its == kind).count();
            ensure!(
                count >= u64::try_from(expected)?,
                "{kind} is counted {count} times: {refusals}"
            );
        }
        // The rest of the node is unharmed.
        cluster.converge(CONVERGENCE)
    });
}

#[test]
fn without_rules_only_the_pod_network_comes_in() {
    let only_the_tor = |files: &Path| {
        careless(files)?;
        edit(
            &files.join("tor-bird/manifests/bgp.yaml"),
            "  import: {rules: [{action: Accept}]}\n",
            "",
        )
    };
    story_with("tor-bird", only_the_tor, |lab| {
        let cluster = lab.converged()?;
        for member in &cluster.members {
            // What is wrong with these only node1 knows.
            let inside = |prefix: &str| prefix.starts_with("10.244.") && member.name != "node1";
            for (prefix, _) in UNWANTED.iter().filter(|(prefix, _)| !inside(prefix)) {
                member.container.no_route_of_ours(prefix)?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_foreign_route_survives_start_stop_and_cleanup() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        for route in [
            "10.244.2.0/24 via 10.0.0.254 proto static metric 50",
            "10.244.3.0/24 via 10.0.0.254 proto bird metric 2000",
            // Ours by protocol, but in another table.
            "10.244.2.0/24 via 10.0.0.254 proto 179 metric 1024 table 77",
        ] {
            node1.sh(&format!("ip route add {route}"))?;
        }
        let there = |when: &str| -> Result<()> {
            let two = node1.routes_to("10.244.2.0/24")?;
            let three = node1.routes_to("10.244.3.0/24")?;
            ensure!(
                two.iter().any(|route| route.metric == Some(50)),
                "{when}: the static route is gone: {two:?}"
            );
            ensure!(
                three.iter().any(|route| route.metric == Some(2000)),
                "{when}: bird's route is gone: {three:?}"
            );
            let table = node1.run(&["ip", "route", "show", "table", "77"])?;
            ensure!(
                table.contains("10.244.2.0/24"),
                "{when}: the route in table 77 is gone"
            );
            Ok(())
        };
        there("at once")?;
        lab.stop("node1", Signal::SIGTERM)?;
        there("stopped")?;
        lab.start("node1")?;
        cluster.converge(CONVERGENCE)?;
        there("started again")?;
        lab.stop("node1", Signal::SIGKILL)?;
        node1.run(&["routelet", "cleanup"])?;
        there("cleaned up")?;
        let left = node1
            .sh("ip route show table main proto 179; ip -6 route show table main proto 179")?;
        ensure!(left.trim().is_empty(), "cleanup left {left}");
        Ok(())
    });
}

#[test]
fn a_route_of_ours_that_was_deleted_is_back_within_a_second() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        for cidr in &cluster.member("node2")?.facts.pod_cidrs {
            let family = if cidr.contains(':') { "-6" } else { "-4" };
            node1.run(&["ip", family, "route", "del", cidr, "proto", "179"])?;
            eventually(Duration::from_secs(1), &format!("{cidr} is back"), || {
                node1.our_route(cidr)
            })?;
        }
        // Changed rather than deleted.
        node1.sh("ip route replace 10.244.2.0/24 via 10.0.0.254 proto 179 metric 1024")?;
        eventually(Duration::from_secs(1), "it leads to node2 again", || {
            let route = node1.our_route("10.244.2.0/24")?;
            ensure!(route.gateway.as_deref() == Some("10.0.0.2"), "{route:?}");
            Ok(())
        })?;
        let dump = node1.routelet(&["status"])?;
        let drifted = at(&dump, "/kernel/totals/drifted")?
            .as_u64()
            .context("drifted")?;
        ensure!(drifted >= 3, "{drifted} counted");
        always(Duration::from_secs(1), "it stays", || {
            node1.our_route("10.244.2.0/24").map(drop)
        })
    });
}
