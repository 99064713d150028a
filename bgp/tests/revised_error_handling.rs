//! RFC 7606, rule by rule: what becomes of a route whose UPDATE is not as it should be.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

use bgp::{
    prefix::{Families, Family, Prefix},
    wire::{Context, Kind, Limit, Message, Nlri, Notification, Update, WireError, frame},
};

const EXTERNAL: Context = Context {
    families: Families::all(),
    four_octet_as: true,
    add_path_receive: Families::empty(),
    add_path_send: Families::empty(),
    extended_message: false,
    extended_next_hop: false,
    internal: false,
};
const INTERNAL: Context = Context {
    internal: true,
    ..EXTERNAL
};
/// 192.0.2.0/24, as NLRI.
const PREFIX: &[u8] = &[24, 192, 0, 2];
/// 2001:db8::/32, as NLRI.
const PREFIX6: &[u8] = &[32, 0x20, 0x01, 0x0d, 0xb8];
/// 2001:db8::1.
const HOP6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [&[flags, code, length], value].concat()
}

fn origin() -> Vec<u8> {
    attribute(0x40, 1, &[0])
}

fn as_path() -> Vec<u8> {
    attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe9])
}

fn next_hop() -> Vec<u8> {
    attribute(0x40, 3, &[10, 0, 0, 1])
}

/// ORIGIN, AS_PATH and NEXT_HOP, and what the test is about behind them.
fn with(more: &[u8]) -> Vec<u8> {
    [origin(), as_path(), next_hop(), more.to_vec()].concat()
}

fn reach(next_hop: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = u8::try_from(next_hop.len()).unwrap();
    attribute(
        0x80,
        14,
        &[&[0, 2, 1, length], next_hop, &[0], nlri].concat(),
    )
}

fn message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let sized =
        |part: &[u8]| [&u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat();
    let body = [sized(withdrawn), sized(attributes), nlri.to_vec()].concat();
    raw(Kind::Update, &body)
}

fn raw(kind: Kind, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap().to_be_bytes();
    [&[0xff; 16], &length[..], &[kind as u8], body].concat()
}

fn read(message: &[u8], context: &Context) -> Result<Update, WireError> {
    match frame(message, Limit::Standard)?.unwrap().message(context)? {
        Some(Message::Update(update)) => Ok(update),
        other => panic!("{other:?}"),
    }
}

fn prefix(text: &str) -> Nlri {
    text.parse::<Prefix>().unwrap().into()
}

/// The route of an UPDATE with these attributes is announced, and this is what was found wrong.
#[track_caller]
fn announced(attributes: &[u8], context: &Context) -> (Update, Vec<String>) {
    let update = read(&message(&[], attributes, PREFIX), context).unwrap();
    assert_eq!(update.withdrawn, []);
    assert_eq!(update.announced[0].nlri, [prefix("192.0.2.0/24")]);
    let reasons = update
        .faults
        .iter()
        .map(|fault| fault.reason.clone())
        .collect();
    (update, reasons)
}

/// … and nothing was wrong.
#[track_caller]
fn welcome(attributes: &[u8], context: &Context) -> Update {
    let (update, reasons) = announced(attributes, context);
    assert_eq!(reasons, [""; 0]);
    update
}

/// The attribute is discarded, the route announced without it.
#[track_caller]
fn discarded(more: &[u8], context: &Context, reason: &str) -> Update {
    let (update, reasons) = announced(&with(more), context);
    assert_eq!(reasons, [reason]);
    update
}

/// The route counts as withdrawn, inside and outside our AS.
#[track_caller]
fn withdrawn(attributes: &[u8], reason: &str) {
    for context in [INTERNAL, EXTERNAL] {
        withdrawn_in(&context, attributes, reason);
    }
}

#[track_caller]
fn withdrawn_in(context: &Context, attributes: &[u8], reason: &str) {
    let update = read(&message(&[], attributes, PREFIX), context).unwrap();
    assert!(update.announced.is_empty());
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24")]);
    let reasons: Vec<_> = update.faults.iter().map(|fault| &*fault.reason).collect();
    assert_eq!(reasons, [reason]);
    assert_eq!(update.end_of_rib, None);
}

