//! Link bandwidth (draft-ietf-idr-link-bandwidth): FRR and BIRD say how much they can carry, and the kernel shares flows accordingly.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Lab;
use tests::scene::{self, BIRD, FRR, Transport::IPv4};
use tests::segment::Segment;
use tests::story::is_up;
use tests::wait::eventually;

const SOON: Duration = Duration::from_secs(60);
/// What both have.
const PREFIX: &str = "10.244.77.0/24";

fn manifest() -> String {
    [
        scene::configuration(""),
        scene::peer("frr", FRR, IPv4),
        scene::peer("bird", BIRD, IPv4),
    ]
    .concat()
}

/// FRR counts in Mbit/s: 1,000 of them.
const FAST: &str = "
ip route 10.244.77.0/24 blackhole
route-map fast permit 10
 set extcommunity bandwidth 1000
exit
router bgp 65254
 bgp router-id 10.0.0.254
 no bgp ebgp-requires-policy
 neighbor 10.0.0.1 remote-as 65001
 neighbor 10.0.0.1 timers connect 1
 neighbor 10.0.0.1 advertisement-interval 0
 address-family ipv4 unicast
  network 10.244.77.0/24
  neighbor 10.0.0.1 route-map fast out
 exit-address-family
exit
";

/// BIRD writes the octets: AS 65253, and the octets a second as a float (RFC 4360, IEEE 754).
fn slow(octets_per_second: f32) -> String {
    let value = octets_per_second.to_bits();
    format!(
        "protocol static {{ ipv4; route {PREFIX} blackhole; }}
protocol bgp node1 {{
	local 10.0.0.253 as 65253;
	neighbor 10.0.0.1 as 65001;
	connect delay time 1; error wait time 1, 2;
	ipv4 {{
		import none;
		export filter {{ bgp_ext_community.add((generic, 0x0004fee5, {value:#x})); accept; }};
	}};
}}
"
    )
}

/// The kernel's shares of FRR and of BIRD, once it has both.
fn shares(lab: &Lab) -> Result<[u32; 2]> {
    let route = lab.node("node1")?.our_route(PREFIX)?;
    let mut hops = route.nexthops.clone();
    hops.sort_by(|one, other| other.gateway.cmp(&one.gateway));
    let [frr, bird] = hops.as_slice() else {
        anyhow::bail!("two next hops: {route:?}")
    };
    let share = |hop: &tests::kernel::NextHop| hop.weight.unwrap_or(1);
    Ok([share(frr), share(bird)])
}

#[test]
fn flows_are_shared_by_what_each_link_can_carry() {
    // A quarter of what FRR has.
    let segment = Segment::named("bandwidth")
        .manifest("bgp.yaml", &manifest())
        .routelet(1)
        .frr("frr", FRR, FAST)
        .bird("bird", BIRD, &slow(125_000_000.0 / 4.0));
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        is_up(node1, "frr")?;
        is_up(node1, "bird")?;
        eventually(SOON, "four flows in five leave by FRR", || {
            let shares = shares(lab)?;
            ensure!(shares == [256, 64], "{shares:?}");
            Ok(())
        })?;
        // As many do: one that does not say makes all equal.
        lab.reconfigure_bird(&slow(0.0))?;
        eventually(SOON, "both are equal", || {
            let shares = shares(lab)?;
            ensure!(shares == [1, 1], "{shares:?}");
            Ok(())
        })?;
        let routes = node1.run(&["routelet", "routes", "received", "frr", "-o", "json"])?;
        ensure!(
            routes.contains("link-bandwidth:65254:125000000"),
            "{routes}"
        );
        Ok(())
    });
}
