//! What is written is read back as it was, in every context; and octets that nobody meant never do harm.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use bgp::{
    prefix::{Families, Family, Prefix},
    wire::{
        Aggregator, AsPath, Attributes, Capability, Community, Context, ExtendedCommunity,
        LargeCommunity, Limit, Message, NextHop, Nlri, Notification, Open, Origin, Partial,
        RouteRefresh, SegmentKind, Unknown, Update,
        capability::{AddPathMode, GracefulRestart},
        refresh::RefreshKind,
        update::{Announced, Unsendable},
    },
};
use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, option, prelude::*};

fn context() -> impl Strategy<Value = Context> {
    any::<[bool; 7]>().prop_map(|[four, v4, v6, extended, next_hop, internal, both]| {
        let mut add_path = Families::empty();
        add_path.set(Families::IPV4, v4);
        add_path.set(Families::IPV6, v6);
        Context {
            families: Families::all(),
            four_octet_as: four,
            // One side's sending is the other's receiving; here both are the same speaker.
            add_path_receive: add_path,
            add_path_send: add_path,
            extended_message: extended,
            extended_next_hop: next_hop && both,
            internal,
        }
    })
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::IPv4), Just(Family::IPv6)]
}

fn asn() -> impl Strategy<Value = u32> {
    prop_oneof![1..=65535_u32, 65536..=u32::MAX, Just(23456)]
}

fn as_path(internal: bool) -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![
        8 => Just(SegmentKind::Sequence),
        2 => Just(SegmentKind::Set),
        1 => Just(SegmentKind::ConfedSequence),
        1 => Just(SegmentKind::ConfedSet),
    ];
    vec((kind, vec(asn(), 1..300)), 0..4).prop_map(move |segments| {
        AsPath::from_segments(
            segments
                .iter()
                .filter(|(kind, _)| internal || !kind.is_confederation())
                .map(|(kind, asns)| (*kind, &**asns)),
        )
    })
}

fn v4_host() -> impl Strategy<Value = Ipv4Addr> {
    (1..=223_u8, any::<[u8; 3]>())
        .prop_filter("loopback", |(first, _)| *first != 127)
        .prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
}

fn v6_host() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(|bits| Ipv6Addr::from(bits >> 4 | 0x2 << 124))
}

fn link_local() -> impl Strategy<Value = Ipv6Addr> {
    any::<u64>().prop_map(|bits| Ipv6Addr::from(0xfe80 << 112 | u128::from(bits)))
}

fn next_hop(family: Family, context: &Context) -> BoxedStrategy<NextHop> {
    let v6 = prop_oneof![
        v6_host().prop_map(|address| IpAddr::V6(address).into()),
        link_local().prop_map(|address| IpAddr::V6(address).into()),
        (v6_host(), link_local()).prop_map(|(address, link_local)| NextHop {
            address: address.into(),
            link_local: Some(link_local),
        }),
    ];
    let v4 = v4_host().prop_map(|address| IpAddr::V4(address).into());
    match (family, context.extended_next_hop) {
        (Family::IPv4, false) => v4.boxed(),
        (Family::IPv4, true) => prop_oneof![v4, v6].boxed(),
        (Family::IPv6, _) => v6.boxed(),
    }
}

fn nlri(family: Family, context: &Context) -> impl Strategy<Value = Vec<Nlri>> + use<> {
    let with_id = context.add_path_send.has(family);
    let prefix = match family {
        Family::IPv4 => (v4_host(), 0..=32_u8)
            .prop_map(|(address, length)| Prefix::v4(address, length).unwrap())
            .boxed(),
        Family::IPv6 => (v6_host(), 0..=128_u8)
            .prop_map(|(address, length)| Prefix::v6(address, length).unwrap())
            .boxed(),
    };
    let nlri = (prefix, any::<u32>()).prop_map(move |(prefix, path_id)| Nlri {
        prefix,
        path_id: if with_id { path_id } else { 0 },
    });
    vec(nlri, 1..40)
}

fn unknown() -> impl Strategy<Value = Vec<Unknown>> {
    let code = prop_oneof![33..=255_u8, 11..=13_u8, 19..=31_u8];
    vec((code, vec(any::<u8>(), 0..300)), 0..3).prop_map(|list| {
        let mut list: Vec<_> = list
            .into_iter()
            .map(|(code, value)| Unknown {
                flags: 0xe0,
                code,
                value: value.into(),
            })
            .collect();
        list.sort_by_key(|unknown| unknown.code);
        list.dedup_by_key(|unknown| unknown.code);
        list
    })
}

