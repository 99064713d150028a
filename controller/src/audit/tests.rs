use std::{collections::BTreeMap, path::Path, time::SystemTime};

use bgp::status::{MessageCounts, SessionState};

use super::*;
use crate::{
    cluster::{Cluster, files},
    desired::{Facts, desired},
};

/// Three nodes in a full mesh, seen from node1.
const MESH: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 10.0.0.2}]}
---
apiVersion: v1
kind: Node
metadata: {name: node3}
spec: {podCIDRs: [10.244.3.0/24]}
status: {addresses: [{type: InternalIP, address: 10.0.0.3}]}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec:
  podNetwork: {clusterCIDRs: [10.244.0.0/16]}
"#;

struct Scene {
    desired: Desired,
    peers: BTreeMap<String, PeerStatus>,
    reach: Vec<Reach>,
    kernel: Vec<fib::RouteStatus>,
}

impl Scene {
    /// Every session is up, nothing has been heard.
    fn new() -> Self {
        let mut cluster = Cluster::default();
        files::add_file(Path::new("mesh.yaml"), MESH, &mut cluster, &mut Vec::new());
        let desired = desired(&cluster, "node1", &Facts::default());
        let peers = desired.speaker.peers.iter();
        let peers = peers
            .map(|(name, config)| (name.clone(), peer(name, config.address)))
            .collect();
        Self {
            desired,
            peers,
            reach: Vec::new(),
            kernel: Vec::new(),
        }
    }

    /// … and both others are reached as they should be.
    fn well() -> Self {
        let mut scene = Self::new();
        scene.reached("10.244.2.0/24", "node2", "10.0.0.2");
        scene.reached("10.244.3.0/24", "node3", "10.0.0.3");
        scene
    }

    fn reached(&mut self, prefix: &str, from: &str, next_hop: &str) {
        self.reach.push(Reach {
            prefix: prefix.parse().unwrap(),
            from: Some(from.into()),
            next_hops: vec![next_hop.parse().unwrap()],
            refused: None,
        });
    }

    fn audit(&self) -> Audit {
        audit(&Evidence {
            desired: &self.desired,
            peers: Some(&self.peers),
            reach: &self.reach,
            kernel: Some(&self.kernel),
        })
    }

    fn words(&self) -> Vec<String> {
        let findings = self.audit().findings;
        findings
            .iter()
            .map(|finding| finding.problem().to_string())
            .collect()
    }
}

fn peer(name: &str, address: IpAddr) -> PeerStatus {
    PeerStatus {
        interface: None,
        name: name.into(),
        address,
        asn: Some(64512),
        local_asn: 64512,
        kind: None,
        mesh: true,
        state: SessionState::Established,
        since: SystemTime::UNIX_EPOCH,
        established_count: 1,
        last_error: None,
        hint: None,
        last_notification: None,
        session: None,
        bfd: None,
        families: BTreeMap::new(),
        messages: MessageCounts::default(),
        recorder: Vec::new(),
    }
}

#[test]
fn a_node_that_reaches_all_others_finds_nothing() {
    let audit = Scene::well().audit();
    assert_eq!(audit.findings, []);
    assert_eq!(audit.summary(), "2 of 2 pod CIDRs of other nodes routed");
}

#[test]
fn nothing_is_expected_before_the_initial_routes_are_in() {
    let scene = Scene::new();
    assert!(!expects(&scene.desired, false) && expects(&scene.desired, true));
}

#[test]
fn what_differs_is_the_same_without_asking_any_peer() {
    let mut scene = Scene::well();
    scene.reach.remove(0);
    let whole = scene.audit();
    let bare = audit(&Evidence {
        desired: &scene.desired,
        peers: None,
        reach: &scene.reach,
        kernel: Some(&scene.kernel),
    });
    assert_eq!(
        (bare.missing, bare.wrong, bare.extra),
        (whole.missing, whole.wrong, whole.extra)
    );
}

#[test]
fn what_nobody_announces_is_missing() {
    let mut scene = Scene::well();
    scene.reach.remove(0);
    assert_eq!(
        scene.words(),
        [
            "warning: Node node2: no route to its pod CIDR 10.244.2.0/24: node2 does not announce it: look at routelet status on that node"
        ]
    );
    assert_eq!(
        scene.audit().summary(),
        "1 of 2 pod CIDRs of other nodes routed, 1 missing"
    );
}

