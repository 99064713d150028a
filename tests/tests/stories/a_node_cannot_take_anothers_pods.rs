//! A route for a node's pods counts only if it leads to that node: whatever a switch or another node announces, packets for them
//! go on arriving, and what was refused is counted and explained. What is missing is said, once it lasts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::container::Container;
use tests::kubernetes;
use tests::segment::{Segment, addresses};
use tests::story::{
    CONVERGENCE, Steady, append, at, at_most_lost, edit, peer, stop, story_with, streams,
};
use tests::wait::eventually;

const PODS: &str = "10.244.2.0/24";
const PART: &str = "10.244.2.0/25";

/// Nodes that speak to each other and to the switch.
fn mesh_beside_the_switch(files: &Path) -> Result<()> {
    edit(
        &files.join("tor-frr/manifests/bgp.yaml"),
        "  topology: External",
        "  topology: Mesh",
    )
}

/// The switch announces node2's pods with node3 as next hop, and a half of them with itself.
const HIJACK: [&str; 11] = [
    "ip prefix-list pods seq 5 permit 10.244.2.0/24",
    "route-map astray permit 10",
    "match ip address prefix-list pods",
    "set ip next-hop 10.0.0.3",
    "route-map astray permit 20",
    "exit",
    "router bgp 65000",
    "no bgp network import-check",
    "address-family ipv4 unicast",
    "network 10.244.2.0/25",
    "neighbor NODES4 route-map astray out",
];

/// Waits until a route from `from` is refused with these words.
fn refused(node: &Container, from: &str, prefix: &str, because: &str) -> Result<()> {
    let what = format!("{}: {prefix} from {from} is refused", node.name);
    eventually(CONVERGENCE, &what, || {
        let shown = node.routelet(&["routes", "received", from, "--prefix", prefix])?;
        let fate = at(&shown, "/routes/0/fate")?;
        ensure!(at(fate, "/is")? == "refused", "{fate}");
        let why = at(fate, "/because")?.as_str().context("words")?;
        ensure!(why == because, "refused because {why}");
        node.no_route_of_ours(prefix).or_else(|_| {
            let leads = node.our_route(prefix)?.gateway;
            ensure!(
                leads.as_deref() == Some("10.0.0.2"),
                "{prefix} leads to {leads:?}"
            );
            Ok(())
        })
    })
}

fn counted(node: &Container, from: &str) -> Result<u64> {
    let peer = peer(node, from)?;
    at(&peer, "/families/IPv4/refusedByOrigin")?
        .as_u64()
        .context("a number")
}

/// Whether events or problems of a node tell of something.
fn tells(node: &Container, command: &str, words: &[&str]) -> Result<()> {
    let told = node.routelet(&[command])?.to_string();
    for word in words {
        ensure!(
            told.contains(word),
            "{command} does not tell of {word}: {told}"
        );
    }
    Ok(())
}

fn explained(node: &Container, query: &str) -> Result<Value> {
    node.routelet(&["explain", query])
}

#[test]
fn a_switch_that_announces_a_nodes_pods_elsewhere_is_refused() {
    story_with("tor-frr", mesh_beside_the_switch, |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        let session = Steady::session(node1, "tor-ipv4")?;
        let pods = cluster.pods()?;
        cluster.reach(&pods, CONVERGENCE)?;
        let pings = streams(&pods, Duration::from_millis(20))?;

        lab.node("tor")?.vtysh_configure(&HIJACK)?;
        let astray = "origin check: 10.244.2.0/24 belongs to node2 (10.0.0.2, fd00:10::2): next hop 10.0.0.3 is node3";
        let part = "origin check: it lies in 10.244.2.0/24, which belongs to node2 (10.0.0.2, fd00:10::2): a part of it counts only from node2 itself";
        let all_is_refused = || {
            refused(node1, "tor-ipv4", PODS, astray)?;
            refused(node1, "tor-ipv4", PART, part)?;
            ensure!(counted(node1, "tor-ipv4")? == 2, "2 are to be counted");
            Ok(())
        };
        all_is_refused()?;
        tells(node1, "events", &["refused by the origin check"])?;
        tells(
            node1,
            "status",
            &["2 of its routes are refused by the origin check"],
        )?;
        let pod = explained(node1, "10.244.2.7")?;
        ensure!(at(&pod, "/healthy")? == true, "{pod:#}");
        ensure!(at(&pod, "/speaker/passedOver/0/prefix")? == PART, "{pod:#}");
        let half = explained(node1, PART)?;
        let verdict = at(&half, "/verdict")?.to_string();
        ensure!(verdict.contains(part), "{verdict}");

        // An import that lets everything in lets this in no more; nor does the change cost the session.
        edit(
            &lab.manifests().join("bgp.yaml"),
            "  families: [IPv4]\n",
            "  families: [IPv4]\n  import: {rules: [{action: Accept}]}\n",
        )?;
        eventually(CONVERGENCE, "the import is another one", || {
            tells(node1, "events", &["configuration taken over"])
        })?;
        all_is_refused()?;
        session.holds()?;
        let status = node1.routelet(&["status"])?;
        let audit = at(&status, "/audit")?;
        ensure!(
            at(audit, "/expected")? == 4 && at(audit, "/findings")? == &serde_json::json!([]),
            "{audit}"
        );
        at_most_lost(&stop(pings)?, 0)
    });
}

