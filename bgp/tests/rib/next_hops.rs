//! Which next hops lead anywhere is known elsewhere: the Rib asks, and prefers what can be used (RFC 4271 §9.1.2.1).

use std::{collections::BTreeSet, net::IpAddr};

use bgp::{config::Source, status::PeerKind::External};

use crate::world::{World, address, attributes, origination, prefix, settings};

const A: &str = "10.1.0.0/16";

/// Peers 1 and 2 know the way to A, the first one the shorter; peer 3 looks on.
fn world() -> World {
    let mut world = World::new(settings());
    for peer in 1..=3 {
        world.add(peer, External, |_| {});
        world.up(peer);
    }
    world.announce_with(1, attributes(1, External, 0), vec![prefix(A).into()]);
    world.announce_with(2, attributes(2, External, 5), vec![prefix(A).into()]);
    world.settle();
    world
}

fn nowhere(world: &mut World, peers: &[u32]) {
    let next_hops = peers.iter().map(|peer| address(*peer)).collect();
    world.unresolved(next_hops);
    world.settle();
}

/// Where A leads in the kernel, and by whom as the onlooker has it.
fn by(world: &World) -> (IpAddr, u32) {
    let installed = world.kernel.get(&prefix(A)).expect("a route");
    let told = world.peer(3).told(A).expect("it is told");
    let path = told.as_path.to_string();
    let neighbor = path.split(' ').nth(1).expect("ours and another AS");
    let neighbor: u32 = neighbor.parse().expect("an AS number");
    (installed.next_hops[0].next_hop.address, neighbor - 65000)
}

#[test]
fn a_route_that_leads_nowhere_yields_until_it_leads_somewhere() {
    let mut world = world();
    assert_eq!(by(&world), (address(1), 1));
    nowhere(&mut world, &[1]);
    assert_eq!(by(&world), (address(2), 2));
    nowhere(&mut world, &[]);
    assert_eq!(by(&world), (address(1), 1));
}

#[test]
fn where_all_lead_nowhere_the_best_stays_the_best() {
    let mut world = world();
    nowhere(&mut world, &[1, 2]);
    assert_eq!(by(&world), (address(1), 1));
}

#[test]
fn a_route_that_comes_later_is_judged_by_what_is_known() {
    let mut world = world();
    world.withdraw(1, &[A]);
    nowhere(&mut world, &[1]);
    world.announce_with(1, attributes(1, External, 0), vec![prefix(A).into()]);
    world.settle();
    assert_eq!(by(&world), (address(2), 2));
}

#[test]
fn the_rib_asks_about_the_next_hops_of_all_routes_and_only_when_they_change() {
    let mut world = world();
    let asked = |world: &mut World| world.rib.take_next_hops();
    let both: BTreeSet<IpAddr> = [address(1), address(2)].into();
    assert_eq!(asked(&mut world), Some(both));
    world.announce_with(1, attributes(1, External, 3), vec![prefix(A).into()]);
    world.settle();
    world.withdraw(2, &[A]);
    world.settle();
    assert_eq!(asked(&mut world), Some([address(1)].into()));
    assert_eq!(asked(&mut world), None);
}

#[test]
fn what_we_originate_needs_no_next_hop() {
    let mut world = world();
    world.reconfigure(|settings| {
        let own = origination(Source::Static);
        settings.originate.insert(prefix(A), own);
    });
    nowhere(&mut world, &[1, 2]);
    assert!(!world.kernel.contains_key(&prefix(A)));
    let told = world.peer(3).told(A).expect("it is told");
    assert_eq!(told.as_path.to_string(), "64512");
}