fn attributes(family: Family, context: Context) -> impl Strategy<Value = Attributes> {
    let origin = prop_oneof![
        Just(Origin::Igp),
        Just(Origin::Egp),
        Just(Origin::Incomplete)
    ];
    let internal = context.internal;
    let aggregator = (asn(), any::<u32>()).prop_map(|(asn, id)| Aggregator { asn, id: id.into() });
    let large = any::<[u32; 3]>().prop_map(|[global, local1, local2]| LargeCommunity {
        global,
        local1,
        local2,
    });
    let first = (
        origin,
        as_path(internal),
        next_hop(family, &context),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        any::<bool>(),
        option::of(aggregator),
    );
    let second = (
        vec(any::<u32>().prop_map(Community), 0..70),
        option::of(any::<u32>()),
        vec(any::<u32>().prop_map(Ipv4Addr::from), 0..4),
        vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..4),
        vec(large, 0..4),
        any::<u8>(),
        unknown(),
    );
    (first, second).prop_map(move |(first, second)| {
        let (origin, as_path, next_hop, med, local_pref, atomic_aggregate, aggregator) = first;
        let (communities, originator, clusters, extended, mut large, partial, unknown) = second;
        large.sort();
        large.dedup();
        let mut partial = Partial::from_bits_truncate(partial);
        partial.set(
            Partial::AGGREGATOR,
            partial.contains(Partial::AGGREGATOR) && aggregator.is_some(),
        );
        partial.set(
            Partial::COMMUNITIES,
            partial.contains(Partial::COMMUNITIES) && !communities.is_empty(),
        );
        partial.set(
            Partial::EXTENDED_COMMUNITIES,
            partial.contains(Partial::EXTENDED_COMMUNITIES) && !extended.is_empty(),
        );
        partial.set(
            Partial::LARGE_COMMUNITY,
            partial.contains(Partial::LARGE_COMMUNITY) && !large.is_empty(),
        );
        Attributes {
            origin,
            as_path,
            next_hop: Some(next_hop),
            med,
            local_pref: local_pref.filter(|_| internal),
            atomic_aggregate,
            aggregator,
            communities: communities.into(),
            originator_id: originator.filter(|_| internal).map(Ipv4Addr::from),
            cluster_list: clusters.into_iter().filter(|_| internal).collect(),
            extended_communities: extended.into(),
            large_communities: large.into(),
            partial,
            unknown: unknown.into(),
        }
    })
}

/// A context, and an UPDATE that announces in it.
fn announcement() -> impl Strategy<Value = (Context, Update)> {
    (context(), family())
        .prop_flat_map(|(context, family)| {
            (
                Just(context),
                attributes(family, context),
                nlri(family, &context),
            )
        })
        .prop_map(|(context, attributes, nlri)| {
            let announced = Announced {
                attributes: Arc::new(attributes),
                nlri,
            };
            let update = Update {
                announced: [announced].into_iter().collect(),
                ..Update::default()
            };
            (context, update)
        })
}

fn withdrawal() -> impl Strategy<Value = (Context, Update)> {
    (context(), family())
        .prop_flat_map(|(context, family)| (Just(context), nlri(family, &context)))
        .prop_map(|(context, withdrawn)| {
            let update = Update {
                withdrawn,
                ..Update::default()
            };
            (context, update)
        })
}

fn capability() -> impl Strategy<Value = Capability> {
    let text = "[a-z0-9.-]{0,63}";
    prop_oneof![
        family().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        vec(family(), 0..3).prop_map(Capability::ExtendedNextHop),
        Just(Capability::ExtendedMessage),
        (
            any::<[bool; 2]>(),
            0..4096_u16,
            vec((family(), any::<bool>()), 0..3)
        )
            .prop_map(|([restarted, notification], restart_time, families)| {
                Capability::GracefulRestart(GracefulRestart {
                    restarted,
                    notification,
                    restart_time,
                    families,
                })
            }),
        Just(AddPathMode::Both).prop_map(|mode| Capability::AddPath(vec![
            (Family::IPv4, mode),
            (Family::IPv6, AddPathMode::Send)
        ])),
        Just(Capability::EnhancedRouteRefresh),
        vec((family(), any::<bool>(), 0..1_u32 << 24), 0..3)
            .prop_map(Capability::LongLivedGracefulRestart),
        (text, text).prop_map(|(host, domain)| Capability::Fqdn { host, domain }),
        "[ -~]{0,64}".prop_map(Capability::SoftwareVersion),
        (128..=255_u8, vec(any::<u8>(), 0..255)).prop_map(|(code, value)| Capability::Unknown {
            code,
            value: value.into(),
        }),
    ]
}

fn open() -> impl Strategy<Value = Open> {
    (
        asn(),
        prop_oneof![Just(0_u16), 3..=u16::MAX],
        1..=u32::MAX,
        vec(capability(), 0..14),
    )
        .prop_map(|(asn, hold_time, id, mut capabilities)| {
            // A speaker says its AS once, and one beyond two octets only with the capability.
            capabilities.push(Capability::FourOctetAs(asn));
            Open {
                asn,
                hold_time,
                id: id.into(),
                capabilities,
            }
        })
}