/// The session ends with this NOTIFICATION.
#[track_caller]
fn reset(message: &[u8], context: &Context, words: &str) -> Notification {
    let notification = read(message, context).unwrap_err().notification();
    assert_eq!(notification.to_string(), words);
    notification
}

#[test]
fn a_sound_update_has_no_faults() {
    let update = welcome(&with(&[]), &EXTERNAL);
    let attributes = &update.announced[0].attributes;
    assert_eq!(attributes.as_path.to_string(), "65001");
    assert_eq!(attributes.next_hop.unwrap().address.to_string(), "10.0.0.1");
}

#[test]
fn lengths_that_overrun_the_message_reset_the_session() {
    let words = "UPDATE Message Error/Malformed Attribute List";
    reset(&raw(Kind::Update, &[0, 9, 0, 0]), &EXTERNAL, words);
    reset(&raw(Kind::Update, &[0, 0, 0, 9]), &EXTERNAL, words);
    reset(&raw(Kind::Update, &[0, 3, 8, 10, 0, 0]), &EXTERNAL, words);
}

#[test]
fn wrong_optional_or_transitive_flags_withdraw() {
    let med = attribute(0x40, 4, &[0, 0, 0, 1]);
    withdrawn(
        &with(&med),
        "MULTI_EXIT_DISC has flags 0x40 (RFC 7606 §3 c)",
    );
    let wrong = [attribute(0xc0, 1, &[0]), as_path(), next_hop()].concat();
    withdrawn(&wrong, "ORIGIN has flags 0xc0 (RFC 7606 §3 c)");
}

#[test]
fn partial_extended_length_and_unused_flags_are_no_fault() {
    let med = [0x9f, 4, 0, 4, 0, 0, 0, 1];
    assert_eq!(
        welcome(&with(&med), &EXTERNAL).announced[0].attributes.med,
        Some(1)
    );
}

#[test]
fn missing_mandatory_attributes_withdraw() {
    withdrawn(
        &[as_path(), next_hop()].concat(),
        "ORIGIN is missing (RFC 7606 §3 d)",
    );
    withdrawn(
        &[origin(), next_hop()].concat(),
        "AS_PATH is missing (RFC 7606 §3 d)",
    );
    withdrawn(
        &[origin(), as_path()].concat(),
        "NEXT_HOP is missing (RFC 7606 §3 d)",
    );
}

#[test]
fn of_a_repeated_attribute_the_first_counts() {
    let med = |octet| attribute(0x80, 4, &[0, 0, 0, octet]);
    let reason = "MULTI_EXIT_DISC stands there more than once (RFC 7606 §3 g)";
    let update = discarded(&[med(1), med(2)].concat(), &EXTERNAL, reason);
    assert_eq!(update.announced[0].attributes.med, Some(1));
    let unknown = |octet| attribute(0xc0, 200, &[octet]);
    let reason = "attribute 200 stands there more than once (RFC 7606 §3 g)";
    let update = discarded(&[unknown(1), unknown(2)].concat(), &EXTERNAL, reason);
    assert_eq!(*update.announced[0].attributes.unknown[0].value, [1]);
}

#[test]
fn repeated_multiprotocol_attributes_reset_the_session() {
    let words = "UPDATE Message Error/Malformed Attribute List";
    let twice = [reach(&HOP6, PREFIX6), reach(&HOP6, PREFIX6)].concat();
    reset(&message(&[], &with(&twice), &[]), &EXTERNAL, words);
    let unreach = attribute(0x80, 15, &[0, 2, 1]);
    reset(
        &message(&[], &[unreach.clone(), unreach].concat(), &[]),
        &EXTERNAL,
        words,
    );
}

