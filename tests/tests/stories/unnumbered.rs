//! Peers that nobody wrote down: the routers at the other ends of links without addresses of their own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::Lab;
use tests::container::Container;
use tests::story::{
    CONVERGENCE, Steady, at, complains, edit, is_up, peer, peers, story, story_with, tell_in, write,
};
use tests::wait::eventually;

/// Long on a busy machine, and shorter than the hold time.
const AT_ONCE: Duration = Duration::from_secs(6);

/// The routes to node2's and node3's pods leave by these links, and by no others.
fn leaves_by(node1: &Container, links: &[&str]) -> Result<()> {
    for prefix in ["10.244.2.0/24", "fd00:10:244:3::/64"] {
        let route = node1.our_route(prefix)?;
        ensure!(route.devices() == links, "{route:?}");
    }
    Ok(())
}

/// The same, sooner or later.
fn comes_to_leave_by(node1: &Container, links: &[&str]) -> Result<()> {
    let what = format!("routes leave by {links:?}");
    eventually(CONVERGENCE, &what, || leaves_by(node1, links))
}

/// The link-local address of that interface.
fn link_local(node: &Container, interface: &str) -> Result<String> {
    let words = [
        "ip", "-6", "-json", "address", "show", "dev", interface, "scope", "link",
    ];
    let shown: Value = serde_json::from_str(&node.run(&words)?)?;
    let found = shown.as_array().into_iter().flatten().find_map(|link| {
        let address = link.pointer("/addr_info/0/local")?;
        Some(address.as_str()?.to_owned())
    });
    found.with_context(|| format!("{}: {interface} has none: {shown}", node.name))
}

/// Waits until the session with whoever is at the other end of that link is up, and he has this address.
fn is_with(node: &Container, name: &str, address: &str) -> Result<()> {
    eventually(CONVERGENCE, &format!("{name} is {address}"), || {
        let peer = peer(node, name)?;
        ensure!(at(&peer, "/address")? == address, "{peer:#}");
        Ok(())
    })?;
    is_up(node, name)
}

#[test]
fn a_restart_loses_no_packet_without_addresses_on_the_links() {
    story("unnumbered", |lab| {
        let cluster = lab.converged()?;
        let pods = cluster.pod_each()?;
        cluster.settled()?;
        let traffic = cluster.traffic(&pods)?;
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            lab.stop("node1", signal)?;
            lab.start("node1")?;
            cluster.settled()?;
        }
        traffic.unharmed()
    });
}

#[test]
fn a_router_is_followed_to_another_address_and_the_other_uplink_notices_nothing() {
    story("unnumbered", |lab| {
        let cluster = lab.converged()?;
        let (node1, tor1) = (cluster.member("node1")?.container, lab.node("tor1")?);
        let before = link_local(tor1, "eth1")?;
        is_with(node1, "tor/eth1", &before)?;
        let steady = Steady::session(node1, "tor/eth2")?;
        comes_to_leave_by(node1, &["eth1", "eth2"])?;

        // Another address on the same link, which nobody sees go down.
        let tor1_eth1 = |words: &[&str]| {
            let all = [&["ip", "-6", "address"], words, &["dev", "eth1"]].concat();
            tor1.run(&all).map(drop)
        };
        tor1_eth1(&["add", "fe80::77/64"])?;
        tor1_eth1(&["del", &format!("{before}/64")])?;
        is_with(node1, "tor/eth1", "fe80::77")?;
        comes_to_leave_by(node1, &["eth1", "eth2"])?;

        // Another switch in the place of the old one.
        for words in ["down", "address 02:00:5e:10:00:01", "up"] {
            let mut all = vec!["ip", "link", "set", "eth1"];
            all.extend(words.split(' '));
            tor1.run(&all)?;
        }
        is_with(node1, "tor/eth1", "fe80::5eff:fe10:1")?;
        comes_to_leave_by(node1, &["eth1", "eth2"])?;
        steady.holds()
    });
}

#[test]
fn a_link_that_goes_takes_its_session_along_at_once_and_brings_it_back() {
    story("unnumbered", |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        comes_to_leave_by(node1, &["eth1", "eth2"])?;
        let steady = Steady::session(node1, "tor/eth2")?;

        node1.link("eth1", "down")?;
        eventually(AT_ONCE, "all goes by the other one", || {
            leaves_by(node1, &["eth2"])
        })?;
        complains(node1, "tor/eth1", &["eth1 is down or has no carrier"])?;
        node1.link("eth1", "up")?;
        is_up(node1, "tor/eth1")?;
        comes_to_leave_by(node1, &["eth1", "eth2"])?;

        // Under a name that nobody has asked for there is no peer on it.
        node1.link("eth1", "down")?;
        node1.run(&["ip", "link", "set", "eth1", "name", "spare"])?;
        node1.link("spare", "up")?;
        eventually(AT_ONCE, "the peer is gone with the name", || {
            let left = peers(node1)?;
            ensure!(!left.contains_key("tor/eth1"), "{:?}", left.keys());
            leaves_by(node1, &["eth2"])
        })?;
        node1.link("spare", "down")?;
        node1.run(&["ip", "link", "set", "spare", "name", "eth1"])?;
        node1.link("eth1", "up")?;
        is_up(node1, "tor/eth1")?;
        comes_to_leave_by(node1, &["eth1", "eth2"])?;
        steady.holds()
    });
}

/// The peer is on the interface that is called `uplink`.
fn on_uplink(files: &Path) -> Result<()> {
    let file = files.join("unnumbered/manifests/bgp.yaml");
    edit(&file, "interface: \"eth*\"", "interface: uplink")
}

