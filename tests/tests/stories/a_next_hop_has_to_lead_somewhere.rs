//! A route whose next hop leads nowhere yields to one that can be used, however much better it is, until the node has a way to it.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::container::Container;
use tests::scene::{self, BIRD, FRR, Transport};
use tests::segment::Segment;
use tests::story::{Steady, is_up};
use tests::wait::eventually;

const SOON: Duration = Duration::from_secs(60);

const PODS: &str = "10.244.57.0/24";

/// FRR says that these pods are behind a router which node1 knows no way to.
const FRRS: &str = "ip route 10.244.57.0/24 blackhole
ip prefix-list THESE seq 5 permit 10.244.57.0/24
route-map ELSEWHERE permit 10
 match ip address prefix-list THESE
 set ip next-hop 192.0.2.1
exit
route-map ELSEWHERE permit 20
exit
router bgp 65254
 address-family ipv4 unicast
  network 10.244.57.0/24
  neighbor 10.0.0.1 route-map ELSEWHERE out
";

/// Its word counts for more.
const PREFERRED: &str = "  import: {rules: [{set: {localPreference: 200}, action: Accept}]}\n";

fn leads_by(node: &Container, gateway: &str) -> Result<()> {
    eventually(SOON, &format!("{PODS} by {gateway}"), || {
        let route = node.our_route(PODS)?;
        ensure!(route.gateways() == [gateway], "{route:?}");
        Ok(())
    })
}

fn explained(node: &Container, words: &str) -> Result<()> {
    eventually(SOON, &format!("explained by {words}"), || {
        let said = node.output(&["routelet", "explain", PODS])?.stdout;
        ensure!(said.contains(words), "{said}");
        Ok(())
    })
}

#[test]
fn a_better_route_is_used_as_soon_as_there_is_a_way_to_its_next_hop_and_no_longer() {
    let transport = Transport::IPv4;
    let manifest = scene::configuration("")
        + &scene::peer("bird", BIRD, transport)
        + &scene::peer("frr", FRR, transport)
        + PREFERRED;
    let birds = format!("protocol static {{ ipv4; route {PODS} blackhole; }}\n");
    Segment::named("nowhere")
        .manifest("bgp.yaml", &manifest)
        .routelet(1)
        .frr("frr", FRR, &(scene::frr(transport) + FRRS))
        .bird("bird", BIRD, &(birds + &scene::bird(transport, "")))
        .story(|lab| {
            let node1 = lab.node("node1")?;
            is_up(node1, "frr")?;
            is_up(node1, "bird")?;
            let steady = Steady::session(node1, "frr")?;
            explained(node1, "its next hop leads nowhere")?;
            leads_by(node1, "10.0.0.253")?;

            let way = |verb: &str| {
                let words = ["ip", "route", verb, "192.0.2.0/24", "via", "10.0.0.254"];
                node1.run(&words).map(drop)
            };
            way("add")?;
            leads_by(node1, "10.0.0.254")?;
            explained(node1, "higher LOCAL_PREF")?;
            way("del")?;
            leads_by(node1, "10.0.0.253")?;

            // Where nobody knows a better one it stays the best, and the kernel says why it is not there.
            lab.node("bird")?.run(&["birdc", "disable", "node1"])?;
            explained(node1, "no connected subnet")?;
            node1.no_route_of_ours(PODS)?;
            steady.holds()
        });
}
