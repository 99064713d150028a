use super::*;
use crate::{
    config::{AsPathRegex, PrefixRange},
    prefix::Family,
    wire::{AsPath, Community, LargeCommunity},
};

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn subject(text: &str) -> Subject {
    Subject {
        prefix: prefix(text),
        source: Source::Learned,
        own_as: OwnAs::Prepend(64512),
    }
}

fn attributes() -> Attributes {
    Attributes {
        as_path: AsPath::sequence(&[65001, 65002]),
        next_hop: Some("10.0.0.9".parse::<IpAddr>().expect("an address").into()),
        communities: Box::new([Community(1), Community(2)]),
        ..Attributes::default()
    }
}

fn accepting(matches: Match) -> Rule {
    Rule {
        matches,
        set: Set::default(),
        verdict: Some(Verdict::Accept),
    }
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        name: "test".into(),
        rules,
        default: Verdict::Reject,
    }
}

/// Whether a rule with this match accepts the route.
fn accepts(matches: Match, subject: Subject, attributes: &Attributes) -> bool {
    let ruling = rule(
        &policy(vec![accepting(matches)]),
        subject,
        &mut Cow::Borrowed(attributes),
    );
    ruling.verdict == Verdict::Accept
}

#[test]
fn an_empty_match_matches_all() {
    assert!(accepts(
        Match::default(),
        subject("10.0.0.0/8"),
        &attributes()
    ));
}

#[test]
fn a_prefix_matches_inside_its_range_of_lengths() {
    let range = |min_length, max_length| Match {
        prefixes: vec![PrefixRange {
            prefix: prefix("10.0.0.0/8"),
            min_length,
            max_length,
        }],
        ..Match::default()
    };
    for (text, range, wanted) in [
        ("10.1.0.0/16", range(16, 24), true),
        ("10.1.1.0/24", range(16, 24), true),
        ("10.1.1.0/25", range(16, 24), false),
        ("10.0.0.0/8", range(16, 24), false),
        ("10.0.0.0/8", range(8, 8), true),
        ("11.0.0.0/16", range(8, 32), false),
        ("0.0.0.0/0", range(0, 32), false),
        ("fd00::/16", range(0, 128), false),
    ] {
        assert_eq!(
            accepts(range, subject(text), &attributes()),
            wanted,
            "{text}"
        );
    }
}

#[test]
fn communities_match_if_any_is_there() {
    let any = |communities| Match {
        communities,
        ..Match::default()
    };
    let standard = |value| CommunityValue::Standard(Community(value));
    let large = LargeCommunity {
        global: 1,
        local1: 2,
        local2: 3,
    };
    let here = subject("10.0.0.0/8");
    assert!(accepts(
        any(vec![standard(9), standard(2)]),
        here,
        &attributes()
    ));
    assert!(!accepts(any(vec![standard(9)]), here, &attributes()));
    let mut with_large = attributes();
    assert!(!accepts(
        any(vec![CommunityValue::Large(large)]),
        here,
        &with_large
    ));
    with_large.large_communities = Box::new([large]);
    assert!(accepts(
        any(vec![CommunityValue::Large(large)]),
        here,
        &with_large
    ));
}

#[test]
fn an_as_path_matches_as_text() {
    let path = |pattern: &str| Match {
        as_path: Some(AsPathRegex(regex::Regex::new(pattern).expect("a pattern"))),
        ..Match::default()
    };
    let here = subject("10.0.0.0/8");
    assert!(accepts(path("^65001( |$)"), here, &attributes()));
    assert!(accepts(path("(^| )65002$"), here, &attributes()));
    assert!(!accepts(path("^6500$"), here, &attributes()));
    assert!(accepts(path("^$"), here, &Attributes::default()));
}

#[test]
fn family_next_hop_and_source_match() {
    let here = subject("10.0.0.0/8");
    let family = |family| Match {
        family: Some(family),
        ..Match::default()
    };
    assert!(accepts(family(Family::IPv4), here, &attributes()));
    assert!(!accepts(family(Family::IPv6), here, &attributes()));
    let next_hop = |text: &str| Match {
        next_hops: vec![text.parse().expect("an address")],
        ..Match::default()
    };
    assert!(accepts(next_hop("10.0.0.9"), here, &attributes()));
    assert!(!accepts(next_hop("10.0.0.8"), here, &attributes()));
    let source = |source| Match {
        source: Some(source),
        ..Match::default()
    };
    assert!(accepts(source(Source::Learned), here, &attributes()));
    assert!(!accepts(source(Source::Service), here, &attributes()));
}