fn other() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        Just(RefreshKind::Request),
        Just(RefreshKind::Begin),
        Just(RefreshKind::End)
    ];
    prop_oneof![
        open().prop_map(Message::Open),
        Just(Message::Keepalive),
        (family(), kind)
            .prop_map(|(family, kind)| Message::RouteRefresh(RouteRefresh { family, kind })),
        (any::<[u8; 2]>(), vec(any::<u8>(), 0..300)).prop_map(|([code, subcode], data)| {
            Message::Notification(Notification::with_data(code, subcode, Bytes::from(data)))
        }),
    ]
}

fn written(message: &Message, context: &Context) -> BytesMut {
    let mut out = BytesMut::new();
    match message.write(context, &mut out) {
        Ok(messages) => assert_eq!(read(&out, context).map(|list| list.len()), Some(messages)),
        // Attributes longer than a message of 4,096 octets: nothing is written at all.
        Err(Unsendable::TooLong(octets)) => assert!(out.is_empty() && octets > 4000),
        Err(other) => panic!("{other}"),
    }
    out
}

/// Every message in `octets`, or none where one of them is an error.
fn read(octets: &[u8], context: &Context) -> Option<Vec<Message>> {
    let mut buffer = BytesMut::from(octets);
    let mut messages = Vec::new();
    while let Some(message) = Message::take(&mut buffer, Limit::Extended, context).ok()? {
        messages.push(message);
    }
    Some(messages)
}

proptest! {
    #[test]
    fn an_announcement_is_read_as_it_was_written((context, update) in announcement()) {
        let octets = written(&Message::Update(update.clone()), &context);
        prop_assume!(!octets.is_empty());
        let mut nlri = Vec::new();
        let sent = &update.announced[0];
        for message in read(&octets, &context).unwrap() {
            let Message::Update(update) = message else { panic!("not an UPDATE") };
            prop_assert!(update.faults.is_empty(), "{:?}", update.faults);
            prop_assert!(update.withdrawn.is_empty());
            let [announced] = &*update.announced else { panic!("not one set of attributes") };
            nlri.extend(announced.nlri.clone());
            if context.four_octet_as {
                prop_assert_eq!(&announced.attributes, &sent.attributes);
            } else {
                prop_assert_eq!(announced.attributes.as_path.hops(), sent.attributes.as_path.hops());
                let mut same = (*announced.attributes).clone();
                same.as_path = sent.attributes.as_path.clone();
                prop_assert_eq!(&same, &*sent.attributes);
                if !sent.attributes.as_path.segments().any(|segment| segment.kind.is_confederation()) {
                    let read: Vec<_> = announced.attributes.as_path.asns().collect();
                    prop_assert_eq!(read, sent.attributes.as_path.asns().collect::<Vec<_>>());
                }
            }
        }
        prop_assert_eq!(&nlri, &sent.nlri);
    }

    #[test]
    fn a_withdrawal_is_read_as_it_was_written((context, update) in withdrawal()) {
        let octets = written(&Message::Update(update.clone()), &context);
        prop_assert_eq!(read(&octets, &context), Some(vec![Message::Update(update)]));
    }

    #[test]
    fn every_other_message_is_read_as_it_was_written(message in other(), context in context()) {
        let octets = written(&message, &context);
        prop_assert_eq!(read(&octets, &context), Some(vec![message]));
    }

    #[test]
    fn arbitrary_octets_do_no_harm(octets in vec(any::<u8>(), 0..200), context in context(), kind in 1..=5_u8) {
        let _ = read(&octets, &context);
        let mut framed = vec![0xff; 16];
        framed.extend(u16::try_from(octets.len() + 19).unwrap().to_be_bytes());
        framed.push(kind);
        framed.extend(octets);
        let _ = read(&framed, &context);
    }

    #[test]
    fn what_a_mutated_update_says_can_be_said_again(
        (context, update) in announcement(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut octets = written(&Message::Update(update), &context);
        prop_assume!(!octets.is_empty());
        for (place, octet) in changes {
            let place = 19 + place.index(octets.len() - 19);
            octets[place] = octet;
        }
        let mut first = octets.clone();
        if let Ok(Some(Message::Update(mut update))) = Message::take(&mut first, Limit::Extended, &context) {
            update.faults.clear();
            let again = written(&Message::Update(update.clone()), &context);
            // Through two octets a path goes in two attributes, and is joined otherwise than it was cut.
            prop_assume!(context.four_octet_as && (update == Update::default() || !again.is_empty()));
            let mut joined = Update::default();
            for message in read(&again, &context).unwrap() {
                let Message::Update(part) = message else { panic!("not an UPDATE") };
                prop_assert!(part.faults.is_empty(), "{:?}", part.faults);
                joined.withdrawn.extend(part.withdrawn);
                joined.end_of_rib = joined.end_of_rib.or(part.end_of_rib);
                for announced in part.announced {
                    match joined.announced.last_mut() {
                        Some(last) if last.attributes == announced.attributes => last.nlri.extend(announced.nlri),
                        _ => joined.announced.push(announced),
                    }
                }
            }
            joined.withdrawn.sort();
            update.withdrawn.sort();
            prop_assert_eq!(joined, update);
        }
    }
}
