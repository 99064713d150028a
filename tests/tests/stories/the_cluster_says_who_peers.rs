//! Who speaks to whom follows the objects of the cluster, and nothing that stays is touched: a switch for some nodes, reflectors by label.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::converge::Cluster;
use tests::kubernetes::{ours, story};
use tests::ping::{Sender, all_to_all};
use tests::scene::{SWITCH, SWITCH_OF_RACK, is_told_by};
use tests::segment::Segment;
use tests::story::{CONVERGENCE, Steady, peers};
use tests::wait::eventually;

/// The old topology stays for 20 s after the new one carries all.
const CROSSING: Duration = Duration::from_secs(120);

#[test]
fn a_switch_is_told_of_the_pods_of_its_rack() {
    let segment = Segment::named("rack").nodes(3).frr("switch", 254, SWITCH);
    story(segment, |lab, control| {
        let cluster = control.found(3)?;
        let pods = cluster.pod_each()?;
        let traffic = cluster.traffic(&pods)?;
        let mesh = Steady::session(cluster.member("node1")?.container, "node2")?;
        let switch = lab.node("switch")?;
        let rack = |nodes: &[u8]| {
            for (number, member) in (1..).zip(&cluster.members) {
                let is_in = nodes.contains(&number);
                let tellers = if is_in { vec![number] } else { vec![] };
                for cidr in &member.facts.pod_cidrs {
                    is_told_by(switch, cidr, &tellers)?;
                }
                let knows = peers(member.container)?.contains_key("switch");
                ensure!(knows == is_in, "{}: knows it: {knows}", member.name);
            }
            Ok(())
        };

        control.label("node1", "rack=r1")?;
        control.label("node2", "rack=r1")?;
        control.apply(SWITCH_OF_RACK)?;
        rack(&[1, 2])?;
        let inside: Vec<String> = pods[..2]
            .iter()
            .flat_map(|pod| pod.addresses.clone())
            .collect();
        eventually(CONVERGENCE, "the switch reaches their pods", || {
            let pairs = [(switch as &dyn Sender, inside.clone())];
            let unanswered = all_to_all(&pairs, 1)?;
            ensure!(unanswered.is_empty(), "{unanswered:?}");
            Ok(())
        })?;

        control.label("node3", "rack=r1")?;
        control.label("node1", "rack-")?;
        rack(&[2, 3])?;
        control.delete(&ours("bgppeers", "switch"))?;
        rack(&[])?;
        mesh.holds()?;
        traffic.unharmed()
    });
}

const REFLECTORS: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec: {topology: RouteReflector}
";
const IS_REFLECTOR: &str = "routelet.dev/route-reflector=true";
const IS_NONE: &str = "routelet.dev/route-reflector-";

/// Waits until every node speaks to the reflector and to nobody else, and the reflector to all; to all where there is none.
fn sessions(cluster: &Cluster<'_>, reflector: Option<&str>) -> Result<()> {
    let names: BTreeSet<&str> = cluster
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    eventually(CROSSING, "the topology is the one asked for", || {
        for member in &cluster.members {
            let own = member.name.as_str();
            let mut expected = match reflector {
                Some(reflector) if reflector != own => BTreeSet::from([reflector]),
                _ => names.clone(),
            };
            expected.remove(own);
            let peers = peers(member.container)?;
            let now: BTreeSet<&str> = peers.keys().map(String::as_str).collect();
            ensure!(now == expected, "{own} speaks to {now:?}");
        }
        Ok(())
    })?;
    cluster.settled()?;
    let missing = cluster.missing()?;
    ensure!(missing.is_empty(), "{}", missing.join(", "));
    Ok(())
}

#[test]
fn reflectors_by_label_take_over_from_the_mesh_and_give_back() {
    story(Segment::named("labels").nodes(3), |_, control| {
        let cluster = control.found(3)?;
        let pods = cluster.pod_each()?;
        let traffic = cluster.traffic(&pods)?;

        control.label("node1", IS_REFLECTOR)?;
        control.apply(REFLECTORS)?;
        sessions(&cluster, Some("node1"))?;

        // Nobody is a reflector any more: what was stays, and is complained of.
        control.label("node1", IS_NONE)?;
        for member in &cluster.members {
            let what = format!("{}: it is complained of", member.name);
            eventually(CONVERGENCE, &what, || {
                let status = member.container.routelet(&["status"])?.to_string();
                ensure!(status.contains("matches no node"), "{status}");
                Ok(())
            })?;
        }
        sessions(&cluster, Some("node1"))?;

        control.label("node2", IS_REFLECTOR)?;
        sessions(&cluster, Some("node2"))?;

        control.delete(&ours("bgpconfigurations", "default"))?;
        sessions(&cluster, None)?;
        traffic.unharmed()
    });
}