#[test]
fn the_first_match_decides() {
    let reject = Rule {
        verdict: Some(Verdict::Reject),
        ..accepting(Match::default())
    };
    let policy = policy(vec![reject, accepting(Match::default())]);
    let attributes = attributes();
    let ruling = rule(
        &policy,
        subject("10.0.0.0/8"),
        &mut Cow::Borrowed(&attributes),
    );
    assert_eq!((ruling.verdict, ruling.rule), (Verdict::Reject, Some(0)));
}

#[test]
fn without_a_match_the_default_decides() {
    let attributes = attributes();
    let ruling = rule(
        &policy(Vec::new()),
        subject("10.0.0.0/8"),
        &mut Cow::Borrowed(&attributes),
    );
    assert_eq!((ruling.verdict, ruling.rule), (Verdict::Reject, None));
}

#[test]
fn continue_keeps_its_changes_and_later_rules_see_them() {
    let mark = CommunityValue::Standard(Community(77));
    let policy = policy(vec![
        Rule {
            matches: Match::default(),
            set: Set {
                add_communities: vec![mark],
                ..Set::default()
            },
            verdict: None,
        },
        Rule {
            set: Set {
                local_pref: Some(300),
                ..Set::default()
            },
            ..accepting(Match {
                communities: vec![mark],
                ..Match::default()
            })
        },
    ]);
    let before = attributes();
    let mut after = Cow::Borrowed(&before);
    let ruling = rule(&policy, subject("10.0.0.0/8"), &mut after);
    assert_eq!((ruling.verdict, ruling.rule), (Verdict::Accept, Some(1)));
    assert_eq!(after.local_pref, Some(300));
    assert_eq!(
        *after.communities,
        [Community(1), Community(2), Community(77)]
    );
}

#[test]
fn what_changes_nothing_copies_nothing() {
    let before = attributes();
    let mut after = Cow::Borrowed(&before);
    rule(
        &policy(vec![accepting(Match::default())]),
        subject("10.0.0.0/8"),
        &mut after,
    );
    assert!(matches!(after, Cow::Borrowed(_)));
}

#[test]
fn a_set_changes_what_it_names() {
    let change = Set {
        local_pref: Some(1),
        med: Some(2),
        add_communities: vec![
            CommunityValue::Standard(Community(3)),
            CommunityValue::Standard(Community(3)),
        ],
        remove_communities: vec![CommunityValue::Standard(Community(1))],
        prepend: (None, 2),
        next_hop: None,
    };
    let mut changed = attributes();
    set(&change, OwnAs::Prepend(64512), &mut changed);
    assert_eq!((changed.local_pref, changed.med), (Some(1), Some(2)));
    assert_eq!(*changed.communities, [Community(2), Community(3)]);
    assert_eq!(
        changed.as_path,
        AsPath::sequence(&[64512, 64512, 65001, 65002])
    );
}

#[test]
fn a_next_hop_is_set_where_the_prefix_can_have_it() {
    let after = |route: &str, next_hop: &str| {
        let set = Set {
            next_hop: Some(next_hop.parse().expect("an address")),
            ..Set::default()
        };
        let rules = vec![Rule {
            set,
            ..accepting(Match::default())
        }];
        let before = attributes();
        let mut changed = Cow::Borrowed(&before);
        let ruling = rule(&policy(rules), subject(route), &mut changed);
        let next_hop = changed.next_hop.map(|hop| hop.address.to_string());
        (next_hop.unwrap_or_default(), ruling.next_hop_set)
    };
    for (route, set, told) in [
        ("10.0.0.0/8", "10.9.9.9", ("10.9.9.9", true)),
        ("10.0.0.0/8", "fd00::9", ("fd00::9", true)),
        ("fd00::/16", "fd00::9", ("fd00::9", true)),
        ("fd00::/16", "10.9.9.9", ("10.0.0.9", false)),
    ] {
        assert_eq!(after(route, set), (told.0.to_owned(), told.1), "{route}");
    }
}

#[test]
fn our_own_as_is_not_prepended_where_it_would_be_a_loop() {
    let prepend = |asn| Set {
        prepend: (asn, 1),
        ..Set::default()
    };
    let mut attributes = attributes();
    let before = attributes.as_path.clone();
    set(&prepend(None), OwnAs::Omit(64512), &mut attributes);
    set(&prepend(Some(64512)), OwnAs::Omit(64512), &mut attributes);
    assert_eq!(attributes.as_path, before);
    set(&prepend(Some(7)), OwnAs::Omit(64512), &mut attributes);
    assert_eq!(attributes.as_path, before.prepend(7, 1));
}
