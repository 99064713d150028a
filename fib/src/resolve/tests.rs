use super::*;
use crate::network::Address;

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        admin_up: true,
        carrier: true,
    }
}

fn hop(gateway: Option<&str>, interface: u32) -> Hop {
    Hop {
        gateway: gateway.map(|via| via.parse().unwrap()),
        interface,
        weight: 1,
        onlink: false,
    }
}

fn route(prefix: &str, metric: u32, verdict: Verdict) -> (IpNetwork, Foreign) {
    (
        prefix.parse().unwrap(),
        Foreign {
            protocol: 4,
            table: 254,
            metric,
            tos: 0,
            object: None,
            verdict,
        },
    )
}

fn forward(prefix: &str, metric: u32, hops: &[Hop]) -> (IpNetwork, Foreign) {
    route(
        prefix,
        metric,
        Verdict::Forward(hops.iter().copied().collect()),
    )
}

fn network(extra: Vec<(IpNetwork, Foreign)>) -> Network {
    let own = |interface, address: &str, length| {
        let address = address.parse().unwrap();
        Address {
            interface,
            address,
            length,
            peer: address,
        }
    };
    let mut routes = vec![
        forward("10.0.0.0/24", 0, &[hop(None, 2)]),
        forward("10.0.1.0/24", 0, &[hop(None, 3)]),
        forward("fd00:10::/64", 256, &[hop(None, 2)]),
    ];
    routes.extend(extra);
    let addresses = vec![
        own(2, "10.0.0.1", 24),
        own(3, "10.0.1.1", 24),
        own(2, "fd00:10::1", 64),
    ];
    Network::new(vec![link(2, "eth0"), link(3, "eth1")], addresses, routes)
}

fn one(network: &Network, address: &str, policy: Policy) -> Result<SmallVec<[Hop; 1]>, Unresolved> {
    let next_hop = NextHop::new(address.parse().unwrap());
    resolve(network, &next_hop, Family::V4, policy).map(|resolved| resolved.hops)
}

fn hops(hops: &[Hop]) -> SmallVec<[Hop; 1]> {
    hops.iter().copied().collect()
}

#[test]
fn a_connected_next_hop_is_its_own_gateway() {
    let network = network(vec![]);
    assert_eq!(
        one(&network, "10.0.0.2", Policy::Reject),
        Ok(hops(&[hop(Some("10.0.0.2"), 2)]))
    );
    assert_eq!(
        one(&network, "::ffff:10.0.1.2", Policy::Reject),
        Ok(hops(&[hop(Some("10.0.1.2"), 3)]))
    );
}

#[test]
fn a_static_route_gives_its_gateways() {
    let both = [hop(Some("10.0.0.7"), 2), hop(Some("10.0.1.7"), 3)];
    let network = network(vec![
        forward("172.16.0.0/12", 0, &both),
        forward("172.16.9.0/24", 0, &[hop(None, 3)]),
    ]);
    assert_eq!(one(&network, "172.16.0.1", Policy::Reject), Ok(hops(&both)));
    assert_eq!(
        one(&network, "172.16.9.1", Policy::Reject),
        Ok(hops(&[hop(Some("172.16.9.1"), 3)]))
    );
}

#[test]
fn the_better_metric_wins_at_equal_length() {
    let network = network(vec![
        forward("172.16.0.0/12", 100, &[hop(Some("10.0.1.7"), 3)]),
        forward("172.16.0.0/12", 50, &[hop(Some("10.0.0.7"), 2)]),
    ]);
    assert_eq!(
        one(&network, "172.16.0.1", Policy::Reject),
        Ok(hops(&[hop(Some("10.0.0.7"), 2)]))
    );
}

#[test]
fn a_dead_link_gives_way_to_a_less_specific_route_but_not_to_the_default() {
    let mut network = network(vec![
        forward("10.0.1.0/16", 0, &[hop(Some("10.0.0.7"), 2)]),
        forward("0.0.0.0/0", 0, &[hop(Some("10.0.0.254"), 2)]),
    ]);
    network.set_link(Link {
        carrier: false,
        ..link(3, "eth1")
    });
    assert_eq!(
        one(&network, "10.0.1.2", Policy::Reject),
        Ok(hops(&[hop(Some("10.0.0.7"), 2)]))
    );
    network.set_link(Link {
        carrier: false,
        ..link(2, "eth0")
    });
    let failure = one(&network, "10.0.1.2", Policy::Reject).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "next hop 10.0.1.2 is behind eth1, which is without carrier"
    );
}

