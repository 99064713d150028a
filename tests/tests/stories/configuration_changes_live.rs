//! A change of configuration touches what changed, and nothing else: no session is reset, on either side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Lab;
use tests::container::Container;
use tests::scene::{self, BIRD, FRR, Transport};
use tests::segment::Segment;
use tests::story::{append, at, edit, established, is_up, peer, story, write};
use tests::wait::{always, eventually};

const LIVE: Duration = Duration::from_secs(10);
/// What a busy machine may need for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// node1 between FRR, which it knows, and BIRD, which it does not know yet.
fn between(name: &str) -> Segment {
    let manifest = scene::configuration("") + &scene::peer("frr", FRR, Transport::IPv4);
    scene::between(name, &manifest, Transport::IPv4)
}

/// What BIRD needs to become a peer.
fn bird() -> String {
    scene::peer("bird", BIRD, Transport::IPv4)
}

fn bgp(lab: &Lab) -> PathBuf {
    lab.manifests().join("bgp.yaml")
}

/// What both sides say of the session between node1 and FRR that changes when it is reset.
#[derive(Debug, PartialEq)]
struct Session {
    ours: Vec<Value>,
    theirs: Vec<Value>,
}

impl Session {
    fn with_frr(lab: &Lab) -> Result<Self> {
        is_up(lab.node("node1")?, "frr")?;
        let ours = peer(lab.node("node1")?, "frr")?;
        let theirs = neighbor(lab)?;
        Ok(Self {
            ours: ["/state", "/since", "/establishedCount"]
                .map(|field| ours.pointer(field).cloned().unwrap_or_default())
                .to_vec(),
            theirs: ["connectionsEstablished", "connectionsDropped"]
                .map(|field| theirs.get(field).cloned().unwrap_or_default())
                .to_vec(),
        })
    }

    fn untouched(&self, lab: &Lab) -> Result<()> {
        let now = Self::with_frr(lab)?;
        ensure!(
            *self == now,
            "the session with FRR was {self:?}, is {now:?}"
        );
        Ok(())
    }
}

/// FRR's own words on node1.
fn neighbor(lab: &Lab) -> Result<Value> {
    let shown = lab.node("frr")?.vtysh("show bgp neighbors 10.0.0.1 json")?;
    Ok(at(&shown, "/10.0.0.1")?.clone())
}

fn count(value: &Value, pointer: &str) -> Result<u64> {
    at(value, pointer)?.as_u64().context("a number")
}

fn has(node: &Container, prefix: &str) -> Result<()> {
    eventually(LIVE, &format!("{prefix} is there"), || {
        node.our_route(prefix).map(drop)
    })
}

fn has_not(node: &Container, prefix: &str) -> Result<()> {
    eventually(LIVE, &format!("{prefix} is gone"), || {
        node.no_route_of_ours(prefix)
    })
}

#[test]
fn a_peer_comes_and_goes() {
    between("comes").story(|lab| {
        let node1 = lab.node("node1")?;
        let session = Session::with_frr(lab)?;
        has(node1, "10.244.54.0/24")?;
        node1.no_route_of_ours("10.244.53.0/24")?;

        append(&bgp(lab), &bird())?;
        is_up(node1, "bird")?;
        has(node1, "10.244.53.0/24")?;
        session.untouched(lab)?;

        edit(&bgp(lab), &bird(), "")?;
        has_not(node1, "10.244.53.0/24")?;
        eventually(LIVE, "it is no peer any more", || {
            let left = established(node1)?;
            ensure!(left.keys().eq(["frr"]), "{left:?}");
            Ok(())
        })?;
        scene::bird_was_told(lab, "Peer de-configured")?;
        node1.our_route("10.244.54.0/24")?;
        session.untouched(lab)
    });
}

