//! Who counts as the router at the other end, given what the kernel knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use crate::schedule::Place;

/// Which links are wanted, by name or pattern (see [`matches()`]), and what for.
pub type Wanted = BTreeMap<String, Aim>;

/// What is wanted of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aim {
    /// To know it.
    Know,
    /// To know who is there, and to be known there: by router advertisements, where we may send them.
    Meet,
}

/// Links by name.
pub type Links = BTreeMap<String, Link>;

/// A link that was asked for and is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Kernel index, from 1.
    pub index: u32,
    /// It can pass packets.
    pub up: bool,
    /// Our link-local address on it, once it can be used.
    pub address: Option<Ipv6Addr>,
    /// The router at the other end, or who was that last: it stays until another takes its place.
    pub router: Option<Ipv6Addr>,
    /// All that say they are routers, and are there as far as the kernel knows.
    pub routers: BTreeSet<Ipv6Addr>,
    /// How many others there are with a link-local address.
    pub hosts: usize,
    /// Why nobody is told there that we are, by router advertisements.
    pub mute: Option<String>,
    /// Our link-layer address.
    pub link_layer: Vec<u8>,
}

/// The kernel at one moment, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) interfaces: Vec<Interface>,
    /// Link-local addresses of ours that can be used, with the index of their interface.
    pub(crate) addresses: Vec<(u32, Ipv6Addr)>,
    pub(crate) neighbours: Vec<Neighbour>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) link_layer: Vec<u8>,
    pub(crate) up: bool,
    /// It belongs to another (a port of a bridge, of a bond) or leads nowhere (loopback): no pattern means it.
    pub(crate) subordinate: bool,
}

/// Somebody with a link-local address who is there as far as the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) interface: u32,
    pub(crate) address: Ipv6Addr,
    /// It said so itself.
    pub(crate) router: bool,
}

/// The links that `wanted` means, and who is at their other ends.
pub(crate) fn links(before: &Links, reading: &Reading, wanted: &Wanted) -> Links {
    let is_wanted = |interface: &&Interface| aim(wanted, interface).is_some();
    let interfaces = reading.interfaces.iter().filter(is_wanted);
    interfaces
        .map(|interface| {
            let last = before
                .get(&interface.name)
                .filter(|last| last.index == interface.index)
                .and_then(|last| last.router);
            (interface.name.clone(), link(interface, last, reading))
        })
        .collect()
}

fn link(interface: &Interface, last: Option<Ipv6Addr>, reading: &Reading) -> Link {
    let index = interface.index;
    let here = |neighbour: &&Neighbour| neighbour.interface == index;
    let (routers, hosts): (Vec<&Neighbour>, Vec<&Neighbour>) = reading
        .neighbours
        .iter()
        .filter(here)
        .partition(|neighbour| neighbour.router);
    let routers: BTreeSet<Ipv6Addr> = routers.iter().map(|router| router.address).collect();
    let addresses = reading.addresses.iter();
    Link {
        index,
        up: interface.up,
        address: addresses
            .filter(|(on, _)| *on == index)
            .map(|(_, address)| *address)
            .min(),
        router: match (routers.first(), hosts.as_slice()) {
            _ if last.is_some_and(|last| routers.contains(&last)) => last,
            (Some(router), _) => Some(*router),
            // Nobody says that it is a router, but there is nobody else.
            (None, [only]) => Some(only.address),
            (None, _) => last,
        },
        routers,
        hosts: hosts.len(),
        mute: None,
        link_layer: interface.link_layer.clone(),
    }
}

/// What is wanted of a link, if anything is.
fn aim(wanted: &Wanted, interface: &Interface) -> Option<Aim> {
    let meant = wanted.iter().filter(|(pattern, _)| {
        let named = **pattern == interface.name;
        named || (!interface.subordinate && matches(pattern, &interface.name))
    });
    meant.map(|(_, aim)| *aim).max()
}

/// The links on which we say that we are there.
pub(crate) fn stages(links: &Links, reading: &Reading, wanted: &Wanted) -> Vec<Place> {
    let interfaces = reading.interfaces.iter();
    let spoken = interfaces.filter(|interface| aim(wanted, interface) == Some(Aim::Meet));
    let places = spoken.filter_map(|interface| {
        let link = links.get(&interface.name).filter(|link| link.up)?;
        Some((link.index, link.address?))
    });
    places.collect()
}

/// Routers that may be gone: another has turned up beside them. The kernel is to ask for them.
pub(crate) fn doubts(before: &Links, now: &Links) -> Vec<(u32, Ipv6Addr)> {
    let doubted = now.iter().filter_map(|(name, link)| {
        let known = before.get(name)?;
        let router = link.router.filter(|router| link.routers.contains(router))?;
        let another = link.routers.difference(&known.routers).next().is_some();
        (another && known.router == Some(router)).then_some((link.index, router))
    });
    doubted.collect()
}