#[test]
fn the_default_route_only_counts_where_it_may() {
    let network = network(vec![forward("0.0.0.0/0", 0, &[hop(Some("10.0.0.254"), 2)])]);
    let far: IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(
        one(&network, "192.0.2.1", Policy::Reject),
        Err(Unresolved::OnlyDefault(far))
    );
    assert_eq!(
        one(&network, "192.0.2.1", Policy::Gateway),
        Ok(hops(&[hop(Some("10.0.0.254"), 2)]))
    );
    let on_link = Hop {
        onlink: true,
        ..hop(Some("192.0.2.1"), 2)
    };
    assert_eq!(
        one(&network, "192.0.2.1", Policy::Onlink),
        Ok(hops(&[on_link]))
    );
    let named = NextHop::new(far).on(3);
    let resolved = resolve(&network, &named, Family::V4, Policy::Onlink).unwrap();
    assert_eq!(
        resolved.hops,
        hops(&[Hop {
            interface: 3,
            ..on_link
        }])
    );
}

#[test]
fn without_any_route_every_policy_says_so() {
    let network = network(vec![]);
    let far: IpAddr = "192.0.2.1".parse().unwrap();
    for policy in [Policy::Reject, Policy::Gateway, Policy::Onlink] {
        assert_eq!(
            one(&network, "192.0.2.1", policy),
            Err(Unresolved::NoRoute(far))
        );
    }
}

#[test]
fn routes_that_drop_or_encapsulate_lead_nowhere() {
    let network = network(vec![
        route("192.0.2.0/24", 0, Verdict::Drop("unreachable")),
        route("198.51.100.0/24", 0, Verdict::Other("encapsulating")),
    ]);
    assert!(matches!(
        one(&network, "192.0.2.1", Policy::Onlink),
        Err(Unresolved::Dropped(..))
    ));
    assert!(matches!(
        one(&network, "198.51.100.1", Policy::Reject),
        Err(Unresolved::Unusable(..))
    ));
}

#[test]
fn our_own_address_is_no_next_hop_unless_it_is_left_out_among_others() {
    let network = network(vec![]);
    assert!(matches!(
        one(&network, "10.0.0.1", Policy::Reject),
        Err(Unresolved::Ourselves(_))
    ));
    let both = [
        NextHop::new("10.0.0.1".parse().unwrap()),
        NextHop::new("10.0.1.2".parse().unwrap()),
    ];
    let target = resolve_all(&network, &both, Family::V4, Policy::Reject, 16).unwrap();
    assert_eq!(target, Target::Hops(hops(&[hop(Some("10.0.1.2"), 3)])));
}

#[test]
fn link_local_next_hops_need_their_interface() {
    let network = network(vec![]);
    let lost = NextHop::new("fe80::9".parse().unwrap());
    assert!(matches!(
        resolve(&network, &lost, Family::V6, Policy::Reject),
        Err(Unresolved::NoInterface(_))
    ));
    let gone = resolve(&network, &lost.on(77), Family::V6, Policy::Reject);
    assert!(matches!(gone, Err(Unresolved::InterfaceGone(_, 77))));
    let resolved = resolve(&network, &lost.on(3), Family::V4, Policy::Reject).unwrap();
    assert_eq!(resolved.hops, hops(&[hop(Some("fe80::9"), 3)]));
}

#[test]
fn ipv6_prefixes_can_not_have_ipv4_next_hops() {
    let network = network(vec![]);
    let next_hop = NextHop::new("10.0.0.2".parse().unwrap());
    assert!(matches!(
        resolve(&network, &next_hop, Family::V6, Policy::Reject),
        Err(Unresolved::Family(_))
    ));
}

#[test]
fn max_paths_counts_ways_that_work() {
    let network = network(vec![]);
    let all = ["192.0.2.1", "10.0.0.2", "10.0.0.3", "10.0.1.2"]
        .map(|hop| NextHop::new(hop.parse().unwrap()));
    let target = resolve_all(&network, &all, Family::V4, Policy::Reject, 2).unwrap();
    assert_eq!(
        target,
        Target::Hops(hops(&[hop(Some("10.0.0.2"), 2), hop(Some("10.0.0.3"), 2)]))
    );
}