#[test]
fn the_strongest_of_several_faults_decides() {
    let faults = [attribute(0x40, 6, &[1]), attribute(0x80, 4, &[1])].concat();
    let update = read(&message(&[], &with(&faults), PREFIX), &EXTERNAL).unwrap();
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24")]);
    assert_eq!(update.faults.len(), 2);
}

#[test]
fn an_attribute_longer_than_the_list_withdraws() {
    let reason = "COMMUNITIES is longer than the list of attributes (RFC 7606 §4)";
    withdrawn(&with(&[0xc0, 8, 9, 0, 0]), reason);
    withdrawn(&with(&[0xd0, 8, 0]), reason);
    withdrawn(
        &with(&[0xc0]),
        "an attribute is longer than the list of attributes (RFC 7606 §4)",
    );
}

#[test]
fn multiprotocol_prefixes_beyond_the_list_reset_the_session() {
    let cut = [0x80, 14, 40, 0, 2, 1, 16];
    let words = "UPDATE Message Error/Optional Attribute Error: attribute 14";
    reset(&message(&[], &with(&cut), PREFIX), &EXTERNAL, words);
    let cut = [0x80, 15, 9, 0, 2, 1, 64];
    let words = "UPDATE Message Error/Optional Attribute Error: attribute 15";
    reset(&message(&[], &with(&cut), PREFIX), &EXTERNAL, words);
}

#[test]
fn faults_without_reachable_prefixes_reset_the_session() {
    let words = "UPDATE Message Error/Attribute Length Error: attribute 4";
    let med = attribute(0x80, 4, &[1]);
    let notification = reset(&message(&[], &with(&med), &[]), &EXTERNAL, words);
    assert_eq!(*notification.data, *med);
    let words = "UPDATE Message Error/Invalid ORIGIN Attribute";
    reset(
        &message(PREFIX, &attribute(0x40, 1, &[7]), &[]),
        &EXTERNAL,
        words,
    );
    let words = "UPDATE Message Error/Attribute Flags Error: attribute 4";
    let med = attribute(0xc0, 4, &[0; 4]);
    let notification = reset(&message(PREFIX, &med, &[]), &EXTERNAL, words);
    assert_eq!(*notification.data, *med);
    let words = "UPDATE Message Error/Malformed AS_PATH";
    let path = attribute(0x40, 2, &[9, 1, 0, 0, 0, 1]);
    reset(&message(PREFIX, &path, &[]), &EXTERNAL, words);
    // Attribute discard is no reason to.
    let update = read(&message(PREFIX, &attribute(0x40, 6, &[7]), &[]), &EXTERNAL).unwrap();
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24")]);
}

#[test]
fn wrong_flags_of_a_lone_mp_unreach_do_no_harm() {
    let unreach = attribute(0xc0, 15, &[&[0, 2, 1], PREFIX6].concat());
    let update = read(&message(&[], &unreach, &[]), &EXTERNAL).unwrap();
    assert_eq!(update.withdrawn, [prefix("2001:db8::/32")]);
}

#[test]
fn prefixes_that_cannot_be_told_apart_reset_the_session() {
    let words = "UPDATE Message Error/Invalid Network Field";
    for nlri in [
        &[33, 10, 0, 0, 0, 0][..],
        &[24, 10, 0],
        &[24],
        &[8, 10, 255],
    ] {
        reset(&message(&[], &with(&[]), nlri), &EXTERNAL, words);
        reset(&message(nlri, &[], &[]), &EXTERNAL, words);
    }
    let words = "UPDATE Message Error/Optional Attribute Error: attribute 14";
    for nlri in [&[129; 18][..], &[64, 0x20], &[32]] {
        reset(
            &message(&[], &with(&reach(&HOP6, nlri)), &[]),
            &EXTERNAL,
            words,
        );
    }
    let words = "UPDATE Message Error/Optional Attribute Error: attribute 15";
    let unreach = attribute(0x80, 15, &[0, 2, 1, 64, 0x20]);
    reset(&message(&[], &unreach, &[]), &EXTERNAL, words);
    reset(
        &message(&[], &attribute(0x80, 15, &[0, 2]), &[]),
        &EXTERNAL,
        words,
    );
}

