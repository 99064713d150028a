//! Sessions with a password from a Secret of the daemon's namespace: down while it is missing or of no use, up once it is there, and
//! still up after it was changed where both sides go along. No other session notices, no ping is lost, and nobody reads the
//! password anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::Lab;
use tests::capture::Capture;
use tests::container::Container;
use tests::converge::Cluster;
use tests::kubernetes::{ControlPlane, Needs, TOLD, real_story};
use tests::segment::Segment;
use tests::story::{Steady, complaint, established, is_up, peers};
use tests::wait::{always, eventually};

/// A switch (FRR, AS 65001) that dials node1 every second, without a password as yet.
const SWITCH: &str = "
router bgp 65001
 bgp router-id 10.0.0.254
 no bgp ebgp-requires-policy
 neighbor 10.0.0.1 remote-as 64512
 neighbor 10.0.0.1 timers 3 9
 neighbor 10.0.0.1 timers connect 1
exit
";

const PEER: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: switch}
spec: {node: node1, peerAddress: 10.0.0.254, peerASN: 65001, authSecretRef: {name: switch-md5}}
";

const MESH: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec: {meshPasswordRef: {name: mesh-md5}, timers: {holdSeconds: 60, keepaliveSeconds: 3}}
";

/// Long enough for the switch to dial several times.
const WHILE: Duration = Duration::from_secs(6);

/// Nothing else in a lab contains it, nor its base64, nor its octets as JSON.
const FIRST: &str = "Hush-the-first";
const SECOND: &str = "Hush-the-second";
const TRACES: [&str; 3] = ["Hush-", "SHVzaC", "72,117,115,104,45"];

/// Puts a key into a Secret of the daemon's namespace, beside those that it has.
fn secret(control: &ControlPlane<'_>, name: &str, key: &str, value: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": "routelet"}, "stringData": {key: value},
    });
    let words = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    control.kubectl_with(&words, &object.to_string()).map(drop)
}

fn switch_password(switch: &Container, word: &str) -> Result<()> {
    let line = format!("neighbor 10.0.0.1 password {word}");
    switch.vtysh_configure(&["router bgp 65001", &line])
}

/// Waits until the session is held down for this reason, and the cluster is told.
fn held_down(control: &ControlPlane<'_>, node1: &Container, because: &str) -> Result<()> {
    let what = format!("the session is held down: {because}");
    eventually(TOLD, &what, || {
        let told = complaint(node1, "switch")?;
        ensure!(told.contains(because), "it says: {told}");
        let message = control.says("bgppeers/switch", "Accepted", "False", "SecretMissing")?;
        ensure!(message.contains(because), "the BGPPeer says {message}");
        let told = control.says(
            "bgpnodes/node1",
            "ConfigurationValid",
            "False",
            "SecretMissing",
        )?;
        ensure!(told.contains(because), "the BGPNode says {told}");
        Ok(())
    })
}

/// Fails if anything that people read has the password in it.
fn kept(lab: &Lab, control: &ControlPlane<'_>, cluster: &Cluster<'_>) -> Result<()> {
    let ours = "bgpnodes,bgppeers,bgpconfigurations,events,pods";
    let mut read = vec![(
        "the API server".to_owned(),
        control.kubectl(&["get", ours, "-A", "-o", "yaml", "--show-managed-fields"])?,
    )];
    for member in &cluster.members {
        let mut note =
            |what: &str, text: String| read.push((format!("{} {what}", member.name), text));
        for words in [
            &["routelet", "status", "--dump"][..],
            &["routelet", "status", "-o", "json"],
            &["routelet", "peers", "-o", "json"],
            &["routelet", "events"],
            &["sh", "-c", "cat /var/lib/routelet/* /etc/cni/net.d/*"],
            &["curl", "-s", "http://127.0.0.1:9179/metrics"],
        ] {
            let done = member.container.output(words)?;
            ensure!(!done.stdout.is_empty(), "{words:?}: {done:?}");
            note(&words.join(" "), done.stdout + &done.stderr);
        }
        note("log", lab.said(&member.name));
    }
    for (place, text) in read {
        for trace in TRACES {
            ensure!(!text.contains(trace), "{place} tells {trace}");
        }
    }
    Ok(())
}