#[test]
fn policies_change_and_no_session_goes_down() {
    between("policies").story(|lab| {
        let (node1, frr) = (lab.node("node1")?, lab.node("frr")?);
        let session = Session::with_frr(lab)?;
        has(node1, "10.244.54.0/24")?;
        has(node1, "10.244.55.0/24")?;

        let rules = "  import:\n    rules:\n    - {match: {prefixes: [{cidr: 10.244.54.0/24}]}, action: Reject}\n    - {set: {localPreference: 321}, action: Accept}\n";
        append(&bgp(lab), rules)?;
        has_not(node1, "10.244.54.0/24")?;
        eventually(LIVE, "the other route has the new preference", || {
            let dump = node1.routelet(&["routes", "received", "frr"])?.to_string();
            ensure!(dump.contains("321"), "{dump}");
            node1.our_route("10.244.55.0/24").map(drop)
        })?;
        session.untouched(lab)?;
        edit(&bgp(lab), rules, "")?;
        has(node1, "10.244.54.0/24")?;
        session.untouched(lab)?;

        append(&bgp(lab), "  export: {policy: marked}\n---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPolicy\nmetadata: {name: marked}\nspec: {rules: [{match: {origin: PodCIDR}, set: {addCommunities: [\"65001:77\"], med: 5}, action: Accept}]}\n")?;
        let shown = |community: &str| {
            let shown = frr.vtysh("show bgp ipv4 unicast 10.244.1.0/24 json")?.to_string();
            ensure!(shown.contains(community), "{shown}");
            Ok(())
        };
        eventually(LIVE, "FRR sees the community", || shown("65001:77"))?;
        session.untouched(lab)?;
        // The policy alone, in an object of its own.
        edit(&bgp(lab), "65001:77", "65001:78")?;
        eventually(LIVE, "FRR sees the new community", || shown("65001:78"))?;
        session.untouched(lab)
    });
}

#[test]
fn what_is_negotiated_waits_for_the_next_session() {
    between("waits").story(|lab| {
        let (node1, frr) = (lab.node("node1")?, lab.node("frr")?);
        let session = Session::with_frr(lab)?;
        has(node1, "10.244.54.0/24")?;

        append(
            &bgp(lab),
            "  timers: {holdSeconds: 33}\n  addPath: {sendMax: 4}\n",
        )?;
        eventually(PATIENCE, "the settings wait", || {
            let waiting = at(&peer(node1, "frr")?, "/session/waiting")?.clone();
            ensure!(
                waiting == json!(["timers.holdSeconds", "timers.keepaliveSeconds", "addPath"]),
                "{waiting}"
            );
            Ok(())
        })?;
        session.untouched(lab)?;
        let status = node1.output(&["routelet", "status"])?.stdout;
        ensure!(
            status.contains("1 with settings that wait for the next session"),
            "{status}"
        );

        frr.run(&["vtysh", "-c", "clear bgp ipv4 unicast 10.0.0.1"])?;
        eventually(PATIENCE, "the next session has them", || {
            let peer = peer(node1, "frr")?;
            ensure!(at(&peer, "/state")? == "Established", "{peer:#}");
            ensure!(at(&peer, "/session/holdSeconds")? == 33, "{peer:#}");
            ensure!(peer.pointer("/session/waiting").is_none(), "{peer:#}");
            Ok(())
        })?;
        has(node1, "10.244.54.0/24")
    });
}

#[test]
fn a_route_refresh_is_answered() {
    between("refresh").story(|lab| {
        let session = Session::with_frr(lab)?;
        let frr = lab.node("frr")?;
        eventually(LIVE, "FRR has node1's pods", || {
            let shown = frr.run(&["vtysh", "-c", "show bgp ipv4 unicast 10.244.1.0/24 json"])?;
            ensure!(shown.contains("65001"), "{shown}");
            Ok(())
        })?;
        let before = neighbor(lab)?;
        // Asked twice: what FRR drops now must come again, with the same session.
        for time in 1..=2 {
            frr.run(&["vtysh", "-c", "clear bgp ipv4 unicast 10.0.0.1 soft in"])?;
            eventually(LIVE, "it is all sent again", || {
                let after = neighbor(lab)?;
                let asked = count(&after, "/messageStats/routeRefreshSent")?;
                let told = count(&after, "/messageStats/updatesRecv")?;
                ensure!(
                    asked >= count(&before, "/messageStats/routeRefreshSent")? + time
                        && told >= count(&before, "/messageStats/updatesRecv")? + time,
                    "{asked} refreshes, {told} UPDATEs: {after:#}"
                );
                Ok(())
            })?;
        }
        session.untouched(lab)
    });
}

/// How often a session of node1's got what is counted there.
fn figure(node1: &Container, name: &str, pointer: &str) -> Result<u64> {
    count(&peer(node1, name)?, pointer)
}