#[test]
fn a_malformed_origin_withdraws() {
    let wrong = |value: &[u8]| [attribute(0x40, 1, value), as_path(), next_hop()].concat();
    withdrawn(
        &wrong(&[3]),
        "ORIGIN is none of IGP, EGP, INCOMPLETE (RFC 7606 §7.1)",
    );
    withdrawn(
        &wrong(&[0, 0]),
        "ORIGIN has 2 octets, not 1 (RFC 7606 §7.1)",
    );
    withdrawn(&wrong(&[]), "ORIGIN has 0 octets, not 1 (RFC 7606 §7.1)");
}

#[test]
fn a_malformed_as_path_withdraws() {
    let wrong = |value: &[u8]| [origin(), attribute(0x40, 2, value), next_hop()].concat();
    withdrawn(
        &wrong(&[9, 1, 0, 0, 0, 1]),
        "AS_PATH has a segment of unknown type (RFC 7606 §7.2)",
    );
    withdrawn(
        &wrong(&[2, 2, 0, 0, 0, 1]),
        "AS_PATH has a segment longer than itself (RFC 7606 §7.2)",
    );
    withdrawn(
        &wrong(&[2, 0]),
        "AS_PATH has an empty segment (RFC 7606 §7.2)",
    );
    withdrawn(
        &wrong(&[2, 1, 0, 0, 0, 1, 2]),
        "AS_PATH ends within a segment (RFC 7606 §7.2)",
    );
    withdrawn(
        &wrong(&[2, 1, 0, 0, 0, 0]),
        "AS_PATH holds AS 0, RFC 7607 §2 (RFC 7606 §7.2)",
    );
}

#[test]
fn an_empty_as_path_is_sound() {
    let attributes = [origin(), attribute(0x40, 2, &[]), next_hop()].concat();
    assert!(
        welcome(&attributes, &INTERNAL).announced[0]
            .attributes
            .as_path
            .is_empty()
    );
}

#[test]
fn confederation_segments_from_outside_withdraw() {
    let path = attribute(0x40, 2, &[3, 1, 0, 0, 0, 1]);
    let attributes = [origin(), path, next_hop()].concat();
    let reason = "AS_PATH has a confederation segment, RFC 5065 §5 (RFC 7606 §7.2)";
    withdrawn_in(&EXTERNAL, &attributes, reason);
    assert_eq!(
        welcome(&attributes, &INTERNAL).announced[0]
            .attributes
            .as_path
            .hops(),
        0
    );
}

#[test]
fn a_malformed_next_hop_withdraws() {
    let wrong = |value: &[u8]| [origin(), as_path(), attribute(0x40, 3, value)].concat();
    withdrawn(
        &wrong(&[10, 0, 0]),
        "NEXT_HOP has 3 octets, not 4 (RFC 7606 §7.3)",
    );
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 5], [255; 4]] {
        let reason = "NEXT_HOP has a next hop no host can have (RFC 4271 §6.3)";
        withdrawn(&wrong(&address), reason);
    }
}

#[test]
fn a_next_hop_beside_mp_reach_does_not_matter() {
    let attributes = [
        reach(&HOP6, PREFIX6),
        origin(),
        as_path(),
        attribute(0x40, 3, &[0; 4]),
    ];
    let update = read(&message(&[], &attributes.concat(), &[]), &EXTERNAL).unwrap();
    assert_eq!(update.faults, []);
    let hop = update.announced[0].attributes.next_hop.unwrap();
    assert_eq!(hop.address.to_string(), "2001:db8::1");
}

#[test]
fn a_malformed_med_withdraws() {
    let reason = "MULTI_EXIT_DISC has 3 octets, not 4 (RFC 7606 §7.4)";
    withdrawn(&with(&attribute(0x80, 4, &[0; 3])), reason);
}

