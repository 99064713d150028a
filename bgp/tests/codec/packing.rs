//! As few messages as possible, none too long.

use super::*;

fn prefixes(count: u32) -> impl Iterator<Item = Nlri> {
    (0..count).map(|number| {
        Prefix::v4((0x0b00_0000 + (number << 8)).into(), 24)
            .unwrap()
            .into()
    })
}

fn attributes(communities: u32) -> Attributes {
    Attributes {
        as_path: AsPath::sequence(&[65001]),
        next_hop: Some(IpAddr::from([10, 0, 0, 1]).into()),
        communities: (0..communities).map(Community).collect(),
        ..Attributes::default()
    }
}

fn updates(octets: &[u8], limit: Limit) -> Vec<Update> {
    let mut buffer = BytesMut::from(octets);
    let mut updates = Vec::new();
    while let Some(message) = Message::take(&mut buffer, limit, &CONTEXT).unwrap() {
        let Message::Update(update) = message else {
            panic!("no UPDATE")
        };
        updates.push(update);
    }
    assert!(buffer.is_empty());
    updates
}

#[test]
fn fills_messages_with_withdrawn_prefixes() {
    let mut out = BytesMut::new();
    assert_eq!(
        withdraw(Family::IPv4, prefixes(100_000), &CONTEXT, &mut out),
        99
    );
    let updates = updates(&out, Limit::Standard);
    assert_eq!(updates[0].withdrawn.len(), 1018);
    assert_eq!(
        updates
            .iter()
            .map(|update| update.withdrawn.len())
            .sum::<usize>(),
        100_000
    );
    let extended = Context {
        extended_message: true,
        ..CONTEXT
    };
    assert_eq!(
        withdraw(
            Family::IPv4,
            prefixes(100_000),
            &extended,
            &mut BytesMut::new()
        ),
        7
    );
}

#[test]
fn fills_messages_with_announced_prefixes() {
    for communities in [0, 1, 60, 64, 500, 1000] {
        let mut out = BytesMut::new();
        let sent = announce(
            &attributes(communities),
            Family::IPv4,
            prefixes(5000),
            &CONTEXT,
            &mut out,
        );
        let updates = updates(&out, Limit::Standard);
        assert_eq!(sent, Ok(updates.len()));
        let sizes: Vec<_> = updates
            .iter()
            .map(|update| update.announced[0].nlri.len())
            .collect();
        assert_eq!(sizes.iter().sum::<usize>(), 5000);
        // No message but the last has room for one more.
        let first = frame(&out, Limit::Standard)
            .unwrap()
            .unwrap()
            .octets()
            .len();
        assert!(first > MAX_MESSAGE - 4, "{first}");
        assert!(sizes.iter().rev().skip(1).all(|size| *size == sizes[0]));
    }
}

#[test]
fn says_so_where_attributes_leave_no_room() {
    for family in Family::ALL {
        let mut attributes = attributes(1020);
        let nlri: Nlri = match family {
            Family::IPv4 => "10.0.0.0/8".parse::<Prefix>().unwrap().into(),
            Family::IPv6 => {
                attributes.next_hop = Some(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]).into());
                "fd00::/64".parse::<Prefix>().unwrap().into()
            }
        };
        let mut out = BytesMut::new();
        let sent = announce(&attributes, family, [nlri], &CONTEXT, &mut out);
        assert!(
            matches!(sent, Err(Unsendable::TooLong(octets)) if octets > 4000),
            "{sent:?}"
        );
        assert!(out.is_empty());
        let extended = Context {
            extended_message: true,
            ..CONTEXT
        };
        assert_eq!(
            announce(&attributes, family, [nlri], &extended, &mut out),
            Ok(1)
        );
        assert!(out.len() > MAX_MESSAGE && out.len() < MAX_EXTENDED_MESSAGE);
        assert_eq!(updates(&out, Limit::Extended).len(), 1);
        attributes.communities = (0..20_000).map(Community).collect();
        let mut out = BytesMut::new();
        let sent = announce(&attributes, family, [nlri], &extended, &mut out);
        assert!(matches!(sent, Err(Unsendable::TooLong(_))), "{sent:?}");
    }
}

#[test]
fn says_so_where_the_next_hop_cannot_be_said() {
    let v6 = Attributes {
        next_hop: Some(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]).into()),
        ..attributes(0)
    };
    let none = Attributes {
        next_hop: None,
        ..attributes(0)
    };
    let send = |attributes: &Attributes, family, context: &Context| {
        announce(
            attributes,
            family,
            prefixes(1),
            context,
            &mut BytesMut::new(),
        )
    };
    assert_eq!(
        send(&none, Family::IPv4, &CONTEXT),
        Err(Unsendable::NoNextHop)
    );
    assert_eq!(
        send(&v6, Family::IPv4, &CONTEXT),
        Err(Unsendable::NextHopFamily(Family::IPv4))
    );
    assert_eq!(
        send(&attributes(0), Family::IPv6, &CONTEXT),
        Err(Unsendable::NextHopFamily(Family::IPv6))
    );
    let extended = Context {
        extended_next_hop: true,
        ..CONTEXT
    };
    assert_eq!(send(&v6, Family::IPv4, &extended), Ok(1));
}

#[test]
fn of_nothing_is_no_message() {
    let mut out = BytesMut::new();
    assert_eq!(
        announce(&attributes(0), Family::IPv4, [], &CONTEXT, &mut out),
        Ok(0)
    );
    assert_eq!(withdraw(Family::IPv6, [], &CONTEXT, &mut out), 0);
    assert!(out.is_empty());
}

#[test]
fn tells_external_peers_nothing_internal() {
    let internal = Attributes {
        local_pref: Some(200),
        originator_id: Some([10, 0, 0, 1].into()),
        cluster_list: [[10, 0, 0, 2].into()].into(),
        ..attributes(0)
    };
    let mut out = BytesMut::new();
    announce(&internal, Family::IPv4, prefixes(1), &CONTEXT, &mut out).unwrap();
    assert_eq!(
        *updates(&out, Limit::Standard)[0].announced[0].attributes,
        attributes(0)
    );
}