#[test]
fn a_node_that_announces_anothers_pods_is_refused() {
    // routelet itself refuses to announce the pods of another node. This one is made to believe that node2 has none.
    let apart = |files: &Path| {
        let greedy = files.join("mesh/greedy");
        std::fs::create_dir(&greedy)?;
        for name in ["bgp.yaml", "nodes.yaml"] {
            std::fs::copy(files.join("mesh/manifests").join(name), greedy.join(name))?;
        }
        edit(
            &files.join("mesh.clab.yml"),
            "cmd: run --node node3 --config /etc/routelet",
            "binds: [\"mesh/greedy:/etc/greedy\"]\n      cmd: run --node node3 --config /etc/greedy",
        )
    };
    story_with("mesh", apart, |lab| {
        let cluster = lab.converged()?;
        let node1 = cluster.member("node1")?.container;
        let node3 = cluster.member("node3")?.container;
        let pods = cluster.pods()?;
        cluster.reach(&pods, CONVERGENCE)?;
        // The greedy node believes itself; what others believe is what counts.
        let others: Vec<_> = pods
            .into_iter()
            .filter(|pod| pod.node.name != "node3")
            .collect();
        let pings = streams(&others, Duration::from_millis(20))?;
        let greedy = lab.manifests().with_file_name("greedy");
        let wish = "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {name: greedy}\nspec: {prefixes: [10.244.2.0/24, 10.244.2.0/25]}\n";
        append(&greedy.join("bgp.yaml"), wish)?;
        eventually(CONVERGENCE, "node3 says that it may not", || {
            tells(
                node3,
                "status",
                &["10.244.2.0/25 lies in 10.244.2.0/24, the pod CIDR of node node2"],
            )
        })?;
        edit(
            &greedy.join("nodes.yaml"),
            "  podCIDRs: [10.244.2.0/24, \"fd00:10:244:2::/64\"]\n",
            "  podCIDRs: []\n",
        )?;
        let owner = "node2 (10.0.0.2, fd00:10::2)";
        refused(
            node1,
            "node3",
            PODS,
            &format!("origin check: {PODS} belongs to {owner}: next hop 10.0.0.3 is node3"),
        )?;
        refused(
            node1,
            "node3",
            PART,
            &format!(
                "origin check: it lies in {PODS}, which belongs to {owner}: a part of it counts only from node2 itself"
            ),
        )?;
        ensure!(counted(node1, "node3")? == 2, "2 are to be counted");
        at_most_lost(&stop(pings)?, 0)
    });
}

#[test]
fn a_node_whose_pods_have_no_route_is_told_of_until_it_is_back() {
    story_with(
        "mesh",
        |_| Ok(()),
        |lab| {
            let cluster = lab.converged()?;
            let node1 = cluster.member("node1")?.container;
            let node2 = cluster.member("node2")?.container;
            node2.run(&["routelet", "drain"])?;
            let told = "no route to its pod CIDR 10.244.2.0/24: there is no session with the node";
            eventually(CONVERGENCE, "it is told of", || {
                tells(node1, "events", &[told])
            })?;
            let status = node1.routelet(&["status"])?;
            ensure!(at(&status, "/audit/missing")? == 2, "{status:#}");
            node2.run(&["routelet", "undrain"])?;
            eventually(CONVERGENCE, "it is back", || {
                tells(
                    node1,
                    "events",
                    &["10.244.2.0/24 is routed as it should be again"],
                )
            })
        },
    );
}

/// What stands in place of node3: it announces its own pods and, with itself as next hop, node2's and the half of them.
fn hijacker(own: &str, others: &str) -> Result<String> {
    let half = others
        .strip_suffix(".0/24")
        .map(|start| format!("{start}.0/25"))
        .context("a /24")?;
    Ok(format!(
        "protocol static {{ ipv4; route {own} blackhole; route {others} blackhole; route {half} blackhole; }}
template bgp node {{
	local 10.0.0.3 as 64512;
	direct;
	connect delay time 1; error wait time 1, 2;
	ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
protocol bgp node1 from node {{ neighbor 10.0.0.1 as 64512; }}
protocol bgp node2 from node {{ neighbor 10.0.0.2 as 64512; }}
"
    ))
}

#[test]
fn what_stands_in_place_of_a_node_gets_that_nodes_routes_and_no_others() {
    let segment = Segment::named("hijack").nodes(2).bird("node3", 3, "");
    kubernetes::story(segment, |lab, control| {
        let cluster = control.found(2)?;
        let pods = cluster.pod_each()?;
        let traffic = cluster.traffic(&pods)?;
        control.register("node3", &addresses(3), &json!({}))?;
        let own = control.pod_cidrs("node3")?.remove(0);
        let node1 = cluster.member("node1")?;
        let node2 = cluster.member("node2")?;
        let theirs = node2.pod_cidr(false)?;
        lab.reconfigure("node3", 3, &hijacker(&own, theirs)?)?;

        eventually(CONVERGENCE, "node3's own pods are routed to it", || {
            let route = node1.container.our_route(&own)?;
            ensure!(route.gateway.as_deref() == Some("10.0.0.3"), "{route:?}");
            Ok(())
        })?;
        let session = Steady::session(node1.container, "node3")?;
        eventually(CONVERGENCE, "the others are refused", || {
            let refused = counted(node1.container, "node3")?;
            ensure!(refused == 2, "{refused} are refused");
            Ok(())
        })?;
        let route = node1.container.our_route(theirs)?;
        ensure!(route.gateway.as_deref() == Some("10.0.0.2"), "{route:?}");
        tells(
            node1.container,
            "status",
            &["2 of its routes are refused by the origin check"],
        )?;
        session.holds()?;
        traffic.unharmed()
    });
}