#[test]
fn an_operator_orders_a_route_refresh() {
    between("orders").story(|lab| {
        let node1 = lab.node("node1")?;
        append(&bgp(lab), &bird())?;
        is_up(node1, "bird")?;
        let session = Session::with_frr(lab)?;
        has(node1, "10.244.54.0/24")?;
        has(node1, "10.244.53.0/24")?;
        const TOLD: &str = "/messages/updatesIn";

        let asked = count(&neighbor(lab)?, "/messageStats/routeRefreshRecv")?;
        for name in ["frr", "bird"] {
            let told = figure(node1, name, TOLD)?;
            let said = node1.run(&["routelet", "refresh", name])?;
            let expected = format!("{name}: asked for its IPv4 and IPv6 routes again");
            ensure!(said.trim() == expected, "{said}");
            eventually(PATIENCE, "its routes come again", || {
                let now = figure(node1, name, TOLD)?;
                ensure!(now > told, "{told} UPDATEs before, {now} now");
                Ok(())
            })?;
        }
        let now = count(&neighbor(lab)?, "/messageStats/routeRefreshRecv")?;
        ensure!(
            now == asked + 2,
            "FRR was asked {now} times, not {asked} + 2"
        );
        // BIRD marks the beginning and the end (RFC 7313).
        let shown = node1.run(&["routelet", "peers", "bird"])?;
        for word in ["ROUTE-REFRESH Begin IPv4", "ROUTE-REFRESH End IPv6"] {
            ensure!(shown.contains(word), "no {word}: {shown}");
        }

        let told = count(&neighbor(lab)?, "/messageStats/updatesRecv")?;
        node1.run(&[
            "routelet",
            "refresh",
            "10.0.0.254",
            "--out",
            "--family",
            "IPv4",
        ])?;
        eventually(PATIENCE, "FRR is told again", || {
            let now = count(&neighbor(lab)?, "/messageStats/updatesRecv")?;
            ensure!(now > told, "{told} UPDATEs before, {now} now");
            Ok(())
        })?;

        let refused = |peer: &str, words: &str| {
            let answer = node1.output(&["routelet", "refresh", peer])?;
            let said = answer.stderr.clone();
            ensure!(answer.code == 2 && said.contains(words), "{peer}: {said}");
            Ok(())
        };
        refused("fr", "there is no peer fr; there are bird, frr")?;
        append(&bgp(lab), "  shutdown: {message: rest}\n")?;
        eventually(PATIENCE, "BIRD's session ends", || {
            refused("bird", "bird: it is not Established")
        })?;
        node1.our_route("10.244.54.0/24")?;
        session.untouched(lab)
    });
}

#[test]
fn a_pod_cidr_changes() {
    story("mesh", |lab| {
        let cluster = lab.converged()?;
        let counts = |name: &str| established(cluster.member(name)?.container);
        let before = (counts("node1")?, counts("node3")?);
        let nodes = lab.manifests().join("nodes.yaml");
        let moved = [
            ("10.244.33.0/24", "10.244.3.0/24"),
            ("fd00:10:244:33::/64", "fd00:10:244:3::/64"),
        ];
        let text = std::fs::read_to_string(&nodes)?;
        write(
            &nodes,
            &moved
                .iter()
                .fold(text, |text, (new, old)| text.replace(old, new)),
        )?;
        for name in ["node1", "node2"] {
            let node = cluster.member(name)?.container;
            for (new, old) in moved {
                has(node, new)?;
                has_not(node, old)?;
            }
        }
        let node3 = cluster.member("node3")?.container;
        for (what, shown_by) in [
            ("conflist", "cat /etc/cni/net.d/10-routelet.conflist"),
            (
                "blackholes",
                "ip route show type blackhole; ip -6 route show type blackhole",
            ),
        ] {
            eventually(LIVE, &format!("the new CIDRs are in the {what}"), || {
                let text = node3.sh(shown_by)?;
                for (new, old) in moved {
                    ensure!(text.contains(new) && !text.contains(old), "{text}");
                }
                Ok(())
            })?;
        }
        ensure!(
            before == (counts("node1")?, counts("node3")?),
            "a session was reset"
        );
        Ok(())
    });
}

/// What `routelet status` shows of the configuration's faults.
fn told(node: &Container, words: &[&str]) -> Result<()> {
    eventually(LIVE, &format!("status tells of {words:?}"), || {
        let shown = node.output(&["routelet", "status"])?;
        ensure!(
            shown.code == 1,
            "it ended with {}: {}",
            shown.code,
            shown.stdout
        );
        for word in words {
            ensure!(shown.stdout.contains(word), "no {word}: {}", shown.stdout);
        }
        Ok(())
    })
}