#[test]
fn a_switch_peers_with_the_password_of_a_secret_and_with_no_other() {
    let segment = Segment::named("secret").nodes(2).frr("switch", 254, SWITCH);
    real_story(Needs::Kubectl, segment, |lab, control| {
        let cluster = control.found(2)?;
        let pods = cluster.pod_each()?;
        let traffic = cluster.traffic(&pods)?;
        let node1 = cluster.member("node1")?.container;
        let mesh = Steady::session(node1, "node2")?;
        let switch = lab.node("switch")?;

        // The switch would take a session without a password. Nobody offers one.
        let file = lab.folder.join("unsecured.pcap");
        let wire = Capture::start(node1, "eth1", "tcp port 179 and host 10.0.0.254", &file)?;
        control.apply(PEER)?;
        held_down(control, node1, "there is no Secret switch-md5")?;
        control.event("SecretMissing", "bgppeer/switch")?;
        always(WHILE, "it stays down", || {
            let told = complaint(node1, "switch")?;
            ensure!(!told.starts_with("Established"), "it says: {told}");
            Ok(())
        })?;
        let wire = wire.stop()?;
        let dialled = wire.packets("src host 10.0.0.254 and tcp[tcpflags] & tcp-syn != 0")?;
        ensure!(
            dialled.len() > 2,
            "the switch has hardly dialled: {dialled:?}"
        );
        // Whoever dials in without it is told to cease.
        let dials = "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn";
        let opens = "tcp[((tcp[12] & 0xf0) >> 2) + 18] = 1";
        let offered = format!("src host 10.0.0.1 and ({dials} or {opens})");
        let offered = wire.packets(&offered)?;
        ensure!(offered.is_empty(), "node1 said {offered:?}");

        switch_password(switch, FIRST)?;
        secret(control, "switch-md5", "pass", FIRST)?;
        held_down(
            control,
            node1,
            "Secret switch-md5 has no key \"password\" (it has pass)",
        )?;
        secret(control, "switch-md5", "password", "")?;
        held_down(
            control,
            node1,
            "key \"password\" of Secret switch-md5 is empty",
        )?;
        secret(control, "switch-md5", "password", FIRST)?;
        is_up(node1, "switch")?;
        control.says("bgppeers/switch", "Accepted", "True", "Accepted")?;
        control.says("bgppeers/switch", "Established", "True", "AllEstablished")?;
        control.says("bgpnodes/node1", "ConfigurationValid", "True", "Valid")?;

        // Rotated: first there, then here; and the other way round. FRR ends a session whose password it is told.
        for (word, here_first) in [(SECOND, false), (FIRST, true)] {
            let before = sessions(node1)?;
            if here_first {
                secret(control, "switch-md5", "password", word)?;
                switch_password(switch, word)?;
            } else {
                switch_password(switch, word)?;
                secret(control, "switch-md5", "password", word)?;
            }
            anew(node1, &before)?;
        }

        // Rolled: with the old key at hand the session goes on, and comes back while the switch has only that.
        secret(control, "switch-md5", "password.previous", FIRST)?;
        let steady = Steady::session(node1, "switch")?;
        secret(control, "switch-md5", "password", SECOND)?;
        signed_with(node1, &["switch"], "previous")?;
        always(WHILE, "the session goes on", || steady.holds())?;
        let before = sessions(node1)?;
        switch.run(&["vtysh", "-c", "clear bgp 10.0.0.1"])?;
        anew(node1, &before)?;
        signed_with(node1, &["switch"], "previous")?;
        let before = sessions(node1)?;
        switch_password(switch, SECOND)?;
        anew(node1, &before)?;
        signed_with(node1, &["switch"], "current")?;
        let steady = Steady::session(node1, "switch")?;
        forget_previous(control, "switch-md5")?;
        secret(control, "switch-md5", "password", FIRST)?;
        switch_password(switch, FIRST)?;
        eventually(TOLD, "the session with the first password again", || {
            ensure!(steady.holds().is_err(), "it is still the same session");
            signed_with(node1, &["switch"], "current")
        })?;

        // Taken away from a session that is up: it goes down, and comes back with it.
        control.kubectl(&["delete", "secret", "-n", "routelet", "switch-md5"])?;
        held_down(control, node1, "there is no Secret switch-md5")?;
        secret(control, "switch-md5", "password", FIRST)?;
        is_up(node1, "switch")?;

        mesh.holds()?;
        kept(lab, control, &cluster)?;
        traffic.unharmed()
    });
}

/// Takes the key before it out of a Secret.
fn forget_previous(control: &ControlPlane<'_>, name: &str) -> Result<()> {
    let patch = r#"{"data":{"password.previous":null}}"#;
    let words = ["patch", "secret", "-n", "routelet", name, "--type=merge"];
    control
        .kubectl(&[&words[..], &["-p", patch]].concat())
        .map(drop)
}

/// Waits until these sessions are up and signed with the current key of their password, or with the previous one.
fn signed_with(node: &Container, names: &[&str], which: &str) -> Result<()> {
    let what = format!("{}: {names:?} signed with the {which} key", node.name);
    eventually(TOLD, &what, || {
        let peers = peers(node)?;
        for name in names {
            let peer = peers.get(*name).context("it is not a peer any more")?;
            let key = peer.pointer("/session/signedWith");
            ensure!(key == Some(&json!(which)), "{name}: {key:?}");
        }
        Ok(())
    })
}

