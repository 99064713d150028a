//! The node's links, addresses and the routes of others: what next hops are resolved against.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use prefix_trie::PrefixMap;
use smallvec::SmallVec;

use crate::{
    event::{DownCause, Interface, LinkEvent},
    guard::{Connected, network, trunc4, trunc6},
    objects::ObjectId,
    target::{Hop, InWords, Target},
};

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) admin_up: bool,
    pub(crate) carrier: bool,
}

impl Link {
    pub(crate) fn usable(&self) -> bool {
        self.admin_up && self.carrier
    }
}

/// An own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) interface: u32,
    pub(crate) address: IpAddr,
    /// Of the subnet (or of the far end's).
    pub(crate) length: u8,
    /// The far end of a point-to-point address; else the address itself.
    pub(crate) peer: IpAddr,
}

/// A kernel route that is not ours (or, in events, that may be).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) protocol: u8,
    pub(crate) table: u32,
    pub(crate) metric: u32,
    pub(crate) tos: u8,
    /// The next-hop object it goes through; the verdict is what that object says.
    pub(crate) object: Option<ObjectId>,
    pub(crate) verdict: Verdict,
}

/// What a kernel route does, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forward(SmallVec<[Hop; 1]>),
    Drop(&'static str),
    /// Local delivery, broadcast, nexthop objects we can't see through, …
    Other(&'static str),
}

impl Foreign {
    /// As a target of ours would look, for comparing and for words.
    pub(crate) fn target(&self) -> Target {
        match (&self.verdict, self.object) {
            (Verdict::Drop("blackhole"), _) => Target::Blackhole,
            (_, Some(id)) => Target::Object(id),
            (Verdict::Forward(hops), None) => Target::through(hops.clone()),
            (Verdict::Drop(_) | Verdict::Other(_), None) => Target::Unknown,
        }
    }
}

/// Whether the kernel has given up on a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Failed,
    Answers,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<Address>,
    v4: PrefixMap<Ipv4Network, SmallVec<[Foreign; 1]>>,
    v6: PrefixMap<Ipv6Network, SmallVec<[Foreign; 1]>>,
    failed_neighbours: BTreeSet<(u32, IpAddr)>,
    /// Protocols whose routes are only known because they stand in our way.
    ignored: SmallVec<[u8; 4]>,
}

impl Network {
    pub(crate) fn new(
        links: Vec<Link>,
        addresses: Vec<Address>,
        foreign: Vec<(IpNetwork, Foreign)>,
    ) -> Self {
        let mut network = Self {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses: addresses.into_iter().collect(),
            ..Self::default()
        };
        for (prefix, route) in foreign {
            network.at_mut(prefix).push(route);
        }
        network
    }

