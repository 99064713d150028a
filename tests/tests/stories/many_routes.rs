//! A hundred thousand routes from BIRD and from FRR: learned, installed, withdrawn, and the kernel's count exact.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Lab;
use tests::story::{edit, story_with, write};
use tests::wait::{eventually, now};

pub(crate) const MANY: usize = 100_000;
pub(crate) const TIME: Duration = Duration::from_secs(120);

/// The `n`th of many prefixes inside 11.0.0.0/8 and 12.0.0.0/8.
fn prefix(n: usize) -> String {
    format!("{}.{}.{}.0/24", 11 + n / 65536, n / 256 % 256, n % 256)
}

/// Lets the nodes take all of it.
fn open(files: &Path, topology: &str, peer: &str) -> Result<()> {
    let bgp = files.join(topology).join("manifests/bgp.yaml");
    edit(
        &bgp,
        "  timers:",
        "  kernel: {allowedPrefixes: [{cidr: 11.0.0.0/8, maxLength: 24}, {cidr: 12.0.0.0/8, maxLength: 24}]}\n  timers:",
    )?;
    edit(
        &bgp,
        peer,
        &format!(
            "{peer}  maxPrefixes: {{count: 200000}}\n  import: {{rules: [{{action: Accept}}]}}\n"
        ),
    )
}

/// All nodes have exactly `count` routes to the many.
pub(crate) fn exactly(lab: &Lab, count: usize) -> Result<()> {
    for name in ["node1", "node2", "node3"] {
        let shown = lab
            .node(name)?
            .sh("ip -4 route show table main proto 179 | grep -c -E '^1[12]\\.' || true")?;
        ensure!(
            shown.trim() == count.to_string(),
            "{name} has {} of {count}",
            shown.trim()
        );
    }
    Ok(())
}

fn learned_and_withdrawn(
    lab: &Lab,
    announce: impl Fn() -> Result<()>,
    withdraw: impl Fn() -> Result<()>,
) -> Result<()> {
    let cluster = lab.converged()?;
    let start = now();
    announce()?;
    eventually(TIME, "every kernel has all of them", || exactly(lab, MANY))?;
    println!(
        "{MANY} routes in three kernels after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    cluster.converge(Duration::from_secs(1))?;
    let start = now();
    withdraw()?;
    eventually(TIME, "every kernel has dropped all of them", || {
        exactly(lab, 0)
    })?;
    println!("gone after {:.1} s", start.elapsed().as_secs_f64());
    cluster.converge(Duration::from_secs(1))
}

/// A BIRD that announces the many when told to `enable many`.
pub(crate) fn bird(files: &Path) -> Result<()> {
    open(files, "tor-bird", "  peerASN: 65000\n")?;
    let bird = files.join("tor-bird/tor/bird.conf");
    edit(
        &bird,
        "template bgp node {",
        "protocol static many {\n\tdisabled;\n\tipv4;\n\tinclude \"/etc/bird-many.conf\";\n}\n\ntemplate bgp node {",
    )?;
    edit(
        &bird,
        "ipv4 { import all; export where source = RTS_BGP; };",
        "ipv4 { import all; export where source ~ [ RTS_BGP, RTS_STATIC ]; };",
    )?;
    let mut routes = String::new();
    for n in 0..MANY {
        writeln!(routes, "route {} blackhole;", prefix(n))?;
    }
    write(&files.join("tor-bird/tor/many.conf"), &routes)?;
    edit(
        &files.join("tor-bird.clab.yml"),
        "        - tor-bird/tor/bird.conf:/etc/bird.conf\n",
        "        - tor-bird/tor/bird.conf:/etc/bird.conf\n        - tor-bird/tor/many.conf:/etc/bird-many.conf\n",
    )
}

#[test]
fn a_hundred_thousand_from_bird() {
    story_with("tor-bird", bird, |lab| {
        let tor = lab.node("tor")?;
        learned_and_withdrawn(
            lab,
            || tor.birdc("enable many").map(drop),
            || tor.birdc("disable many").map(drop),
        )
    });
}

#[test]
fn a_hundred_thousand_from_frr() {
    let prepare = |files: &Path| {
        open(files, "tor-frr", "  families: [IPv4]\n")?;
        edit(
            &files.join("tor-frr/tor/frr.conf"),
            " no bgp ebgp-requires-policy\n",
            " no bgp ebgp-requires-policy\n no bgp network import-check\n",
        )
    };
    story_with("tor-frr", prepare, |lab| {
        let tor = lab.node("tor")?;
        let configure = |verb: &str| -> Result<()> {
            let mut lines = String::from("router bgp 65000\naddress-family ipv4 unicast\n");
            for n in 0..MANY {
                writeln!(lines, "{verb}network {}", prefix(n))?;
            }
            write(&tor.path("/tmp/many.conf"), &lines)?;
            tor.run(&["vtysh", "-f", "/tmp/many.conf"]).map(drop)
        };
        learned_and_withdrawn(lab, || configure(""), || configure("no "))
    });
}