fn healthy(node: &Container) -> Result<()> {
    eventually(LIVE, "status is healthy again", || {
        let shown = node.output(&["routelet", "status"])?;
        ensure!(shown.code == 0, "{}", shown.stdout);
        Ok(())
    })
}

#[test]
fn a_broken_file_changes_nothing_and_is_shown_with_its_place() {
    between("broken").story(|lab| {
        let node1 = lab.node("node1")?;
        let session = Session::with_frr(lab)?;
        has(node1, "10.244.54.0/24")?;
        healthy(node1)?;
        // The good part of a file that is broken elsewhere does not count either: nobody knows what was meant.
        let broken = [
            (
                "metadata: {name: extra}\nspec: {peerAddres: 10.0.0.9, peerASN: 1}\n",
                vec!["bgp.yaml:19:8", "peerAddres", "peerAddress"],
            ),
            ("metadata: {name: extra\n", vec!["bgp.yaml:"]),
            (
                "metadata: {name: extra}\nspec: {peerAddress: 10.0.0.999, peerASN: 1}\n",
                vec!["bgp.yaml:19:21", "peerAddress"],
            ),
        ];
        for (text, words) in broken {
            let text = format!("---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\n{text}");
            append(&bgp(lab), &text)?;
            told(node1, &words)?;
            always(Duration::from_millis(500), "what ran keeps running", || {
                node1.our_route("10.244.54.0/24").map(drop)
            })?;
            session.untouched(lab)?;
            edit(&bgp(lab), &text, "")?;
            healthy(node1)?;
        }
        // No file at all.
        let (there, away) = (bgp(lab), lab.manifests().join("bgp.yaml-away"));
        std::fs::rename(&there, &away)?;
        std::fs::rename(
            lab.manifests().join("node1.yaml"),
            lab.manifests().join("node1.yaml-away"),
        )?;
        told(node1, &["node1"])?;
        node1.our_route("10.244.54.0/24")?;
        session.untouched(lab)?;
        std::fs::rename(
            lab.manifests().join("node1.yaml-away"),
            lab.manifests().join("node1.yaml"),
        )?;
        std::fs::rename(&away, &there)?;
        healthy(node1)?;
        session.untouched(lab)
    });
}

/// Puts the manifests as the kubelet mounts a ConfigMap: names that point through `..data` into a folder that is swapped.
fn swap(folder: &Path, generation: &str, text: &str) -> Result<()> {
    let fresh = folder.join(format!("..{generation}"));
    std::fs::create_dir(&fresh)?;
    std::fs::write(fresh.join("bgp.yaml"), text)?;
    let next = folder.join("..data_tmp");
    std::os::unix::fs::symlink(format!("..{generation}"), &next)?;
    std::fs::rename(&next, folder.join("..data"))?;
    Ok(())
}

#[test]
fn a_signal_and_a_swapped_link_are_changes_too() {
    between("swapped").story(|lab| {
        let (node1, folder) = (lab.node("node1")?, lab.manifests());
        let session = Session::with_frr(lab)?;
        let without = std::fs::read_to_string(bgp(lab))?;
        let with = without.clone() + &bird();
        swap(&folder, "first", &without)?;
        std::os::unix::fs::symlink("..data/bgp.yaml", folder.join("link.yaml"))?;
        std::fs::remove_file(bgp(lab))?;
        std::fs::rename(folder.join("link.yaml"), bgp(lab))?;
        session.untouched(lab)?;
        swap(&folder, "second", &with)?;
        is_up(node1, "bird")?;
        session.untouched(lab)?;
        swap(&folder, "third", &without)?;
        eventually(LIVE, "it is no peer any more", || {
            let left = established(node1)?;
            ensure!(left.keys().eq(["frr"]), "{left:?}");
            Ok(())
        })?;
        session.untouched(lab)?;
        // Written through the link, without a new name or folder; the signal says when.
        std::fs::write(folder.join("..third/bgp.yaml"), &with)?;
        lab.signal("node1", Signal::SIGHUP)?;
        is_up(node1, "bird")?;
        for _ in 0..3 {
            lab.signal("node1", Signal::SIGHUP)?;
        }
        session.untouched(lab)?;
        ensure!(
            established(node1)?.values().all(|count| *count == 1),
            "a session was reset: {:?}",
            established(node1)?
        );
        Ok(())
    });
}