/// Whether `pattern`, in which `*` stands for any text and `?` for one character, means this name.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return name.is_empty();
    };
    let rest = pattern.get(first.len_utf8()..).unwrap_or_default();
    let mut left = name.chars();
    match first {
        '*' => {
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| matches(rest, name.get(at..).unwrap_or_default()))
        }
        '?' => left.next().is_some() && matches(rest, left.as_str()),
        first => left.next() == Some(first) && matches(rest, left.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    /// eth1 with these neighbours; routers are marked by a star.
    fn reading(neighbours: &[&str]) -> Reading {
        let neighbour = |text: &&str| Neighbour {
            interface: 2,
            address: address(text.trim_end_matches('*')),
            router: text.ends_with('*'),
        };
        Reading {
            interfaces: vec![Interface {
                index: 2,
                name: "eth1".into(),
                link_layer: vec![2, 0, 0, 0, 0, 2],
                up: true,
                subordinate: false,
            }],
            addresses: vec![(2, address("fe80::a")), (3, address("fe80::b"))],
            neighbours: neighbours.iter().map(neighbour).collect(),
        }
    }

    fn after(before: &Links, neighbours: &[&str]) -> Links {
        links(before, &reading(neighbours), &wanted("eth*"))
    }

    fn wanted(pattern: &str) -> Wanted {
        [(pattern.to_owned(), Aim::Meet)].into()
    }

    fn router(links: &Links) -> Option<String> {
        links["eth1"].router.map(|router| router.to_string())
    }

    fn first(neighbours: &[&str]) -> Option<String> {
        router(&after(&Links::new(), neighbours))
    }

    #[test]
    fn who_sends_router_advertisements_is_the_router() {
        assert_eq!(first(&["fe80::1", "fe80::2*"]).as_deref(), Some("fe80::2"));
    }

    #[test]
    fn the_only_one_there_is_taken_for_the_router_and_of_two_neither() {
        assert_eq!(first(&["fe80::1"]).as_deref(), Some("fe80::1"));
        assert_eq!(first(&["fe80::1", "fe80::2"]), None);
        assert_eq!(first(&[]), None);
    }

    #[test]
    fn a_neighbour_on_another_link_is_none() {
        let mut reading = reading(&["fe80::1*"]);
        reading.neighbours[0].interface = 3;
        let links = links(&Links::new(), &reading, &wanted("eth1"));
        assert_eq!(router(&links), None);
        assert_eq!(links["eth1"].address, Some(address("fe80::a")));
    }

    #[test]
    fn a_second_router_takes_the_place_of_the_first_only_when_that_is_gone() {
        let one = after(&Links::new(), &["fe80::2*"]);
        let two = after(&one, &["fe80::1*", "fe80::2*"]);
        assert_eq!(router(&two).as_deref(), Some("fe80::2"));
        assert_eq!(doubts(&one, &two), [(2, address("fe80::2"))]);
        assert_eq!(doubts(&two, &two), []);
        let other = after(&two, &["fe80::1*"]);
        assert_eq!(router(&other).as_deref(), Some("fe80::1"));
        assert_eq!(doubts(&two, &other), []);
    }

    #[test]
    fn the_last_one_known_stays_while_nobody_is_there() {
        let one = after(&Links::new(), &["fe80::2*"]);
        let none = after(&one, &[]);
        assert_eq!(router(&none).as_deref(), Some("fe80::2"));
        assert!(none["eth1"].routers.is_empty());
    }

    #[test]
    fn another_interface_of_the_same_name_inherits_nothing() {
        let mut one = after(&Links::new(), &["fe80::2*"]);
        one.get_mut("eth1").expect("it is there").index = 7;
        assert_eq!(router(&after(&one, &[])), None);
    }

    #[test]
    fn only_links_that_are_wanted_are_there() {
        let links = links(&Links::new(), &reading(&["fe80::1*"]), &wanted("ens*"));
        assert!(links.is_empty());
    }

    #[test]
    fn a_port_of_a_bridge_is_meant_by_its_name_only() {
        let mut reading = reading(&[]);
        reading.interfaces[0].subordinate = true;
        let found = |pattern| links(&Links::new(), &reading, &wanted(pattern)).len();
        assert_eq!((found("eth*"), found("eth1")), (0, 1));
    }

    #[test]
    fn we_say_that_we_are_there_where_that_is_wanted_and_the_link_is_up() {
        let mut reading = reading(&[]);
        let known = [("eth1".to_owned(), Aim::Know)].into();
        let both = [
            ("eth*".to_owned(), Aim::Meet),
            ("eth1".to_owned(), Aim::Know),
        ]
        .into();
        let said = |reading: &Reading, wanted: &Wanted| {
            stages(&links(&Links::new(), reading, wanted), reading, wanted)
        };
        assert_eq!(said(&reading, &known), []);
        assert_eq!(said(&reading, &both), [(2, address("fe80::a"))]);
        reading.interfaces[0].up = false;
        assert_eq!(said(&reading, &both), []);
    }

    #[test]
    fn a_star_means_any_text_and_a_question_mark_one_character() {
        for (pattern, name) in [
            ("eth1", "eth1"),
            ("eth*", "eth1"),
            ("eth*", "eth"),
            ("*", "eth1"),
            ("e*1", "eth1"),
            ("eth?", "eth1"),
            ("*h?", "eth1"),
            ("*?", "e"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("eth1", "eth10"),
            ("eth?", "eth"),
            ("eth?", "eth10"),
            ("", "eth1"),
            ("*2", "eth1"),
            ("*?", ""),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
