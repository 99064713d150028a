//! Whatever becomes of the API server, sessions, routes and pings stay as they are: its store is gone, it does not answer, it comes back
//! with another certificate and no memory of any watch, and it does not take a daemon's token any more.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::container::Container;
use tests::kubernetes::{DAEMON, Needs, Server, TOLD, real_story};
use tests::scene::SWITCH;
use tests::segment::Segment;
use tests::story::{Steady, complaint, is_up};
use tests::wait::eventually;

const PEER: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: switch}
spec: {node: node1, peerAddress: 10.0.0.254, peerASN: 65001}
";

/// The switch ends its session with node1, or lets it come back.
fn switch(switch: &Container, line: &str) -> Result<()> {
    switch.vtysh_configure(&["router bgp 65001", line])
}

/// Waits until `routelet status` has these words.
fn tells(node: &Container, words: &str) -> Result<()> {
    let what = format!("{}: status tells that {words}", node.name);
    eventually(TOLD, &what, || {
        let told = node.output(&["routelet", "status"])?.stdout;
        ensure!(told.contains(words), "{told}");
        Ok(())
    })
}

/// Waits until the node has been told of this label of node1.
fn hears(node: &Container, label: &str) -> Result<()> {
    let what = format!("{} hears of {label}", node.name);
    eventually(TOLD, &what, || {
        let stored = std::fs::read_to_string(node.path("/var/lib/routelet/cluster.yaml"))?;
        ensure!(stored.contains(label), "not yet");
        Ok(())
    })
}

#[test]
fn nothing_that_befalls_the_api_server_changes_anything_on_a_node() {
    let segment = Segment::named("trouble")
        .nodes(2)
        .frr("switch", 254, SWITCH);
    real_story(Needs::Rights, segment, |lab, control| {
        let cluster = control.found(2)?;
        let pods = cluster.pod_each()?;
        control.apply(PEER)?;
        let node1 = cluster.member("node1")?.container;
        let node2 = cluster.member("node2")?.container;
        is_up(node1, "switch")?;
        control.says(
            "bgpnodes/node1",
            "SessionsEstablished",
            "True",
            "AllEstablished",
        )?;
        let traffic = cluster.traffic(&pods)?;
        let mesh = Steady::session(node1, "node2")?;
        let frr = lab.node("switch")?;

        // Its store is gone: what is asked of it ends in an error.
        control.end(Server::Etcd, Signal::SIGKILL)?;
        switch(frr, "neighbor NODES shutdown")?;
        eventually(TOLD, "the session ends", || {
            let told = complaint(node1, "switch")?;
            ensure!(!told.starts_with("Established"), "{told}");
            Ok(())
        })?;
        tells(node1, "has not answered since")?;
        control.launch(Server::Etcd)?;
        control.ready()?;
        control.says(
            "bgpnodes/node1",
            "SessionsEstablished",
            "False",
            "PeersDown",
        )?;

        // It takes requests and answers none.
        control.signal(Server::Api, Signal::SIGSTOP)?;
        switch(frr, "no neighbor NODES shutdown")?;
        is_up(node1, "switch")?;
        let session = Steady::session(node1, "switch")?;
        tells(node1, "has not answered since")?;
        control.signal(Server::Api, Signal::SIGCONT)?;
        control.ready()?;
        control.says(
            "bgpnodes/node1",
            "SessionsEstablished",
            "True",
            "AllEstablished",
        )?;

        // It comes back with another certificate, and knows neither where the watches were nor node1's token.
        control.displace("node1", DAEMON)?;
        control.end(Server::Api, Signal::SIGKILL)?;
        control.compact()?;
        control.renew_certificate()?;
        control.launch(Server::Api)?;
        control.ready()?;
        control.label("node1", "generation=second")?;
        hears(node2, "second")?;
        tells(node1, "does not accept the token")?;
        control.place("node1", DAEMON)?;
        hears(node1, "second")?;
        eventually(TOLD, "node1 complains of nothing any more", || {
            let told = node1.output(&["routelet", "status"])?;
            ensure!(!told.stdout.contains("API server"), "{}", told.stdout);
            Ok(())
        })?;

        session.holds()?;
        mesh.holds()?;
        traffic.unharmed()
    });
}
