//! A peer stops reading while a hundred thousand routes churn: the others notice nothing, memory stays bounded, and it is closed (RFC 9687).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::Lab;
use tests::container::Container;
use tests::story::{CONVERGENCE, append, complains, is_up, story_with};
use tests::wait::{eventually, now};

use crate::many_routes::{MANY, TIME, bird, exactly};
use crate::tool;

/// Resident memory of node1's routelet, in MiB.
fn memory(lab: &Lab) -> Result<u64> {
    let shown = lab
        .node("node1")?
        .sh("grep VmRSS /proc/$(cat /run/lab.pid)/status")?;
    let kib: u64 = shown
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .context(shown.clone())?;
    Ok(kib / 1024)
}

/// Two speakers that nobody else knows: one counts, the other stops reading. node1 tells both everything.
fn two_more(files: &Path) -> Result<()> {
    bird(files)?;
    for (name, host, asn) in [("counts", 71, 65071), ("stuck", 72, 65072)] {
        append(
            &files.join("tor-bird/manifests/bgp.yaml"),
            &format!(
                "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\n\
                 spec: {{node: node1, peerAddress: 10.0.0.{host}, peerASN: {asn}, passive: true, families: [IPv4], export: {{rules: [{{action: Accept}}]}}}}\n"
            ),
        )?;
    }
    Ok(())
}

/// How long until the counting speaker has `count` prefixes.
fn told(counts: &crate::Tool, count: &dyn Fn(usize) -> bool) -> Result<Duration> {
    let start = now();
    eventually(TIME, "the other speaker is told", || {
        let said = counts.said()?;
        let have = said
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("have ")?.parse().ok())
            .unwrap_or(0);
        ensure!(count(have), "it has {have}");
        Ok(())
    })?;
    Ok(start.elapsed())
}

#[test]
fn a_stuck_peer_costs_nobody_else() {
    story_with("tor-bird", two_more, |lab| {
        lab.converged()?;
        let (tor, sw, node1) = (lab.node("tor")?, lab.node("sw")?, lab.node("node1")?);
        for host in ["10.0.0.71/24", "10.0.0.72/24"] {
            sw.run(&["ip", "address", "add", host, "dev", "br0"])?;
        }
        let counts = dial(sw, "10.0.0.71", "65071", "counts")?;
        is_up(node1, "counts")?;
        let churn = |counts: &crate::Tool| -> Result<Duration> {
            tor.birdc("enable many")?;
            let all = told(counts, &|have| have >= MANY)?;
            tor.birdc("disable many")?;
            told(counts, &|have| have < 100)?;
            Ok(all)
        };
        let before = churn(&counts)?;
        let resident = memory(lab)?;

        let stuck = dial(sw, "10.0.0.72", "65072", "stops-reading")?;
        stuck.says("established")?;
        let start = now();
        let mut during = Vec::new();
        for _ in 0..3 {
            during.push(churn(&counts)?);
        }
        println!(
            "told everything in {before:?} before, in {during:?} beside the stuck peer; memory {resident} MiB before, {} MiB after",
            memory(lab)?
        );
        let fastest = during.iter().min().copied().unwrap_or_default();
        ensure!(
            fastest < before * 2 + Duration::from_secs(1),
            "others are held up"
        );
        ensure!(
            memory(lab)? < resident * 2 + 50,
            "memory grew from {resident} to {} MiB",
            memory(lab)?
        );
        complains(node1, "stuck", &["send hold"])?;
        println!(
            "closed {:.0} s after it stopped reading: {}",
            start.elapsed().as_secs_f64(),
            stuck.says("ended")?
        );
        tor.birdc("enable many")?;
        eventually(TIME, "every kernel has all of them", || exactly(lab, MANY))?;
        eventually(CONVERGENCE, "the other session never went down", || {
            let said = counts.said()?;
            ensure!(!said.contains("ended"), "{said}");
            Ok(())
        })
    });
}

/// Starts a speaker with an address of its own on the switch.
fn dial(sw: &Container, from: &str, asn: &str, manners: &str) -> Result<crate::Tool> {
    // The source address is chosen by a route of its own to node1.
    sw.run(&[
        "ip",
        "route",
        "replace",
        "10.0.0.1/32",
        "dev",
        "br0",
        "src",
        from,
    ])?;
    let running = tool(sw, &["speak", "10.0.0.1", asn, manners])?;
    running.says("established")?;
    Ok(running)
}
