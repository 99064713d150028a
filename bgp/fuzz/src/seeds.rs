//! Writes the seeds of each target: `seeds DIRECTORY` makes DIRECTORY/bfd, message, open, session and update.

use std::{fs, io, net::IpAddr, path::Path};

use bgp::{
    bfd::packet::{Diagnostic, Flags, Packet, State},
    prefix::{Family, Prefix},
    wire::{
        Aggregator, AsPath, Attributes, Capability, Cease, Community, ExtendedCommunity,
        LargeCommunity, Message, Nlri, Notification, Open, RouteRefresh, SegmentKind, Unknown,
        capability::{AddPathMode, GracefulRestart},
        refresh::RefreshKind,
        update::{announce, end_of_rib, withdraw},
    },
};
use bytes::BytesMut;

fn main() -> io::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "corpus".into());
    let directory = Path::new(&directory);
    for (number, packet) in packets().iter().enumerate() {
        save(directory, "bfd", number, &packet.write())?;
    }
    let mut message = 0;
    for (number, octets) in updates().into_iter().enumerate() {
        save(directory, "message", number, &octets)?;
        // Without the header: the context, then the body.
        let body: Vec<u8> = octets
            .iter()
            .take(1)
            .chain(octets.iter().skip(20))
            .copied()
            .collect();
        save(directory, "update", number, &body)?;
        // After a good beginning: what is offered, how long the chunks are, then the message.
        for (number, how) in [0x80, 0xc0, 0x8c, 0xfe].into_iter().enumerate() {
            let session = [&[how, 64], octets.get(1..).unwrap_or_default()].concat();
            save(directory, "session", 100 * message + number, &session)?;
        }
        message = number + 1;
    }
    let context = bgp_fuzz::context(1);
    for (number, other) in others().into_iter().enumerate() {
        let mut out = BytesMut::new();
        let Ok(_) = other.write(&context, &mut out) else {
            continue;
        };
        let octets = [&[1], &*out].concat();
        save(directory, "message", message + number, &octets)?;
        if let Message::Open(_) = other {
            save(
                directory,
                "open",
                number,
                octets.get(20..).unwrap_or_default(),
            )?;
        }
    }
    Ok(())
}

/// What two sessions say on their way up.
fn packets() -> Vec<Packet> {
    let packet = |state, flags, your_discriminator| Packet {
        diagnostic: Diagnostic::NONE,
        state,
        flags,
        multiplier: 3,
        my_discriminator: 2,
        your_discriminator,
        desired_min_tx: 100_000,
        required_min_rx: 100_000,
        required_min_echo_rx: 0,
    };
    vec![
        packet(State::Down, Flags::empty(), 0),
        packet(State::Init, Flags::empty(), 1),
        packet(State::Up, Flags::POLL, 1),
        packet(State::Up, Flags::FINAL | Flags::DEMAND, 1),
        packet(State::AdminDown, Flags::INDEPENDENT, 1),
    ]
}

fn save(directory: &Path, target: &str, number: usize, octets: &[u8]) -> io::Result<()> {
    let directory = directory.join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(format!("seed-{number}")), octets)
}

/// One message each, behind the octet of its context.
fn updates() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for octet in 0..64_u8 {
        let context = bgp_fuzz::context(octet);
        for (family, next_hop) in [
            (Family::IPv4, "192.0.2.1"),
            (Family::IPv4, "2001:db8::1"),
            (Family::IPv6, "fe80::1"),
        ] {
            let next_hop: IpAddr = next_hop.parse().expect("an address");
            let prefixes: &[&str] = match family {
                Family::IPv4 => &["10.244.1.0/24", "198.51.100.128/25", "0.0.0.0/0"],
                Family::IPv6 => &["fd00:10:244:1::/64", "2001:db8::/32", "::/0"],
            };
            let nlri = prefixes.iter().zip(1..).map(|(prefix, path_id)| Nlri {
                prefix: prefix.parse::<Prefix>().expect("a prefix"),
                path_id,
            });
            let mut out = BytesMut::from(&[octet][..]);
            if announce(
                &attributes(next_hop),
                family,
                nlri.clone(),
                &context,
                &mut out,
            )
            .is_ok()
            {
                seeds.push(out.to_vec());
            }
            if octet % 8 == 0 {
                let mut out = BytesMut::from(&[octet][..]);
                withdraw(family, nlri, &context, &mut out);
                seeds.push(out.to_vec());
            }
        }
    }
    for family in Family::ALL {
        let mut out = BytesMut::from(&[1][..]);
        end_of_rib(family, &mut out);
        seeds.push(out.to_vec());
    }
    seeds
}

fn attributes(next_hop: IpAddr) -> Attributes {
    let id = [10, 0, 0, 1].into();
    Attributes {
        as_path: AsPath::from_segments([
            (SegmentKind::Sequence, &[65001, 4_200_000_000][..]),
            (SegmentKind::Set, &[65003, 65004][..]),
        ]),
        next_hop: Some(next_hop.into()),
        med: Some(10),
        local_pref: Some(100),
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: 4_200_000_000,
            id,
        }),
        communities: [Community::NO_EXPORT, Community(65000 << 16 | 1)].into(),
        originator_id: Some(id),
        cluster_list: [id].into(),
        extended_communities: [ExtendedCommunity::of_link_bandwidth(65000, 1.25e8)].into(),
        large_communities: [LargeCommunity {
            global: 65000,
            local1: 1,
            local2: 2,
        }]
        .into(),
        unknown: [Unknown {
            flags: 0xe0,
            code: 35,
            value: [0, 0, 0xfd, 0xe9].into(),
        }]
        .into(),
        ..Attributes::default()
    }
}

fn others() -> Vec<Message> {
    let both = |capability: fn(Family) -> Capability| Family::ALL.map(capability).to_vec();
    let full = [
        both(Capability::Multiprotocol),
        vec![
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![Family::IPv4]),
            Capability::ExtendedMessage,
            Capability::GracefulRestart(GracefulRestart {
                restarted: true,
                notification: true,
                restart_time: 120,
                families: vec![(Family::IPv4, true), (Family::IPv6, false)],
            }),
            Capability::FourOctetAs(4_200_000_000),
            Capability::AddPath(vec![(Family::IPv4, AddPathMode::Both)]),
            Capability::EnhancedRouteRefresh,
            Capability::LongLivedGracefulRestart(vec![(Family::IPv6, true, 3600)]),
            Capability::Fqdn {
                host: "node1".into(),
                domain: "example".into(),
            },
            Capability::SoftwareVersion("routelet/0.1".into()),
            Capability::Unknown {
                code: 9,
                value: vec![1].into(),
            },
        ],
    ]
    .concat();
    let long = vec![
        Capability::Unknown {
            code: 200,
            value: vec![7; 250].into(),
        };
        3
    ];
    let open = |capabilities| {
        Message::Open(Open {
            asn: 64512,
            hold_time: 90,
            id: [10, 0, 0, 1].into(),
            capabilities,
        })
    };
    let shutdown = Notification::administrative_shutdown("maintenance");
    vec![
        open(Vec::new()),
        open(full),
        open(long),
        Message::Keepalive,
        Message::RouteRefresh(RouteRefresh {
            family: Family::IPv6,
            kind: RefreshKind::Begin,
        }),
        Message::Notification(Notification::hard_reset(&shutdown)),
        Message::Notification(shutdown),
        Message::Notification(Notification::cease(Cease::BfdDown)),
        Message::Notification(Notification::max_prefixes(Family::IPv4, 1000)),
    ]
}
