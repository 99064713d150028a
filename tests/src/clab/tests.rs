use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Topology> {
    Topology::parse(text, Path::new("/tmp/x.clab.yml"))
}

fn refusal(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

const TWO: &str = "
name: two
topology:
  defaults: {env: {A: default, B: default}, exec: [echo defaults]}
  kinds: {linux: {image: 'alpine:3', env: {B: kind}, exec: [echo kind]}}
  groups: {g: {env: {C: group}, startup-delay: 2}}
  nodes:
    a: {kind: linux, group: g, env: {A: own}, exec: ['sh -c \"echo own\"']}
    b: {kind: linux, network-mode: 'container:a', labels: {x: y}}
  links:
    - endpoints: ['a:eth1', 'a:eth2']
    - {type: veth, mtu: 1500, endpoints: [{node: a, interface: eth3, mac: '02:00:00:00:00:01'}, {node: b, interface: eth4}]}
";

#[test]
fn a_node_inherits_from_group_kind_and_defaults() {
    let topology = parse(TWO).unwrap();
    let a = topology.node("a").unwrap();
    assert_eq!(a.image, "alpine:3");
    assert_eq!(
        a.env
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>(),
        ["A=own", "B=kind", "C=group"]
    );
    assert_eq!(
        a.exec,
        [
            vec!["echo", "defaults"],
            vec!["echo", "kind"],
            vec!["sh", "-c", "echo own"]
        ]
    );
    assert_eq!(a.startup_delay, 2);
    assert_eq!(topology.node("b").unwrap().network, Network::Of("a".into()));
    assert_eq!(topology.prefix, "clab-two-");
    assert_eq!(topology.links[0].mtu, 9500);
    assert_eq!(
        topology.links[1].ends[0].mac.as_deref(),
        Some("02:00:00:00:00:01")
    );
    assert_eq!(topology.notes.len(), 1, "{:?}", topology.notes);
}

#[test]
fn the_prefix_follows_containerlab() {
    assert_eq!(prefix_of(Some("x"), "lab"), "x-lab-");
    assert_eq!(prefix_of(Some(""), "lab"), "");
    assert_eq!(prefix_of(Some("__lab-name"), "lab"), "lab-");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let node = |fields: &str| {
        refusal(&format!(
            "name: x\ntopology: {{nodes: {{a: {{kind: linux, image: alpine, {fields}}}}}}}"
        ))
    };
    assert!(node("ports: ['80:80']").contains("cannot honour ports"));
    assert!(node("imagee: y").contains("imagee is not a field"));
    assert!(node("network-mode: host").contains("network-mode host"));
    assert!(node("network-mode: 'container:z'").contains("names z"));
    assert!(node("binds: ['./not-there:/etc/x']").contains("there is no"));
    assert!(refusal("name: x\ntopology: {nodes: {a: {kind: k8s-kind}}}").contains("not k8s-kind"));
    assert!(refusal("name: x\ntopology: {nodes: {a: {kind: linux}}}").contains("no image"));
    assert!(refusal("name: x\nextra: 1\ntopology: {nodes: {}}").contains("extra"));
    let link = |link: &str| {
        refusal(&format!(
            "name: x\ntopology: {{nodes: {{a: {{kind: linux, image: alpine}}}}, links: [{link}]}}"
        ))
    };
    assert!(link("{type: vxlan, endpoint: {}}").contains("not vxlan"));
    assert!(link("{endpoints: ['a:eth1', 'b:eth1']}").contains("no such node"));
    assert!(link("{endpoints: ['a:eth1', 'a:eth1']}").contains("used by two links"));
    assert!(link("{endpoints: ['a:eth0', 'a:eth1']}").contains("eth0"));
    assert!(link("{endpoints: ['a:eth1', 'a:eth2'], ipv4: [10.0.0.1/24]}").contains("ipv4"));
}

#[test]
fn every_shipped_topology_is_one_that_containerlab_and_the_runner_take() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".clab.yml") {
            let topology = Topology::read(&path).unwrap();
            assert_eq!(
                path.file_name().unwrap().to_string_lossy(),
                format!("{}.clab.yml", topology.name),
                "file and lab have one name"
            );
            assert!(
                topology.nodes.values().all(|node| node.kind == Kind::Linux),
                "{}: a bridge of the host is not made by containerlab",
                topology.name
            );
            assert!(
                topology.notes.is_empty(),
                "{}: {:?}",
                topology.name,
                topology.notes
            );
            for node in topology.nodes.values() {
                crate::program::Program::of(node).unwrap();
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 8);
}