#[test]
fn a_session_that_is_down_explains_what_is_missing() {
    let mut scene = Scene::well();
    scene.reach.remove(0);
    for peer in scene.peers.values_mut().take(1) {
        peer.state = SessionState::Active;
    }
    let audit = scene.audit();
    assert_eq!(audit.missing, 1);
    let [finding] = audit.findings.as_slice() else {
        panic!("{audit:?}")
    };
    assert!(
        finding.explained
            && finding
                .because
                .contains("no session with the node (Active)")
    );
    assert_eq!(lasting(&audit.findings, &audit), []);
}

#[test]
fn a_wider_route_serves_where_there_is_no_other() {
    let mut scene = Scene::new();
    scene.reached("10.244.0.0/16", "tor", "10.0.0.254");
    assert_eq!(scene.audit().findings, []);
}

#[test]
fn what_is_refused_says_why_it_is_missing() {
    let mut scene = Scene::well();
    scene.reach[0] = Reach {
        next_hops: Vec::new(),
        refused: Some(Refused {
            from: "node3".into(),
            why: "origin check: …".into(),
        }),
        ..scene.reach[0].clone()
    };
    assert_eq!(
        scene.words(),
        [
            "warning: Node node2: no route to its pod CIDR 10.244.2.0/24: node3 announces it, but it is refused: origin check: …"
        ]
    );
}

#[test]
fn a_route_that_leads_to_another_node_is_wrong() {
    let mut scene = Scene::well();
    scene.reach[0].next_hops = vec!["10.0.0.3".parse().unwrap()];
    let audit = scene.audit();
    assert_eq!((audit.wrong, audit.missing), (1, 0));
    assert_eq!(
        scene.words(),
        [
            "warning: Node node2: its pod CIDR 10.244.2.0/24 is not routed to it: its route, from node2, leads to node node3 (10.0.0.3): look at what that peer announces"
        ]
    );
}

#[test]
fn what_is_not_in_the_kernel_is_missing_and_what_gave_way_to_a_foreign_route_is_wrong() {
    let mut scene = Scene::well();
    let stands = |prefix: &str, state| fib::RouteStatus {
        prefix: prefix.parse().unwrap(),
        next_hops: Vec::new(),
        kernel: None,
        state,
    };
    let reason = "a reason".to_owned();
    scene.kernel = vec![
        stands(
            "10.244.2.0/24",
            RouteState::Unresolved {
                reason: reason.clone(),
            },
        ),
        stands(
            "10.244.3.0/24",
            RouteState::Refused {
                kind: "foreign-route",
                reason,
            },
        ),
    ];
    let audit = scene.audit();
    assert_eq!((audit.missing, audit.wrong), (1, 1));
    scene.kernel = vec![stands("10.244.2.0/24", RouteState::Pending)];
    assert_eq!(
        scene.audit().findings,
        [],
        "what is on its way is not missed"
    );
}

#[test]
fn a_route_inside_the_pod_network_that_no_node_owns_is_extra() {
    let mut scene = Scene::well();
    scene.reached("10.244.77.0/24", "tor", "10.0.0.254");
    scene.reached("10.244.0.0/16", "tor", "10.0.0.254");
    scene.reached("10.244.2.0/23", "tor", "10.0.0.254");
    scene.reached("192.0.2.0/24", "tor", "10.0.0.254");
    let audit = scene.audit();
    assert_eq!(audit.extra, 1);
    assert_eq!(audit.findings[0].prefix.to_string(), "10.244.77.0/24");
}

#[test]
fn only_the_first_of_many_findings_are_told_but_all_are_counted() {
    let mut scene = Scene::well();
    for third in 100..200 {
        scene.reached(&format!("10.244.{third}.0/24"), "tor", "10.0.0.254");
    }
    let audit = scene.audit();
    assert_eq!(lasting(&audit.findings, &audit).len(), TOLD + 1);
    let audit = audit.abridged();
    assert_eq!((audit.extra, audit.findings.len()), (100, TOLD));
}
