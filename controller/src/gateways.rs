//! The gateways of the kernel's default routes, from `/proc/net`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{cluster::Cluster, desired::Gateway};

/// The gateways of the best default routes of each family; of several equal ones all, in order of their address. None where
/// no peer is to be found by them: the kernel has to write down its whole table for the few lines that count.
pub(crate) fn default_gateways(cluster: &Cluster) -> Vec<Gateway> {
    if cluster
        .peers
        .values()
        .all(|peer| peer.auto_discovery.is_none())
    {
        return Vec::new();
    }
    // Without IPv6 in the kernel the second file is missing: then there is no such route.
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let mut all = best(v4.lines().filter_map(ipv4));
    all.extend(best(v6.lines().filter_map(ipv6)));
    all
}

/// Those with the lowest metric.
fn best(routes: impl Iterator<Item = (u32, Gateway)>) -> Vec<Gateway> {
    let routes: Vec<_> = routes.collect();
    let lowest = routes.iter().map(|(metric, _)| *metric).min();
    let mut gateways: Vec<Gateway> = routes
        .into_iter()
        .filter(|(metric, _)| Some(*metric) == lowest)
        .map(|(_, gateway)| gateway)
        .collect();
    gateways.sort();
    gateways.dedup();
    gateways
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, addresses in hexadecimal in the machine's byte order.
fn ipv4(line: &str) -> Option<(u32, Gateway)> {
    let mut fields = line.split_whitespace();
    let interface = fields.next()?;
    let destination = fields.next()?;
    let gateway = u32::from_str_radix(fields.next()?, 16).ok()?;
    let metric = fields.nth(3)?.parse().ok()?;
    let mask = fields.next()?;
    let is_default = destination == "00000000" && mask == "00000000" && gateway != 0;
    is_default.then(|| {
        let gateway = Gateway {
            address: IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())),
            interface: interface.to_owned(),
        };
        (metric, gateway)
    })
}

/// `destination length source length gateway metric refcnt use flags interface`, all in hexadecimal.
fn ipv6(line: &str) -> Option<(u32, Gateway)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [
        destination,
        length,
        _,
        _,
        gateway,
        metric,
        _,
        _,
        _,
        interface,
    ] = fields.as_slice()
    else {
        return None;
    };
    let gateway = u128::from_str_radix(gateway, 16).ok()?;
    let is_default = destination.bytes().all(|b| b == b'0') && *length == "00" && gateway != 0;
    let metric = u32::from_str_radix(metric, 16).ok()?;
    is_default.then(|| {
        let gateway = Gateway {
            address: IpAddr::V6(Ipv6Addr::from(gateway)),
            interface: (*interface).to_owned(),
        };
        (metric, gateway)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_of_the_best_default_route_is_found() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\tFE00000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth1\t00000000\tFE00010A\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
                     eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let found = best(table.lines().filter_map(ipv4));
        if cfg!(target_endian = "little") {
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].address.to_string(), "10.0.0.254");
            assert_eq!(found[0].interface, "eth0");
        }
    }

    #[test]
    fn a_link_local_gateway_knows_its_interface() {
        let table = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n\
                     00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        let found = best(table.lines().filter_map(ipv6));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address.to_string(), "fe80::1");
        assert_eq!(found[0].interface, "eth0");
    }
}
