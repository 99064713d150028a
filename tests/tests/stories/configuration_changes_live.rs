//! A change of configuration touches what changed: other sessions stay, other routes stay.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Lab;
use tests::container::Container;
use tests::story::{CONVERGENCE, append, edit, established, peer, story};
use tests::wait::{always, eventually};

const LIVE: Duration = Duration::from_secs(10);

/// No session that was there `before` was established again.
fn untouched(node: &Container, before: &BTreeMap<String, u64>) -> Result<()> {
    let now = established(node)?;
    for (name, count) in before {
        ensure!(
            now.get(name) == Some(count),
            "{}: {name} was established {count} times before, now {:?}",
            node.name,
            now.get(name)
        );
    }
    Ok(())
}

fn bgp(lab: &Lab) -> std::path::PathBuf {
    lab.manifests().join("bgp.yaml")
}

#[test]
fn a_peer_is_added_and_removed() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        let before = established(node1)?;
        let extra = "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: extra}\nspec: {node: node1, peerAddress: 10.0.0.2, peerASN: 65002}\n---\n\
                     apiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: extra-back}\nspec: {node: node2, peerAddress: 10.0.0.1, peerASN: 65001}\n";
        append(&bgp(lab), extra)?;
        eventually(CONVERGENCE, "the new session is up", || {
            ensure!(
                peer(node1, "extra")?
                    .get("state")
                    .is_some_and(|state| state == "Established"),
                "not yet"
            );
            Ok(())
        })?;
        untouched(node1, &before)?;
        edit(&bgp(lab), extra, "")?;
        eventually(LIVE, "the session is gone", || {
            ensure!(!established(node1)?.contains_key("extra"), "still there");
            Ok(())
        })?;
        untouched(node1, &before)?;
        cluster.converge(Duration::from_secs(1))
    });
}

#[test]
fn an_import_policy_changes_without_a_session_going_down() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        let before = established(node1)?;
        let policy = "  families: [IPv4]\n  import:\n    rules:\n    - {match: {prefixes: [{cidr: 10.244.2.0/24}]}, action: Reject}\n    - {match: {prefixes: [{cidr: 10.244.0.0/16, maxLength: 24}]}, action: Accept}\n";
        edit(&bgp(lab), "  families: [IPv4]\n", policy)?;
        eventually(LIVE, "node2's pods are refused", || {
            node1.no_route_of_ours("10.244.2.0/24")
        })?;
        node1.our_route("10.244.3.0/24")?;
        edit(&bgp(lab), policy, "  families: [IPv4]\n")?;
        eventually(LIVE, "node2's pods are back", || {
            node1.our_route("10.244.2.0/24")
        })?;
        untouched(node1, &before)?;
        for member in &cluster.members {
            ensure!(
                established(member.container)?
                    .values()
                    .all(|count| *count == 1),
                "{}: a session was reset",
                member.name
            );
        }
        Ok(())
    });
}

#[test]
fn an_export_policy_changes_without_a_session_going_down() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let tor = lab.node("tor")?;
        let before = established(cluster.member("node1")?.container)?;
        edit(
            &bgp(lab),
            "  families: [IPv4]\n",
            "  families: [IPv4]\n  export: {rules: [{match: {origin: PodCIDR}, set: {addCommunities: [\"65000:77\"]}, action: Accept}]}\n",
        )?;
        eventually(LIVE, "FRR sees the community", || {
            let shown = tor.run(&["vtysh", "-c", "show bgp ipv4 unicast 10.244.1.0/24 json"])?;
            ensure!(shown.contains("65000:77"), "{shown}");
            Ok(())
        })?;
        untouched(cluster.member("node1")?.container, &before)
    });
}

#[test]
fn a_pod_cidr_changes() {
    story("mesh", |lab| {
        let cluster = lab.converged()?;
        let before = established(cluster.member("node1")?.container)?;
        edit(
            &lab.manifests().join("nodes.yaml"),
            "10.244.3.0/24",
            "10.244.33.0/24",
        )?;
        for name in ["node1", "node2"] {
            let node = cluster.member(name)?.container;
            eventually(LIVE, "the new CIDR is there, the old one gone", || {
                node.our_route("10.244.33.0/24")?;
                node.no_route_of_ours("10.244.3.0/24")
            })?;
        }
        let node3 = cluster.member("node3")?.container;
        eventually(LIVE, "the conflist has the new CIDR", || {
            let text = node3.run(&["cat", "/etc/cni/net.d/10-routelet.conflist"])?;
            ensure!(
                text.contains("10.244.33.0/24") && !text.contains("10.244.3.0/24"),
                "{text}"
            );
            Ok(())
        })?;
        untouched(cluster.member("node1")?.container, &before)
    });
}

#[test]
fn a_broken_manifest_changes_nothing() {
    story("mesh", |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        let before = established(node1)?;
        append(
            &bgp(lab),
            "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: broken}\nspec: {peerAddres: 10.0.0.9, peerASN: 1}\n",
        )?;
        eventually(LIVE, "status tells of the unknown field", || {
            let told = node1.routelet(&["status", "--dump"])?.to_string();
            ensure!(told.contains("peerAddres"), "{told}");
            Ok(())
        })?;
        always(Duration::from_secs(2), "everything stays", || {
            let missing = cluster.missing()?;
            ensure!(missing.is_empty(), "{missing:?}");
            untouched(node1, &before)
        })
    });
}

#[test]
fn a_cordoned_node_asks_to_be_avoided() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let tor = lab.node("tor")?;
        let before = established(cluster.member("node3")?.container)?;
        let nodes = lab.manifests().join("nodes.yaml");
        let open = "  podCIDRs: [10.244.3.0/24";
        let cordoned = "  unschedulable: true\n  podCIDRs: [10.244.3.0/24";
        let shown = |prefix: &str| {
            tor.run(&[
                "vtysh",
                "-c",
                &format!("show bgp ipv4 unicast {prefix} json"),
            ])
        };
        edit(&nodes, open, cordoned)?;
        eventually(LIVE, "FRR sees GRACEFUL_SHUTDOWN on node3's pods", || {
            let shown = shown("10.244.3.0/24")?;
            ensure!(shown.contains("graceful-shutdown"), "{shown}");
            Ok(())
        })?;
        ensure!(
            !shown("10.244.2.0/24")?.contains("graceful-shutdown"),
            "node2 is not cordoned"
        );
        // Theirs is the only path: the pods stay reachable.
        cluster.converge(Duration::from_secs(1))?;
        edit(&nodes, cordoned, open)?;
        eventually(LIVE, "it is gone again", || {
            let shown = shown("10.244.3.0/24")?;
            ensure!(!shown.contains("graceful-shutdown"), "{shown}");
            Ok(())
        })?;
        untouched(cluster.member("node3")?.container, &before)
    });
}