#[test]
fn local_pref_from_outside_is_discarded_and_a_malformed_one_inside_withdraws() {
    let reason = "LOCAL_PREF came from an external peer (RFC 7606 §7.5)";
    for value in [&[0, 0, 0, 200][..], &[0, 0, 200]] {
        let update = discarded(&attribute(0x40, 5, value), &EXTERNAL, reason);
        assert_eq!(update.announced[0].attributes.local_pref, None);
    }
    let reason = "LOCAL_PREF has 3 octets, not 4 (RFC 7606 §7.5)";
    withdrawn_in(&INTERNAL, &with(&attribute(0x40, 5, &[0; 3])), reason);
    let update = welcome(&with(&attribute(0x40, 5, &[0, 0, 0, 200])), &INTERNAL);
    assert_eq!(update.announced[0].attributes.local_pref, Some(200));
}

#[test]
fn a_malformed_atomic_aggregate_is_discarded() {
    let reason = "ATOMIC_AGGREGATE has 1 octets, not 0 (RFC 7606 §7.6)";
    let update = discarded(&attribute(0x40, 6, &[0]), &EXTERNAL, reason);
    assert!(!update.announced[0].attributes.atomic_aggregate);
    assert!(
        welcome(&with(&attribute(0x40, 6, &[])), &EXTERNAL).announced[0]
            .attributes
            .atomic_aggregate
    );
}

#[test]
fn a_malformed_aggregator_is_discarded() {
    let reason = "AGGREGATOR has 6 octets, not 8 (RFC 7606 §7.7)";
    discarded(&attribute(0xc0, 7, &[1; 6]), &EXTERNAL, reason);
    let two = Context {
        four_octet_as: false,
        ..EXTERNAL
    };
    let path = attribute(0x40, 2, &[2, 1, 0xfd, 0xe9]);
    let attributes = [origin(), path, next_hop(), attribute(0xc0, 7, &[1; 8])].concat();
    let (_, reasons) = announced(&attributes, &two);
    assert_eq!(reasons, ["AGGREGATOR has 8 octets, not 6 (RFC 7606 §7.7)"]);
    let reason = "AGGREGATOR holds AS 0, RFC 7607 §2 (RFC 7606 §7.7)";
    discarded(
        &attribute(0xc0, 7, &[0, 0, 0, 0, 10, 0, 0, 1]),
        &EXTERNAL,
        reason,
    );
}

#[test]
fn malformed_communities_of_every_kind_withdraw() {
    for (code, name, size, rule) in [
        (8, "COMMUNITIES", 4, "RFC 7606 §7.8"),
        (16, "EXTENDED COMMUNITIES", 8, "RFC 7606 §7.14"),
        (32, "LARGE_COMMUNITY", 12, "RFC 8092 §5"),
    ] {
        for length in [0, size - 1, size + 1] {
            let wrong = attribute(0xc0, code, &vec![1; length]);
            let reason =
                format!("{name} has {length} octets, not a multiple of {size} and not 0 ({rule})");
            withdrawn(&with(&wrong), &reason);
        }
        welcome(&with(&attribute(0xc0, code, &vec![1; 2 * size])), &EXTERNAL);
    }
}

#[test]
fn redundant_large_communities_are_removed_in_silence() {
    let one = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    let other = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3];
    let update = welcome(
        &with(&attribute(0xc0, 32, &[one, other, one].concat())),
        &EXTERNAL,
    );
    let texts: Vec<_> = update.announced[0]
        .attributes
        .large_communities
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(texts, ["1:2:3", "1:1:3"]);
}

#[test]
fn reflection_attributes_from_outside_are_discarded_and_malformed_ones_inside_withdraw() {
    for (code, name, wanted, rule) in [
        (9, "ORIGINATOR_ID", "4", "RFC 7606 §7.9"),
        (
            10,
            "CLUSTER_LIST",
            "a multiple of 4 and not 0",
            "RFC 7606 §7.10",
        ),
    ] {
        let reason = format!("{name} came from an external peer ({rule})");
        let update = discarded(&attribute(0x80, code, &[10, 0, 0, 1]), &EXTERNAL, &reason);
        assert_eq!(update.announced[0].attributes.originator_id, None);
        assert!(update.announced[0].attributes.cluster_list.is_empty());
        for length in [0, 3, 5] {
            let wrong = attribute(0x80, code, &vec![10; length]);
            let reason = format!("{name} has {length} octets, not {wanted} ({rule})");
            withdrawn_in(&INTERNAL, &with(&wrong), &reason);
        }
        welcome(&with(&attribute(0x80, code, &[10, 0, 0, 1])), &INTERNAL);
    }
}