/// Waits until the node has heard each of its peers twice more.
fn hears_all(node: &Container) -> Result<()> {
    let heard = || -> Result<BTreeMap<String, u64>> {
        let count = |peer: &Value| peer.pointer("/messages/messagesIn").and_then(Value::as_u64);
        let all = peers(node)?.into_iter();
        all.map(|(name, peer)| Ok((name, count(&peer).context("messagesIn")?)))
            .collect()
    };
    let before = heard()?;
    let what = format!("{} hears its peers", node.name);
    eventually(TOLD, &what, || {
        let now = heard()?;
        for (name, count) in &before {
            ensure!(now.get(name) > Some(&(count + 1)), "{name} is silent");
        }
        Ok(())
    })
}

/// How often each session of a node was up, but for those in the mesh of the story above.
fn sessions(node: &Container) -> Result<BTreeMap<String, u64>> {
    let mut all = established(node)?;
    if all.contains_key("switch") {
        all.retain(|name, _| name == "switch");
    }
    Ok(all)
}

/// Waits until each of these sessions has ended and is up again.
fn anew(node: &Container, before: &BTreeMap<String, u64>) -> Result<()> {
    let what = format!("{}: sessions with the new password", node.name);
    eventually(TOLD, &what, || {
        let now = sessions(node)?;
        for (name, times) in before {
            let now = now.get(name).context("it is not a peer any more")?;
            ensure!(now > times, "{name} was up {now} times");
            let told = complaint(node, name)?;
            ensure!(told.starts_with("Established"), "{name}: {told}");
        }
        Ok(())
    })
}

#[test]
fn the_mesh_takes_on_a_password_and_another_while_pods_talk() {
    real_story(
        Needs::Kubectl,
        Segment::named("mesh-secret").nodes(3),
        |lab, control| {
            let cluster = control.found(3)?;
            let pods = cluster.pod_each()?;
            let traffic = cluster.traffic(&pods)?;
            let node1 = cluster.member("node1")?.container;
            let file = lab.folder.join("mesh.pcap");
            let wire = Capture::start(node1, "eth1", "tcp port 179", &file)?;

            let all_anew = |change: &dyn Fn() -> Result<()>| {
                let mut before = Vec::new();
                for member in &cluster.members {
                    before.push(sessions(member.container)?);
                }
                change()?;
                for (member, before) in cluster.members.iter().zip(&before) {
                    anew(member.container, before)?;
                }
                anyhow::Ok(())
            };
            all_anew(&|| {
                secret(control, "mesh-md5", "password", FIRST)?;
                control.apply(MESH)
            })?;
            let signed = wire.stop()?.packets("tcp[tcpflags] & tcp-syn != 0")?;
            let signed = signed.iter().filter(|line| line.contains("md5")).count();
            ensure!(signed > 0, "no session of node1 began with a signature");
            ensure!(peers(node1)?.len() == 2);

            let mut steady = Vec::new();
            for member in &cluster.members {
                for name in peers(member.container)?.keys() {
                    steady.push((member.container, Steady::session(member.container, name)?));
                }
            }
            let all_signed = |which: &str| {
                for member in &cluster.members {
                    let all = peers(member.container)?;
                    let names: Vec<&str> = all.keys().map(String::as_str).collect();
                    signed_with(member.container, &names, which)?;
                    hears_all(member.container)?;
                }
                steady.iter().try_for_each(|(_, session)| session.holds())
            };
            // Everything on the wire of node1 is signed with this key, both ways.
            let only = |key: &str| {
                let wire = Capture::start(node1, "eth1", "tcp port 179", &file)?;
                hears_all(node1)?;
                let said = wire.stop()?.signed(key, "tcp port 179")?;
                let valid = said
                    .iter()
                    .filter(|line| line.contains("md5 valid"))
                    .count();
                ensure!(valid > 3 && valid == said.len(), "{valid} valid: {said:?}");
                Ok(())
            };
            // Rotated at a stroke: the sessions go over to the new key.
            secret(control, "mesh-md5", "password", SECOND)?;
            for (node, _) in &steady {
                eventually(TOLD, "the new key is known", || {
                    let told = serde_json::to_string(&peers(node)?)?;
                    let times = told.matches("signed with another key").count();
                    ensure!(times == 2, "{}: {times} sessions", node.name);
                    Ok(())
                })?;
            }
            all_signed("current")?;
            only(SECOND)?;
            // Rolled: they stay with the old one until that is taken away.
            secret(control, "mesh-md5", "password.previous", SECOND)?;
            secret(control, "mesh-md5", "password", FIRST)?;
            all_signed("previous")?;
            only(SECOND)?;
            forget_previous(control, "mesh-md5")?;
            all_signed("current")?;
            only(FIRST)?;
            kept(lab, control, &cluster)?;
            traffic.unharmed()
        },
    );
}
