//! Best route → [`fib::Change`]: the one bridge between the speaker and the installer.

use std::net::IpAddr;

use bgp::rib::task::Install;
use fib::{Change, Interface, NextHop};

/// What a batch of the speaker's means for the installer. `links` are the interfaces as they are now.
pub(crate) fn changes(batch: Vec<Install>, links: &[Interface]) -> Vec<Change> {
    batch
        .into_iter()
        .map(|install| change(&install, links))
        .collect()
}

fn change(install: &Install, links: &[Interface]) -> Change {
    let prefix = install.prefix.network();
    if install.next_hops.is_empty() {
        return Change::Withdrawn(prefix);
    }
    let next_hops = install.next_hops.iter().map(|hop| {
        let link = hop
            .interface
            .as_deref()
            .and_then(|name| links.iter().find(|link| link.name == name))
            .map(|link| link.index);
        // Where the session itself is on the link, so is the link-local address beside a global one (RFC 2545 §3), which need not be.
        let address = match (hop.next_hop.link_local, link) {
            (Some(link_local), Some(_)) => link_local.into(),
            _ => hop.next_hop.address,
        };
        NextHop {
            address,
            // Only a link-local address means nothing without its link; others are resolved by the kernel's routes.
            interface: link.filter(|_| is_link_local(address)),
            weight: hop.weight.max(1),
        }
    });
    Change::wanted(prefix, next_hops)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use bgp::{prefix::Prefix, rib::task::Hop, wire};
    use smallvec::smallvec;

    use super::*;

    fn install(hops: &[(&str, &str)]) -> Install {
        let prefix: Prefix = "10.244.2.0/24".parse().unwrap();
        let hop = |(address, interface): &(&str, &str)| Hop {
            next_hop: wire::NextHop::from(address.parse::<IpAddr>().unwrap()),
            interface: Some((*interface).into()),
            weight: 1,
        };
        Install {
            prefix,
            next_hops: hops.iter().map(hop).collect(),
        }
    }

    fn link(index: u32, name: &str) -> Interface {
        Interface {
            index,
            name: name.into(),
            up: true,
            addresses: Vec::new(),
            peers: Vec::new(),
        }
    }

    #[test]
    fn no_next_hop_is_a_withdrawal() {
        let prefix = "10.244.2.0/24".parse().unwrap();
        assert_eq!(
            changes(vec![install(&[])], &[]),
            [Change::Withdrawn(prefix)]
        );
    }

    #[test]
    fn of_two_addresses_the_link_local_one_counts_where_the_session_is_on_its_link() {
        let links = [link(3, "eth1")];
        let beside = |interface: &str| {
            let mut install = install(&[("fd00::9", interface)]);
            install.next_hops[0].next_hop.link_local = Some("fe80::9".parse().unwrap());
            let Change::Wanted(wanted) = changes(vec![install], &links).remove(0) else {
                panic!("wanted")
            };
            wanted.next_hops[0]
        };
        let on_link = NextHop::new("fe80::9".parse().unwrap()).on(3);
        assert_eq!(beside("eth1"), on_link);
        let elsewhere = NextHop::new("fd00::9".parse().unwrap());
        assert_eq!(beside("eth9"), elsewhere);
    }

    #[test]
    fn a_link_local_next_hop_gets_the_interface_of_its_session_and_no_other_does() {
        let links = [link(2, "eth0"), link(3, "eth1")];
        let change = changes(
            vec![install(&[("fe80::1", "eth1"), ("10.0.0.9", "eth1")])],
            &links,
        );
        let Change::Wanted(wanted) = &change[0] else {
            panic!("wanted")
        };
        let expected: smallvec::SmallVec<[NextHop; 1]> = smallvec![
            NextHop::new("fe80::1".parse().unwrap()).on(3),
            NextHop::new("10.0.0.9".parse().unwrap()),
        ];
        assert_eq!(wanted.next_hops, expected);
    }
}
