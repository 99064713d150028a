//! Sessions with two-octet AS numbers (RFC 6793 §4.2).

use super::*;

const TWO: Context = Context {
    four_octet_as: false,
    internal: true,
    ..CONTEXT
};

/// AS_PATH of what is read from these segments in AS_PATH (two octets each) and AS4_PATH.
fn merged(as_path: &str, as4_path: &str) -> String {
    let segments = |text: &str, width: usize| -> Vec<u8> {
        let path: AsPath = text.parse().unwrap();
        let part = |segment: bgp::wire::Segment<'_>| {
            let mut octets = vec![segment.kind as u8, u8::try_from(segment.len()).unwrap()];
            for asn in segment.asns() {
                octets.extend(&asn.to_be_bytes()[4 - width..]);
            }
            octets
        };
        path.segments().flat_map(part).collect()
    };
    let (two, four) = (segments(as_path, 2), segments(as4_path, 4));
    let length = |octets: &[u8]| u8::try_from(octets.len()).unwrap();
    let attributes = [
        &[0x40, 1, 1, 0, 0x40, 3, 4, 10, 0, 0, 1][..],
        &[0x40, 2, length(&two)],
        &two,
        &[0xc0, 17, length(&four)],
        &four,
    ]
    .concat();
    let total = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let body = [&[0, 0], &total[..], &attributes, &[8, 10]].concat();
    let octets = raw(2, &body);
    match frame(&octets, Limit::Standard)
        .unwrap()
        .unwrap()
        .message(&TWO)
    {
        Ok(Some(Message::Update(update))) => update.announced[0].attributes.as_path.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn are_replaced_by_what_as4_path_says() {
    assert_eq!(
        merged("65001 23456 23456", "70000 80000"),
        "65001 70000 80000"
    );
    assert_eq!(merged("23456", "70000"), "70000");
    assert_eq!(
        merged("65001 65002 23456 {65003}", "70000 {65003}"),
        "65001 65002 70000 {65003}"
    );
    assert_eq!(
        merged("{65001,65002} 23456", "70000"),
        "{65001,65002} 70000"
    );
}

#[test]
fn stay_where_as4_path_is_longer() {
    assert_eq!(merged("65001 23456", "1 2 70000"), "65001 23456");
}

#[test]
fn keep_leading_confederation_segments() {
    assert_eq!(
        merged("(65010) 65001 23456", "65001 70000"),
        "(65010) 65001 70000"
    );
    assert_eq!(
        merged("65001 (65010) 23456", "70000"),
        "65001 (65010) 70000"
    );
}

#[test]
fn drop_confederation_segments_out_of_as4_path_and_nothing_else() {
    assert_eq!(merged("65001 23456", "(65010) 70000"), "65001 70000");
    assert_eq!(merged("65001 23456", "(65010)"), "65001 23456");
}

#[test]
fn need_no_as4_path_for_what_only_a_confederation_says() {
    let attributes = Attributes {
        as_path: "(70000) 65001".parse().unwrap(),
        next_hop: Some(IpAddr::from([10, 0, 0, 1]).into()),
        ..Attributes::default()
    };
    let nlri: Nlri = "10.0.0.0/8".parse::<Prefix>().unwrap().into();
    let mut out = BytesMut::new();
    announce(&attributes, Family::IPv4, [nlri], &TWO, &mut out).unwrap();
    assert!(!out.windows(2).any(|octets| octets == [0xc0, 17]));
}

#[test]
fn hold_where_someone_who_knows_only_them_aggregated_again() {
    let mut out = BytesMut::new();
    let attributes = Attributes {
        as_path: AsPath::sequence(&[70000]),
        next_hop: Some(IpAddr::from([10, 0, 0, 1]).into()),
        aggregator: Some(bgp::wire::Aggregator {
            asn: 80000,
            id: [10, 0, 0, 9].into(),
        }),
        ..Attributes::default()
    };
    let nlri: Nlri = "10.0.0.0/8".parse::<Prefix>().unwrap().into();
    announce(&attributes, Family::IPv4, [nlri], &TWO, &mut out).unwrap();
    let read = |out: &[u8]| match frame(out, Limit::Standard).unwrap().unwrap().message(&TWO) {
        Ok(Some(Message::Update(update))) => update.announced[0].attributes.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        read(&out),
        "next hop 10.0.0.1, AS path 70000, IGP, aggregator AS 80000 10.0.0.9"
    );
    // AGGREGATOR no longer says AS_TRANS.
    let at = out
        .windows(3)
        .position(|octets| octets == [0xc0, 7, 6])
        .unwrap()
        + 3;
    out[at..at + 2].copy_from_slice(&65009_u16.to_be_bytes());
    assert_eq!(
        read(&out),
        "next hop 10.0.0.1, AS path 23456, IGP, aggregator AS 65009 10.0.0.9"
    );
}