    /// No next hop is to be resolved through routes of these protocols.
    pub(crate) fn ignore(&mut self, protocols: SmallVec<[u8; 4]>) {
        self.ignored = protocols;
    }

    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    pub(crate) fn name(&self, index: u32) -> Option<&str> {
        self.links.get(&index).map(|link| link.name.as_str())
    }

    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.address == address)
    }

    pub(crate) fn neighbour_failed(&self, interface: u32, address: IpAddr) -> bool {
        self.failed_neighbours.contains(&(interface, address))
    }

    /// Own addresses with their subnets, for the guard.
    pub(crate) fn connected(&self) -> Vec<Connected> {
        let connected = |own: &Address| Connected {
            address: own.address,
            subnet: network(own.peer, own.length),
            interface: self.name(own.interface).unwrap_or("?").to_owned(),
        };
        self.addresses.iter().map(connected).collect()
    }

    /// Foreign routes for exactly this prefix.
    pub(crate) fn at(&self, prefix: IpNetwork) -> &[Foreign] {
        match prefix {
            IpNetwork::V4(prefix) => self.v4.get(&prefix),
            IpNetwork::V6(prefix) => self.v6.get(&prefix),
        }
        .map_or(&[], SmallVec::as_slice)
    }

    fn at_mut(&mut self, prefix: IpNetwork) -> &mut SmallVec<[Foreign; 1]> {
        match prefix {
            IpNetwork::V4(prefix) => self.v4.entry(trunc4(prefix)).or_default(),
            IpNetwork::V6(prefix) => self.v6.entry(trunc6(prefix)).or_default(),
        }
    }

    /// Foreign routes that cover an address, most specific first, best metric first.
    pub(crate) fn covering(&self, address: IpAddr) -> Vec<(IpNetwork, &Foreign)> {
        let mut covering: Vec<(IpNetwork, &Foreign)> = match address {
            IpAddr::V4(address) => {
                let routes = self.v4.cover(&Ipv4Network::from(address));
                routes
                    .flat_map(|(prefix, routes)| routes.iter().map(move |r| (prefix.into(), r)))
                    .collect()
            }
            IpAddr::V6(address) => {
                let routes = self.v6.cover(&Ipv6Network::from(address));
                routes
                    .flat_map(|(prefix, routes)| routes.iter().map(move |r| (prefix.into(), r)))
                    .collect()
            }
        };
        covering.retain(|(_, route)| !self.ignored.contains(&route.protocol));
        covering.sort_by_key(|(prefix, route)| (std::cmp::Reverse(prefix.prefix()), route.metric));
        covering
    }

    /// A foreign route that occupies this place (table and metric) for this prefix.
    pub(crate) fn occupant(&self, prefix: IpNetwork, table: u32, metric: u32) -> Option<&Foreign> {
        self.at(prefix)
            .iter()
            .find(|route| route.table == table && route.metric == metric && route.tos == 0)
    }

    pub(crate) fn add_route(&mut self, prefix: IpNetwork, route: Foreign, replaces: bool) {
        let routes = self.at_mut(prefix);
        let same_place = |other: &Foreign| {
            (other.table, other.metric, other.tos) == (route.table, route.metric, route.tos)
        };
        // IPv6 tells a multipath route whole, at each change.
        let told_whole = |other: &Foreign| {
            same_place(other)
                && (other == &route || (prefix.is_ipv6() && other.protocol == route.protocol))
        };
        routes.retain(|other| !(told_whole(other) || (replaces && same_place(other))));
        routes.push(route);
    }

    pub(crate) fn remove_route(&mut self, prefix: IpNetwork, gone: &Foreign) {
        let routes = self.at_mut(prefix);
        let same_place = |other: &Foreign| {
            (other.table, other.metric, other.tos, other.protocol)
                == (gone.table, gone.metric, gone.tos, gone.protocol)
        };
        if let Some(exact) = routes.iter().position(|other| other == gone) {
            routes.remove(exact);
        } else if let Some(same) = routes.iter().position(same_place) {
            let emptied = match (
                routes.get_mut(same).map(|route| &mut route.verdict),
                &gone.verdict,
            ) {
                // IPv6 tells the loss of one hop as the loss of a route with that hop.
                (Some(Verdict::Forward(left)), Verdict::Forward(lost)) if prefix.is_ipv6() => {
                    let same_way =
                        |a: &Hop, b: &Hop| (a.gateway, a.interface) == (b.gateway, b.interface);
                    left.retain(|hop| !lost.iter().any(|lost| same_way(lost, hop)));
                    left.is_empty()
                }
                _ => true,
            };
            if emptied {
                routes.remove(same);
            }
        }
        if routes.is_empty() {
            match prefix {
                IpNetwork::V4(prefix) => drop(self.v4.remove(&trunc4(prefix))),
                IpNetwork::V6(prefix) => drop(self.v6.remove(&trunc6(prefix))),
            }
        }
    }

    /// A changed link; what is to be told about it.
    pub(crate) fn set_link(&mut self, link: Link) -> Option<LinkEvent> {
        let index = link.index;
        let before = self.links.insert(index, link.clone());
        let was_usable = before.as_ref().is_some_and(Link::usable);
        if !link.admin_up {
            self.forget_routes_through(index);
        }
        if link.usable() == was_usable {
            return None;
        }
        let interface = self.interface(index)?;
        if link.usable() {
            return Some(LinkEvent::Up { interface });
        }
        self.failed_neighbours.retain(|(on, _)| *on != index);
        let cause = if link.admin_up {
            DownCause::Carrier
        } else {
            DownCause::Admin
        };
        Some(LinkEvent::Down { interface, cause })
    }

    /// A link that went away; what is to be told about it.
    pub(crate) fn remove_link(&mut self, index: u32) -> Option<LinkEvent> {
        let mut interface = self.interface(index)?;
        interface.up = false;
        self.links.remove(&index);
        self.addresses.retain(|own| own.interface != index);
        self.failed_neighbours.retain(|(on, _)| *on != index);
        self.forget_routes_through(index);
        Some(LinkEvent::Down {
            interface,
            cause: DownCause::Gone,
        })
    }

    /// The kernel drops IPv4 routes of a link that is set down without a word.
    fn forget_routes_through(&mut self, index: u32) {
        let mut emptied = Vec::new();
        for (prefix, routes) in self.v4.iter_mut() {
            routes.retain(|route| match &mut route.verdict {
                Verdict::Forward(hops) => {
                    hops.retain(|hop| hop.interface != index);
                    !hops.is_empty()
                }
                Verdict::Drop(_) | Verdict::Other(_) => true,
            });
            if routes.is_empty() {
                emptied.push(prefix);
            }
        }
        for prefix in emptied {
            self.v4.remove(&prefix);
        }
    }

    /// What is to be told if this address is new.
    pub(crate) fn add_address(&mut self, address: Address) -> Option<LinkEvent> {
        let new = self.addresses.insert(address);
        let interface = self.interface(address.interface)?;
        new.then_some(LinkEvent::AddressAdded {
            interface,
            address: with_length(&address),
        })
    }

    /// What is to be told if this address was there.
    pub(crate) fn remove_address(&mut self, address: &Address) -> Option<LinkEvent> {
        let known = self.addresses.remove(address);
        let interface = self.interface(address.interface)?;
        known.then_some(LinkEvent::AddressRemoved {
            interface,
            address: with_length(address),
        })
    }

    /// Whether this was the last IPv4 address of its interface: the kernel drops all IPv4 routes there then.
    pub(crate) fn lost_ipv4(&self, gone: &Address) -> bool {
        let left = |own: &Address| own.interface == gone.interface && own.address.is_ipv4();
        gone.address.is_ipv4() && !self.addresses.iter().any(left)
    }

    /// True if this is news.
    pub(crate) fn set_neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
        failure: Failure,
    ) -> bool {
        match failure {
            Failure::Failed => self.failed_neighbours.insert((interface, address)),
            Failure::Answers => self.failed_neighbours.remove(&(interface, address)),
        }
    }

    /// Those of the neighbours that failed for which `keep` holds; the others are forgotten.
    pub(crate) fn failed_neighbours(
        &mut self,
        keep: impl Fn(&(u32, IpAddr)) -> bool,
    ) -> Vec<(u32, IpAddr)> {
        self.failed_neighbours.retain(keep);
        self.failed_neighbours.iter().copied().collect()
    }

    /// Keeps what only events tell: the neighbours that failed.
    pub(crate) fn succeed(&mut self, before: Self) {
        let links = &self.links;
        self.failed_neighbours = before.failed_neighbours;
        self.failed_neighbours
            .retain(|(on, _)| links.get(on).is_some_and(Link::usable));
    }

    /// What changed from `before` to here, as link events.
    pub(crate) fn differences(&self, before: &Self) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        for (index, link) in &before.links {
            let Some(interface) = before.interface(*index) else {
                continue;
            };
            let cause = match self.links.get(index) {
                None => DownCause::Gone,
                Some(now) if link.usable() && !now.admin_up => DownCause::Admin,
                Some(now) if link.usable() && !now.carrier => DownCause::Carrier,
                Some(_) => continue,
            };
            events.push(LinkEvent::Down {
                interface: Interface {
                    up: false,
                    ..interface
                },
                cause,
            });
        }
        for (index, link) in &self.links {
            let was_usable = before.links.get(index).is_some_and(Link::usable);
            if let (true, false, Some(interface)) =
                (link.usable(), was_usable, self.interface(*index))
            {
                events.push(LinkEvent::Up { interface });
            }
        }
        let unspecified = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let default_routes = unspecified.map(|address: IpAddr| network(address, 0));
        if default_routes
            .iter()
            .any(|default| self.at(*default) != before.at(*default))
        {
            events.push(LinkEvent::DefaultRoute);
        }
        for gone in before.addresses.difference(&self.addresses) {
            if let Some(interface) = self.interface(gone.interface) {
                events.push(LinkEvent::AddressRemoved {
                    interface,
                    address: with_length(gone),
                });
            }
        }
        for new in self.addresses.difference(&before.addresses) {
            if let Some(interface) = self.interface(new.interface) {
                events.push(LinkEvent::AddressAdded {
                    interface,
                    address: with_length(new),
                });
            }
        }
        events
    }

    pub(crate) fn interfaces(&self) -> Vec<Interface> {
        self.links
            .keys()
            .filter_map(|index| self.interface(*index))
            .collect()
    }

    fn interface(&self, index: u32) -> Option<Interface> {
        let link = self.links.get(&index)?;
        let own = || self.addresses.iter().filter(|own| own.interface == index);
        Some(Interface {
            index,
            name: link.name.clone(),
            up: link.usable(),
            addresses: own().map(with_length).collect(),
            peers: own()
                .filter(|own| own.peer != own.address)
                .map(|own| own.peer)
                .collect(),
        })
    }

    /// A foreign route in the words of `ip route`.
    pub(crate) fn in_words(&self, prefix: IpNetwork, route: &Foreign) -> String {
        RouteInWords {
            network: self,
            prefix,
            route,
        }
        .to_string()
    }

    /// A target in the words of `ip route`.
    pub(crate) fn target_in_words(&self, target: &Target) -> String {
        InWords(target, |index| self.name(index)).to_string()
    }
}

fn with_length(own: &Address) -> IpNetwork {
    IpNetwork::new(own.address, own.length).unwrap_or(IpNetwork::from(own.address))
}

struct RouteInWords<'a> {
    network: &'a Network,
    prefix: IpNetwork,
    route: &'a Foreign,
}

impl fmt::Display for RouteInWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            network,
            prefix,
            route,
        } = self;
        match &route.verdict {
            Verdict::Forward(hops) => {
                let target = Target::Hops(hops.clone());
                write!(f, "{prefix} ")?;
                if let Some(id) = route.object {
                    write!(f, "nhid {id} ")?;
                }
                write!(f, "{}", InWords(&target, |index| network.name(index)))?;
            }
            Verdict::Drop(word) | Verdict::Other(word) => write!(f, "{word} {prefix}")?,
        }
        if route.table != 254 {
            write!(f, " table {}", route.table)?;
        }
        write!(f, " proto {}", protocol_name(route.protocol))?;
        if route.metric != 0 {
            write!(f, " metric {}", route.metric)
        } else {
            Ok(())
        }
    }
}

/// As in /etc/iproute2/rt_protos, for those one meets.
fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        other => return other.to_string(),
    }
    .to_owned()
}