#[test]
fn a_next_hop_length_of_another_family_resets_the_session() {
    let words = "UPDATE Message Error/Optional Attribute Error: attribute 14";
    for length in [0, 4, 15, 17, 24, 31, 48] {
        let reach = reach(&vec![0x20; length], PREFIX6);
        reset(&message(&[], &with(&reach), &[]), &EXTERNAL, words);
    }
    // An IPv6 next hop for IPv4 prefixes, without RFC 8950.
    let reach = attribute(
        0x80,
        14,
        &[&[0, 1, 1, 16], &HOP6[..], &[0], PREFIX].concat(),
    );
    let bytes = message(&[], &with(&reach), &[]);
    reset(&bytes, &EXTERNAL, words);
    let agreed = Context {
        extended_next_hop: true,
        ..EXTERNAL
    };
    let update = read(&bytes, &agreed).unwrap();
    assert_eq!(update.announced[0].nlri, [prefix("192.0.2.0/24")]);
    assert_eq!(
        update.announced[0]
            .attributes
            .next_hop
            .unwrap()
            .address
            .to_string(),
        "2001:db8::1"
    );
}

#[test]
fn an_impossible_ipv6_next_hop_withdraws() {
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let mut multicast = [0; 16];
    multicast[0] = 0xff;
    for hop in [[0; 16], loopback, multicast] {
        let update = read(&message(&[], &with(&reach(&hop, PREFIX6)), &[]), &EXTERNAL).unwrap();
        assert_eq!(update.withdrawn, [prefix("2001:db8::/32")]);
        assert_eq!(
            update.faults[0].reason,
            "MP_REACH_NLRI has a next hop no host can have (RFC 4271 §6.3)"
        );
    }
}

#[test]
fn the_second_ipv6_next_hop_counts_only_if_it_is_link_local() {
    let mut link_local = [0; 16];
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    link_local[15] = 9;
    let hop = |first: [u8; 16], second: [u8; 16]| {
        let reach = reach(&[first, second].concat(), PREFIX6);
        let update = read(&message(&[], &with(&reach), &[]), &EXTERNAL).unwrap();
        assert_eq!(update.faults, []);
        let hop = update.announced[0].attributes.next_hop.unwrap();
        (
            hop.address.to_string(),
            hop.link_local.map(|address| address.to_string()),
        )
    };
    assert_eq!(
        hop(HOP6, link_local),
        ("2001:db8::1".into(), Some("fe80::9".into()))
    );
    assert_eq!(hop(HOP6, [0; 16]), ("2001:db8::1".into(), None));
    assert_eq!(hop(HOP6, HOP6), ("2001:db8::1".into(), None));
    assert_eq!(hop([0; 16], link_local), ("fe80::9".into(), None));
    assert_eq!(hop(link_local, link_local), ("fe80::9".into(), None));
}

#[test]
fn an_unknown_well_known_attribute_resets_the_session() {
    let unknown = attribute(0x40, 99, &[1, 2]);
    let words = "UPDATE Message Error/Unrecognized Well-known Attribute: attribute 99";
    let notification = reset(&message(&[], &with(&unknown), PREFIX), &EXTERNAL, words);
    assert_eq!(*notification.data, *unknown);
}

#[test]
fn unknown_optional_attributes_are_passed_on_if_transitive_and_dropped_if_not() {
    let both = [attribute(0xc0, 99, &[1, 2]), attribute(0x80, 98, &[3])].concat();
    let update = welcome(&with(&both), &EXTERNAL);
    let [unknown] = &*update.announced[0].attributes.unknown else {
        panic!("not one")
    };
    assert_eq!(
        (unknown.flags, unknown.code, &*unknown.value),
        (0xe0, 99, &[1, 2][..])
    );
}

