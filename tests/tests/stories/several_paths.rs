//! Several paths of a prefix (RFC 7911): told to FRR and BIRD, passed on by these as reflectors, and used side by side in the kernel.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::Lab;
use tests::container::Container;
use tests::scene::{self, BIRD, FRR, Transport::IPv4};
use tests::segment::Segment;
use tests::story::is_up;
use tests::wait::eventually;

const SOON: Duration = Duration::from_secs(60);
/// What both sources have.
const PREFIX: &str = "10.244.77.0/24";
const SOURCES: [(&str, u8); 2] = [("one", 51), ("two", 52)];

/// The sources tell node1, which tells FRR and BIRD; FRR tells node2, BIRD tells node3.
fn manifest() -> String {
    let all = "{rules: [{action: Accept}]}";
    let mut text = scene::configuration("");
    for (name, number) in SOURCES {
        text += &scene::peer(name, number, IPv4);
        let _ = writeln!(text, "  node: node1\n  import: {all}");
    }
    for (name, number, node, also) in [
        (
            "to-frr",
            FRR,
            1,
            format!("addPath: {{sendMax: 4}}\n  export: {all}"),
        ),
        (
            "to-bird",
            BIRD,
            1,
            format!("addPath: {{sendMax: 4}}\n  export: {all}"),
        ),
        (
            "from-frr",
            FRR,
            2,
            format!("addPath: {{receive: true}}\n  import: {all}"),
        ),
        (
            "from-bird",
            BIRD,
            3,
            format!("addPath: {{receive: true}}\n  import: {all}"),
        ),
    ] {
        let address = IPv4.address(number);
        let _ = writeln!(
            text,
            "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {{name: {name}}}\n\
             spec:\n  node: node{node}\n  peerAddress: {address}\n  peerASN: Internal\n  {also}"
        );
    }
    text
}

const FRR_REFLECTS: &str = "
router bgp 65001
 bgp router-id 10.0.0.254
 neighbor 10.0.0.1 remote-as 65001
 neighbor 10.0.0.1 timers connect 1
 neighbor 10.0.0.2 remote-as 65001
 neighbor 10.0.0.2 timers connect 1
 address-family ipv4 unicast
  neighbor 10.0.0.2 route-reflector-client
  neighbor 10.0.0.2 addpath-tx-all-paths
 exit-address-family
exit
";

const BIRD_REFLECTS: &str = "
protocol direct { ipv4; }
template bgp node {
	local 10.0.0.253 as 65001;
	connect delay time 1; error wait time 1, 2;
}
protocol bgp node1 from node {
	neighbor 10.0.0.1 as 65001;
	ipv4 { import all; export none; add paths rx; };
}
protocol bgp node3 from node {
	neighbor 10.0.0.3 as 65001;
	rr client;
	ipv4 { import all; export where source = RTS_BGP; add paths tx; };
}
";

/// GoBGP as a source, over eBGP.
fn source(lab: &Lab, name: &str, number: u8) -> Result<()> {
    let configuration = format!(
        "[global.config]\n  as = 650{number}\n  router-id = \"10.0.0.{number}\"\n[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"10.0.0.1\"\n    peer-as = 65001\n"
    );
    std::fs::write(lab.node(name)?.path("/etc/gobgpd.toml"), configuration)?;
    let words = ["gobgpd", "-f", "/etc/gobgpd.toml", "--disable-stdlog"];
    lab.spawn(name, &words.map(str::to_owned))?;
    tells(lab, name, number)
}

/// A source has the prefix.
fn tells(lab: &Lab, name: &str, number: u8) -> Result<()> {
    let gobgp = lab.node(name)?;
    let line = format!("gobgp global rib add {PREFIX} nexthop 10.0.0.{number} -a ipv4");
    eventually(SOON, "gobgpd answers", || gobgp.sh(&line).map(drop))
}

/// The next hops FRR knows, in order.
fn known_to_frr(frr: &Container) -> Result<Vec<String>> {
    let known = frr.vtysh(&format!("show bgp ipv4 unicast {PREFIX} json"))?;
    let paths = known.get("paths").and_then(Value::as_array);
    let hop = |path: &Value| Some(path.pointer("/nexthops/0/ip")?.as_str()?.to_owned());
    let mut hops: Vec<String> = paths.into_iter().flatten().filter_map(hop).collect();
    hops.sort();
    Ok(hops)
}

/// The next hops BIRD knows, in order.
fn known_to_bird(bird: &Container) -> Result<Vec<String>> {
    let known = bird.birdc(&format!("show route all {PREFIX}"))?;
    let hop = |line: &str| Some(line.trim().strip_prefix("BGP.next_hop: ")?.to_owned());
    let mut hops: Vec<String> = known.lines().filter_map(hop).collect();
    hops.sort();
    Ok(hops)
}

/// Both reflectors know these next hops, and the kernels behind them use them side by side.
fn everybody_uses(lab: &Lab, numbers: &[u8]) -> Result<()> {
    let hops: Vec<String> = numbers.iter().map(|number| IPv4.address(*number)).collect();
    eventually(SOON, &format!("everybody has {PREFIX} by {hops:?}"), || {
        for (who, known) in [
            ("FRR", known_to_frr(lab.node("frr")?)?),
            ("BIRD", known_to_bird(lab.node("bird")?)?),
        ] {
            ensure!(known == hops, "{who} has {known:?}");
        }
        for node in ["node2", "node3"] {
            let route = lab.node(node)?.our_route(PREFIX)?;
            let mut gateways = route.gateways();
            gateways.sort();
            ensure!(gateways == hops, "{node}: {route:?}");
        }
        Ok(())
    })
}

#[test]
fn paths_come_through_a_reflector_and_are_used_side_by_side() {
    let segment = Segment::named("paths")
        .manifest("bgp.yaml", &manifest())
        .routelet(1)
        .routelet(2)
        .routelet(3)
        .host("one", 51)
        .host("two", 52)
        .frr("frr", FRR, FRR_REFLECTS)
        .bird("bird", BIRD, BIRD_REFLECTS);
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        for (name, number) in SOURCES {
            source(lab, name, number)?;
            is_up(node1, name)?;
        }
        everybody_uses(lab, &[51, 52])?;
        let advertised =
            node1.run(&["routelet", "routes", "advertised", "to-frr", "-o", "json"])?;
        let told: Value = serde_json::from_str(&advertised)?;
        let routes = told.get("routes").and_then(Value::as_array);
        let mut ids: Vec<&Value> = routes
            .into_iter()
            .flatten()
            .filter(|route| route.get("prefix") == Some(&PREFIX.into()))
            .filter_map(|route| route.get("pathId"))
            .collect();
        ids.sort_by_key(|id| id.as_u64());
        ensure!(ids == [1, 2], "both paths and their identifiers: {told:#}");

        lab.node("one")?
            .sh(&format!("gobgp global rib del {PREFIX} -a ipv4"))?;
        everybody_uses(lab, &[52])?;
        tells(lab, "one", 51)?;
        everybody_uses(lab, &[51, 52])?;
        // A source that dies.
        lab.node("two")?
            .run(&["gobgp", "neighbor", "10.0.0.1", "disable"])?;
        everybody_uses(lab, &[51])
    });
}
