use super::*;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn gate() -> Gate {
    let guard = Guard {
        allowed: vec![
            AllowedRange::within(net("10.244.0.0/16")),
            AllowedRange {
                cidr: net("10.0.0.0/8"),
                min_len: 16,
                max_len: 24,
            },
            AllowedRange::within(net("fd00:10:244::/48")),
        ],
        own_pod_cidrs: vec![net("10.244.1.0/24"), net("fd00:10:244:1::/64")],
        service_cidrs: vec![net("10.96.0.0/12")],
        accept_default: false,
    };
    let connected = [
        Connected {
            address: "10.0.0.1".parse().unwrap(),
            subnet: net("10.0.0.0/24"),
            interface: "eth0".into(),
        },
        Connected {
            address: "10.244.1.1".parse().unwrap(),
            subnet: net("10.244.1.0/24"),
            interface: "cni0".into(),
        },
        Connected {
            address: "10.244.7.1".parse().unwrap(),
            subnet: net("10.244.7.0/24"),
            interface: "br-x".into(),
        },
        Connected {
            address: "fe80::1".parse().unwrap(),
            subnet: net("fe80::/64"),
            interface: "eth0".into(),
        },
    ];
    Gate::new(&guard, &connected)
}

fn kind(prefix: &str) -> Option<&'static str> {
    let verdict = match net(prefix) {
        IpNetwork::V4(prefix) => gate().check4(prefix),
        IpNetwork::V6(prefix) => gate().check6(prefix),
    };
    verdict.err().map(|refusal| refusal.kind())
}

#[test]
fn pod_routes_inside_the_allowed_ranges_pass() {
    for prefix in [
        "10.244.2.0/24",
        "10.244.2.7/32",
        "10.20.0.0/16",
        "fd00:10:244:2::/64",
    ] {
        assert_eq!(kind(prefix), None, "{prefix}");
    }
}

#[test]
fn a_less_specific_route_over_a_connected_subnet_passes() {
    assert_eq!(kind("10.244.0.0/16"), None);
    assert_eq!(kind("10.244.0.0/17"), None);
    assert_eq!(kind("10.0.0.0/16"), None);
}

#[test]
fn equal_or_more_specific_than_own_networks_is_refused() {
    assert_eq!(kind("10.244.1.0/24"), Some("own-pod-cidr"));
    assert_eq!(kind("10.244.1.128/25"), Some("own-pod-cidr"));
    assert_eq!(kind("10.244.1.1/32"), Some("own-address"));
    assert_eq!(kind("10.244.7.0/24"), Some("connected-subnet"));
    assert_eq!(kind("10.244.7.64/26"), Some("connected-subnet"));
    assert_eq!(kind("10.0.0.0/24"), Some("connected-subnet"));
    assert_eq!(kind("10.96.0.0/12"), Some("service-cidr"));
    assert_eq!(kind("10.100.1.0/24"), Some("service-cidr"));
    assert_eq!(kind("fd00:10:244:1::/64"), Some("own-pod-cidr"));
}

#[test]
fn the_default_route_needs_permission() {
    assert_eq!(kind("0.0.0.0/0"), Some("default-route"));
    assert_eq!(kind("::/0"), Some("default-route"));
    let gate = Gate::new(
        &Guard {
            accept_default: true,
            ..Guard::default()
        },
        &[],
    );
    assert!(gate.check4("0.0.0.0/0".parse().unwrap()).is_ok());
    assert!(gate.check6("::/0".parse().unwrap()).is_ok());
}

#[test]
fn special_ranges_are_refused_in_both_directions() {
    let open = Guard {
        allowed: vec![
            AllowedRange {
                cidr: net("0.0.0.0/0"),
                min_len: 0,
                max_len: 32,
            },
            AllowedRange {
                cidr: net("::/0"),
                min_len: 0,
                max_len: 128,
            },
        ],
        ..Guard::default()
    };
    let gate = Gate::new(&open, &[]);
    let kind4 = |prefix: &str| {
        gate.check4(prefix.parse().unwrap())
            .err()
            .map(|refusal| refusal.kind())
    };
    let kind6 = |prefix: &str| {
        gate.check6(prefix.parse().unwrap())
            .err()
            .map(|refusal| refusal.kind())
    };
    assert_eq!(kind4("127.0.0.0/8"), Some("loopback"));
    assert_eq!(kind4("126.0.0.0/7"), Some("loopback"));
    assert_eq!(kind4("127.1.2.3/32"), Some("loopback"));
    assert_eq!(kind4("169.254.1.0/24"), Some("link-local"));
    assert_eq!(kind4("169.0.0.0/8"), Some("link-local"));
    assert_eq!(kind4("224.0.0.0/4"), Some("multicast"));
    assert_eq!(kind4("239.1.1.1/32"), Some("multicast"));
    assert_eq!(kind4("240.0.0.0/4"), Some("reserved"));
    assert_eq!(kind4("255.255.255.255/32"), Some("reserved"));
    assert_eq!(kind4("0.0.0.0/8"), Some("reserved"));
    assert_eq!(kind4("1.0.0.0/24"), None);
    assert_eq!(kind4("223.255.255.0/24"), None);
    assert_eq!(kind4("128.0.0.0/9"), None);
    assert_eq!(kind6("::1/128"), Some("loopback"));
    assert_eq!(kind6("fe80::/10"), Some("link-local"));
    assert_eq!(kind6("fe80::1:0/112"), Some("link-local"));
    assert_eq!(kind6("ff02::/16"), Some("multicast"));
    assert_eq!(kind6("::ffff:10.0.0.0/104"), Some("reserved"));
    assert_eq!(kind6("2001:db8::/32"), None);
}

#[test]
fn a_wrong_length_names_the_range() {
    assert_eq!(kind("10.20.1.128/25"), Some("length"));
    assert_eq!(kind("192.0.2.0/24"), Some("outside-allowed"));
    assert_eq!(kind("2001:db8::/32"), Some("outside-allowed"));
}

#[test]
fn each_kind_stands_where_its_code_says() {
    let v4 = net("10.0.0.0/8");
    let all = [
        Refusal::DefaultRoute,
        Refusal::Loopback(v4),
        Refusal::LinkLocal(v4),
        Refusal::Multicast(v4),
        Refusal::Reserved(v4),
        Refusal::OutsideAllowed,
        Refusal::Length(AllowedRange::within(v4)),
        Refusal::OwnPodCidr(v4),
        Refusal::ServiceCidr(v4),
        Refusal::OwnAddress {
            address: v4.ip(),
            interface: String::new(),
        },
        Refusal::ConnectedSubnet {
            subnet: v4,
            interface: String::new(),
        },
        Refusal::NextHopIsOurselves(v4.ip()),
        Refusal::ForeignRoute(String::new()),
    ];
    for (code, refusal) in all.iter().enumerate() {
        assert_eq!(usize::from(refusal.code()), code);
        assert!(!refusal.to_string().is_empty());
    }
    assert_eq!(all.len(), Refusal::KINDS.len());
}