#[test]
fn as4_attributes_over_four_octets_are_discarded() {
    let path = attribute(0xc0, 17, &[2, 1, 0, 0, 0, 1]);
    let reason = "AS4_PATH came over a session with four-octet AS numbers (RFC 6793 §6)";
    let update = discarded(&path, &EXTERNAL, reason);
    assert_eq!(update.announced[0].attributes.as_path.to_string(), "65001");
}

#[test]
fn a_malformed_as4_path_is_discarded() {
    let two = Context {
        four_octet_as: false,
        ..EXTERNAL
    };
    let path = attribute(0x40, 2, &[2, 1, 0x5b, 0xa0]);
    for wrong in [
        &[2, 2, 0, 1, 0, 0][..],
        &[9, 1, 0, 1, 0, 0],
        &[2, 1, 0, 0, 0, 0],
        &[2],
    ] {
        let attributes = [
            origin(),
            path.clone(),
            next_hop(),
            attribute(0xc0, 17, wrong),
        ]
        .concat();
        let (update, reasons) = announced(&attributes, &two);
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert_eq!(update.announced[0].attributes.as_path.to_string(), "23456");
    }
}

#[test]
fn a_malformed_as4_aggregator_is_discarded() {
    let two = Context {
        four_octet_as: false,
        ..EXTERNAL
    };
    let real = [0, 1, 0x11, 0x70, 10, 0, 0, 9];
    let beside = |value: &[u8]| {
        let attributes = [
            origin(),
            attribute(0x40, 2, &[2, 1, 0x5b, 0xa0]),
            next_hop(),
            attribute(0xc0, 7, &[0x5b, 0xa0, 10, 0, 0, 8]),
            attribute(0xc0, 18, value),
        ]
        .concat();
        let (update, reasons) = announced(&attributes, &two);
        let aggregator = update.announced[0].attributes.aggregator.unwrap();
        (aggregator.asn, reasons.len())
    };
    assert_eq!(beside(&real), (70_000, 0));
    let as_0 = [0, 0, 0, 0, 10, 0, 0, 9];
    for wrong in [&real[..7], &[&real[..], &[0]].concat(), &[], &as_0] {
        assert_eq!(beside(wrong), (23_456, 1), "{wrong:?}");
    }
}

#[test]
fn of_a_thousand_faults_few_are_kept_and_the_worst_among_them() {
    let many = attribute(0xc0, 200, &[]).repeat(1000);
    let attributes = with(&[many, attribute(0x80, 4, &[1])].concat());
    let update = read(&message(&[], &attributes, PREFIX), &EXTERNAL).unwrap();
    assert_eq!(update.faults.len(), 17);
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24")]);
}

#[test]
fn end_of_rib_is_exactly_that() {
    let marker = |message: &[u8]| read(message, &EXTERNAL).unwrap().end_of_rib;
    let unreach = |value: &[u8]| attribute(0x80, 15, value);
    assert_eq!(marker(&message(&[], &[], &[])), Some(Family::IPv4));
    assert_eq!(
        marker(&message(&[], &unreach(&[0, 2, 1]), &[])),
        Some(Family::IPv6)
    );
    assert_eq!(
        marker(&message(&[], &unreach(&[0, 1, 1]), &[])),
        Some(Family::IPv4)
    );
    assert_eq!(
        marker(&message(&[], &[0x90, 15, 0, 3, 0, 2, 1], &[])),
        Some(Family::IPv6)
    );
    assert_eq!(marker(&message(PREFIX, &unreach(&[0, 2, 1]), &[])), None);
    assert_eq!(
        marker(&message(
            &[],
            &[unreach(&[0, 2, 1]), origin()].concat(),
            &[]
        )),
        None
    );
    assert_eq!(marker(&message(&[], &unreach(&[0, 2, 1, 0]), &[])), None);
    assert_eq!(marker(&message(PREFIX, &[], &[])), None);
    assert_eq!(marker(&message(&[], &unreach(&[0, 25, 65]), &[])), None);
    let ipv6_only = Context {
        families: Families::IPV6,
        ..EXTERNAL
    };
    assert_eq!(
        read(&message(&[], &[], &[]), &ipv6_only)
            .unwrap()
            .end_of_rib,
        None
    );
}

