//! routelet as a device: a bare speaker, or one that installs.

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::{Child, Command},
};

use anyhow::Result;

use super::{ASN, Setup, output};
use crate::bench::{
    arena::{Arena, DEVICE},
    message::mapped,
    table::{Table, prefix6},
};

pub(super) fn start(binary: &Path, arena: &Arena, setup: &Setup, dir: &Path) -> Result<Vec<Child>> {
    let file = dir.join("routelet.yaml");
    fs::write(&file, manifests(setup)?)?;
    Ok(vec![start_with(binary, arena, &file, dir)?])
}

/// Starts it with these manifests, as the node `dut`.
pub(super) fn start_with(
    binary: &Path,
    arena: &Arena,
    manifests: &Path,
    dir: &Path,
) -> Result<Child> {
    let mut command = Command::new(binary);
    command
        .args(["run", "--node", "dut"])
        .arg("--config")
        .arg(manifests);
    command
        .arg("--socket")
        .arg(dir.join("routelet.sock"))
        .arg("--state-dir")
        .arg(dir.join("state"));
    command
        .stdout(output(dir, "routelet.out")?)
        .stderr(output(dir, "routelet.err")?);
    arena.spawn(&mut command)
}

fn manifests(setup: &Setup) -> Result<String> {
    let mut pods = Vec::new();
    if let Some(node) = setup.originate {
        if let Some(prefix) = Table::pods(node + 1).prefixes.last() {
            pods.push(format!(
                "\"{}/{}\"",
                std::net::Ipv4Addr::from(prefix.address),
                prefix.length
            ));
        }
        pods.push(format!("\"{}/64\"", prefix6(node)));
    }
    let mut text = format!(
        "apiVersion: v1
kind: Node
metadata: {{name: dut}}
spec:
  podCIDRs: [{}]
status:
  addresses:
  - {{type: InternalIP, address: {DEVICE}}}
  - {{type: InternalIP, address: \"{}\"}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {{name: default}}
spec:
  asNumber: {ASN}
  topology: External
  advertise: {{podCIDRs: true, blackholeOwn: false}}
  kernel:
    install: {}
    allowedPrefixes:
    - {{cidr: 0.0.0.0/0, minLength: 1, maxLength: 32}}
    - {{cidr: \"::/0\", minLength: 1, maxLength: 128}}
  cni: {{writeConflist: false}}
",
        pods.join(", "),
        mapped(DEVICE),
        setup.kernel,
    );
    for (number, peer) in setup.peers.iter().enumerate() {
        let external =
            "\n  import: {rules: [{action: Accept}]}\n  export: {rules: [{action: Accept}]}";
        write!(
            text,
            "---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {{name: p{number}}}
spec:
  peerAddress: {}
  peerASN: {}
  passive: true
  routeReflectorClient: {}
  families: [{}]
  maxPrefixes: {{count: 4000000, action: Warn}}{external}
",
            peer.address,
            peer.asn,
            peer.client,
            if peer.dual { "IPv4, IPv6" } else { "IPv4" },
        )?;
    }
    Ok(text)
}