#[test]
fn an_interface_that_is_not_there_is_waited_for() {
    story_with("unnumbered", on_uplink, |lab| {
        let node1 = lab.node("node1")?;
        complains(node1, "tor/uplink", &["there is no interface uplink"])?;
        node1.link("eth1", "down")?;
        node1.run(&["ip", "link", "set", "eth1", "name", "uplink"])?;
        node1.link("uplink", "up")?;
        is_up(node1, "tor/uplink")?;
        // It goes by the name of its interface, and by that of its address there.
        let address = link_local(lab.node("tor1")?, "eth1")?;
        for name in [
            "uplink".to_owned(),
            format!("{address}%uplink"),
            "tor".into(),
        ] {
            let shown = node1.routelet(&["peers", &name])?;
            ensure!(at(&shown, "/0/name")? == "tor/uplink", "{name}: {shown:#}");
        }
        Ok(())
    });
}

#[test]
fn bfd_and_gtsm_hold_over_link_local_addresses() {
    let watched = |files: &Path| {
        let file = files.join("unnumbered/manifests/bgp.yaml");
        edit(
            &file,
            "  peerASN: External\n",
            "  peerASN: External\n  ttlSecurity: 1\n  bfd: {minRxMs: 300, minTxMs: 300, multiplier: 3}\n",
        )?;
        edit(
            &files.join("unnumbered/tor1/frr.conf"),
            " neighbor NODES timers connect 1\n",
            " neighbor NODES timers connect 1\n neighbor NODES ttl-security hops 1\n neighbor NODES bfd\n",
        )
    };
    story_with("unnumbered", watched, |lab| {
        let node1 = lab.node("node1")?;
        is_up(node1, "tor/eth1")?;
        eventually(CONVERGENCE, "BFD is up, one hop away", || {
            let peer = peer(node1, "tor/eth1")?;
            ensure!(at(&peer, "/state")? == "Established", "{peer:#}");
            ensure!(at(&peer, "/bfd/state")? == "Up", "{peer:#}");
            ensure!(at(&peer, "/bfd/multihop")? == false, "{peer:#}");
            Ok(())
        })
    });
}

const PAIR: &str = "
name: pair
topology:
  kinds:
    linux:
      network-mode: none
      image: ghcr.io/routelet/routelet:latest
      sysctls:
        net.ipv6.conf.all.disable_ipv6: 0
        net.ipv6.conf.default.disable_ipv6: 0
        net.ipv4.ip_forward: 1
        net.ipv6.conf.all.forwarding: 1
        net.ipv6.conf.default.forwarding: 1
  nodes:
    node1:
      kind: linux
      binds: [\"pair/manifests:/etc/routelet\"]
      cmd: run --node node1 --config /etc/routelet
    node2:
      kind: linux
      binds: [\"pair/manifests:/etc/routelet\"]
      cmd: run --node node2 --config /etc/routelet
  links:
    - endpoints: [\"node1:eth1\", \"node2:eth1\"]
";

/// Two nodes on one link, each in an AS of its own.
fn pair() -> Result<Lab> {
    Lab::written("pair", |files| {
        let manifests = files.join("pair/manifests");
        std::fs::create_dir_all(&manifests)?;
        write(&files.join("pair.clab.yml"), PAIR)?;
        let node = |number: u8| {
            format!(
                "---
apiVersion: v1
kind: Node
metadata: {{name: node{number}}}
spec: {{podCIDRs: [10.244.{number}.0/24, \"fd00:10:244:{number}::/64\"]}}
status: {{addresses: [{{type: InternalIP, address: 10.0.0.{number}}}]}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPNode
metadata: {{name: node{number}}}
spec: {{asNumber: 6500{number}}}
"
            )
        };
        let rules = "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec:
  topology: External
  timers: {connectRetrySeconds: 1, holdSeconds: 9, keepaliveSeconds: 3}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: neighbor}
spec:
  autoDiscovery: {mode: Unnumbered, interface: eth1}
  peerASN: External
";
        let all = rules.to_owned() + &node(1) + &node(2);
        write(&manifests.join("bgp.yaml"), &all)
    })
}

/// Runs the routelet of a node again without the right to open raw sockets, as the manifests of the cluster have it.
fn without_net_raw(lab: &Lab, name: &str) -> Result<()> {
    lab.stop(name, Signal::SIGTERM)?;
    let words = format!(
        "setpriv --bounding-set=-net_raw --inh-caps=-net_raw routelet run --node {name} --config /etc/routelet"
    );
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    lab.spawn(name, &words)
}

#[test]
fn two_routelets_find_each_other_on_a_link_where_only_one_may_advertise_itself() {
    tell_in(pair(), |lab| {
        let (node1, node2) = (lab.node("node1")?, lab.node("node2")?);
        for (node, prefix) in [(node1, "10.244.2.0/24"), (node2, "10.244.1.0/24")] {
            is_up(node, "neighbor/eth1")?;
            eventually(CONVERGENCE, "its pods are known", || {
                let route = node.our_route(prefix)?;
                ensure!(route.devices() == ["eth1"], "{route:?}");
                Ok(())
            })?;
        }
        without_net_raw(lab, "node2")?;
        is_up(node2, "neighbor/eth1")?;
        is_up(node1, "neighbor/eth1")
    });
}

#[test]
fn who_cannot_advertise_itself_says_that_frr_will_not_find_it() {
    story("unnumbered", |lab| {
        lab.converged()?;
        let node1 = lab.node("node1")?;
        without_net_raw(lab, "node1")?;
        // FRR has heard of node1 before, and forgets it with the link.
        lab.node("tor1")?.link("eth1", "down")?;
        lab.node("tor1")?.link("eth1", "up")?;
        complains(node1, "tor/eth1", &["takes the capability NET_RAW"])?;
        is_up(node1, "tor/eth2")
    });
}