#[test]
fn announced_wins_over_withdrawn_in_one_message() {
    let both = [PREFIX, &[8, 10]].concat();
    let update = read(&message(&both, &with(&[]), PREFIX), &EXTERNAL).unwrap();
    assert_eq!(update.withdrawn, [prefix("10.0.0.0/8")]);
    assert_eq!(update.announced[0].nlri, [prefix("192.0.2.0/24")]);
}

#[test]
fn dirty_host_bits_are_cleared() {
    let update = read(
        &message(&[23, 10, 1, 255], &with(&[]), &[1, 255]),
        &EXTERNAL,
    )
    .unwrap();
    assert_eq!(update.withdrawn, [prefix("10.1.254.0/23")]);
    assert_eq!(update.announced[0].nlri, [prefix("128.0.0.0/1")]);
}

#[test]
fn prefixes_that_are_not_unicast_are_ignored() {
    let nlri = [
        &[24, 240, 0, 0][..],
        PREFIX,
        &[4, 224],
        &[32, 255, 255, 255, 255],
    ]
    .concat();
    let update = read(&message(&[], &with(&[]), &nlri), &EXTERNAL).unwrap();
    assert_eq!(update.announced[0].nlri, [prefix("192.0.2.0/24")]);
    assert_eq!(
        update.faults[0].reason,
        "3 prefixes that are not unicast, the first of them 240.0.0.0/24, ignored (RFC 4271 §6.3)"
    );
    // The default route and its halves are not among them.
    let update = read(&message(&[], &with(&[]), &[0, 1, 128, 2, 192]), &EXTERNAL).unwrap();
    assert_eq!(update.announced[0].nlri.len(), 3);
}

#[test]
fn families_that_were_not_agreed_on_are_ignored() {
    let ipv4_only = Context {
        families: Families::IPV4,
        ..EXTERNAL
    };
    let attributes = with(&reach(&HOP6, PREFIX6));
    let update = read(&message(&[], &attributes, PREFIX), &ipv4_only).unwrap();
    assert_eq!(update.announced.len(), 1);
    assert_eq!(
        update.faults[0].reason,
        "MP_REACH_NLRI of AFI 2 SAFI 1, which was not agreed on, ignored (RFC 4760 §7)"
    );
    let ipv6_only = Context {
        families: Families::IPV6,
        ..EXTERNAL
    };
    let update = read(&message(PREFIX, &attributes, PREFIX), &ipv6_only).unwrap();
    assert_eq!(update.announced[0].nlri, [prefix("2001:db8::/32")]);
    assert_eq!(update.withdrawn, []);
    assert_eq!(
        update.faults[0].reason,
        "2 IPv4 prefixes, which were not agreed on, ignored (RFC 4760 §7)"
    );
}

#[test]
fn both_families_of_one_message_have_their_own_next_hop() {
    let attributes = [reach(&HOP6, PREFIX6), with(&[])].concat();
    let update = read(&message(&[], &attributes, PREFIX), &EXTERNAL).unwrap();
    let hops: Vec<_> = update
        .announced
        .iter()
        .map(|set| {
            (
                set.nlri[0].prefix.to_string(),
                set.attributes.next_hop.unwrap().address.to_string(),
            )
        })
        .collect();
    let expected = [
        ("2001:db8::/32", "2001:db8::1"),
        ("192.0.2.0/24", "10.0.0.1"),
    ];
    assert_eq!(
        hops,
        expected.map(|(prefix, hop)| (prefix.to_owned(), hop.to_owned()))
    );
}
