//! Next hops follow links, addresses and static routes.

use std::time::Duration;

use fib::{Completeness, Config, DownCause, Filter, LinkEvent, NextHop, RouteState, Unresolved};

use crate::node::{
    PATIENCE, expect_routes, in_a_node, index, ip, open_config, routes, start, want,
};

const BOTH: &str =
    "10.244.2.0/24 metric 1024 | via 10.0.0.2 dev eth0 weight 1 | via 10.0.1.2 dev eth1 weight 1";
const FIRST: &str = "10.244.2.0/24 via 10.0.0.2 dev eth0 metric 1024";

#[test]
fn ecmp_shrinks_with_the_carrier_and_grows_back() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![want("10.244.2.0/24", &["10.0.0.2", "10.0.1.2"])])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [BOTH]);
        ip("link set far1 down");
        expect_routes(&[FIRST]).await;
        ip("link set far1 up");
        expect_routes(&[BOTH]).await;
    });
}

#[test]
fn a_link_set_down_and_up_again_loses_no_route() {
    in_a_node(|| async {
        ip("addr add fd00:12::1/64 dev eth1 nodad");
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down", "1").unwrap();
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2", "10.0.1.2"]),
            want("10.244.3.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2", "fd00:11::2"]),
            want("fd00:244:3::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        let all = routes(179);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(all.len(), 4);
        ip("link set eth0 down");
        expect_routes(&[
            "10.244.2.0/24 via 10.0.1.2 dev eth1 metric 1024",
            "fd00:244:2::/64 via fd00:11::2 dev eth1 metric 1024",
        ])
        .await;
        let unresolved = fib
            .routes(Filter {
                only_problems: true,
                ..Filter::default()
            })
            .await
            .unwrap();
        assert_eq!(unresolved.len(), 2);
        ip("link set eth0 up");
        expect_routes(&all).await;
        // Down and up before anyone looks.
        ip("link set eth0 down");
        ip("link set eth0 up");
        expect_routes(&all).await;
        fib.flush().await.unwrap();
        assert_eq!(routes(179), all);
    });
}

#[test]
fn an_interface_that_goes_away_takes_its_routes_and_is_told_at_once() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let mut links = fib.link_events();
        fib.update(vec![want("10.244.2.0/24", &["10.0.0.2", "10.0.1.2"])])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        ip("link del eth1");
        let gone = async {
            loop {
                let event = links.recv().await.unwrap();
                if matches!(&event, LinkEvent::Down { interface, cause: DownCause::Gone } if interface.name == "eth1")
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        expect_routes(&[FIRST]).await;
        assert!(
            !fib.links()
                .borrow()
                .iter()
                .any(|interface| interface.name == "eth1")
        );
    });
}

#[test]
fn a_default_route_that_comes_moves_or_goes_is_told() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let mut links = fib.link_events();
        for change in [
            "route add default via 10.0.0.2",
            "route replace default via 10.0.1.2",
            "route del default",
        ] {
            ip(change);
            let told = async { while links.recv().await.unwrap() != LinkEvent::DefaultRoute {} };
            tokio::time::timeout(PATIENCE, told).await.unwrap();
        }
    });
}

#[test]
fn carrier_and_addresses_are_told_with_their_subnets() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let mut links = fib.link_events();
        ip("link set far0 down");
        let first = tokio::time::timeout(PATIENCE, async {
            loop {
                match links.recv().await.unwrap() {
                    LinkEvent::Down { interface, cause } if interface.name == "eth0" => {
                        return (interface, cause);
                    }
                    _ => {}
                }
            }
        });
        let (interface, cause) = first.await.unwrap();
        assert_eq!(cause, DownCause::Carrier);
        assert!(
            interface
                .addresses
                .contains(&"10.0.0.1/24".parse().unwrap())
        );
        ip("addr del 10.0.1.1/24 dev eth1");
        let removed = tokio::time::timeout(PATIENCE, async {
            loop {
                if let LinkEvent::AddressRemoved { interface, address } =
                    links.recv().await.unwrap()
                {
                    return (interface.name, address);
                }
            }
        });
        assert_eq!(
            removed.await.unwrap(),
            ("eth1".to_owned(), "10.0.1.1/24".parse().unwrap())
        );
    });
}

#[test]
fn a_lost_address_takes_its_routes_and_brings_them_back() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("10.244.3.0/24", &["10.0.1.2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        ip("addr del 10.0.0.1/24 dev eth0");
        expect_routes(&["10.244.3.0/24 via 10.0.1.2 dev eth1 metric 1024"]).await;
        ip("addr add 10.0.0.1/24 dev eth0");
        expect_routes(&[FIRST, "10.244.3.0/24 via 10.0.1.2 dev eth1 metric 1024"]).await;
    });
}

#[test]
fn a_static_route_leads_to_a_far_next_hop_and_the_default_does_not() {
    in_a_node(|| async {
        ip("route add default via 10.0.0.254");
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.2.0/24", &["172.30.0.9"]),
            want("10.244.9.0/24", &["10.244.2.1"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [""; 0]);
        let explained = fib.explain("10.244.2.0/24".parse().unwrap()).await.unwrap();
        assert!(
            explained.next_hops[0]
                .failure
                .as_ref()
                .unwrap()
                .contains("only the default route leads to")
        );

        ip("route add 172.30.0.0/24 via 10.0.1.7");
        // Not through our own route to 10.244.2.0/24 either.
        expect_routes(&["10.244.2.0/24 via 10.0.1.7 dev eth1 metric 1024"]).await;
        let explained = fib.explain("10.244.2.0/24".parse().unwrap()).await.unwrap();
        assert_eq!(explained.next_hops[0].hops, ["via 10.0.1.7 dev eth1"]);
        assert_eq!(
            explained.next_hops[0].by.as_deref(),
            Some("172.30.0.0/24 via 10.0.1.7 dev eth1 proto boot")
        );
        assert!(
            matches!(&explained.lookup, fib::Lookup::Route { ours: true, .. }),
            "{explained:?}"
        );

        ip("route del 172.30.0.0/24");
        expect_routes(&[]).await;
        fib.apply(Config {
            unresolved: Unresolved::Gateway,
            ..open_config()
        })
        .await
        .unwrap();
        expect_routes(&[
            "10.244.2.0/24 via 10.0.0.254 dev eth0 metric 1024",
            "10.244.9.0/24 via 10.0.0.254 dev eth0 metric 1024",
        ])
        .await;
        fib.apply(Config {
            unresolved: Unresolved::Onlink,
            ..open_config()
        })
        .await
        .unwrap();
        expect_routes(&[
            "10.244.2.0/24 via 172.30.0.9 dev eth0 metric 1024 onlink",
            "10.244.9.0/24 via 10.244.2.1 dev eth0 metric 1024 onlink",
        ])
        .await;
    });
}

#[test]
fn the_guard_follows_the_addresses() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.7.0/24", &["10.0.0.2"]),
            want("10.244.0.0/16", &["10.0.0.2"]),
            want("0.0.0.0/0", &["10.0.0.2"]),
            want("10.0.0.0/25", &["10.0.1.2"]),
            want("10.244.8.0/24", &["10.0.0.1"]),
        ])
        .await
        .unwrap();
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        let aggregate = "10.244.0.0/16 via 10.0.0.2 dev eth0 metric 1024";
        assert_eq!(
            routes(179),
            [aggregate, "10.244.7.0/24 via 10.0.0.2 dev eth0 metric 1024"]
        );
        let status = fib.status().await.unwrap();
        for kind in ["default-route", "connected-subnet", "next-hop-is-ourselves"] {
            assert_eq!(status.refusals.get(kind), Some(&1), "{kind}");
        }
        // A container bridge of someone else appears with the same subnet, and goes again.
        ip("link add br-x type bridge");
        ip("addr add 10.244.7.1/24 dev br-x");
        expect_routes(&[aggregate]).await;
        ip("link del br-x");
        expect_routes(&[aggregate, "10.244.7.0/24 via 10.0.0.2 dev eth0 metric 1024"]).await;
    });
}

#[test]
fn a_route_that_fails_does_not_delay_others_and_says_why() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        // The kernel does not take a gateway that is one of its broadcast addresses.
        let far = NextHop::new("fe80::9".parse().unwrap()).on(index("lo"));
        fib.update(vec![
            want("10.244.3.0/24", &["10.0.0.255"]),
            fib::Change::wanted("fd00:244:4::/64".parse().unwrap(), [far]),
            want("10.244.2.0/24", &["10.0.0.2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        assert!(routes(179).contains(&FIRST.to_owned()));
        let failing = fib
            .routes(Filter {
                only_problems: true,
                ..Filter::default()
            })
            .await
            .unwrap();
        let failed = |route: &fib::RouteStatus| matches!(&route.state, RouteState::Failed { errno, .. } if *errno > 0);
        assert!(failing.iter().any(failed), "{failing:?}");
        assert!(!fib.status().await.unwrap().problems.is_empty());
        // It is tried again.
        let before = fib.status().await.unwrap().totals.failures;
        let again = async {
            let mut interval = tokio::time::interval(Duration::from_millis(20));
            while fib.status().await.unwrap().totals.failures == before {
                interval.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.unwrap();
    });
}

#[test]
fn a_neighbour_that_stops_answering_is_left_out_until_it_is_back() {
    in_a_node(|| async {
        // The kernel gives up sooner than in life.
        for setting in [
            "retrans_time_ms=100",
            "base_reachable_time_ms=500",
            "delay_first_probe_time=1",
        ] {
            let (name, value) = setting.split_once('=').unwrap();
            std::fs::write(format!("/proc/sys/net/ipv4/neigh/eth0/{name}"), value).unwrap();
        }
        let fib = start(open_config()).await;
        fib.update(vec![want("10.244.2.0/24", &["10.0.0.2", "10.0.1.2"])])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [BOTH]);
        // Nobody answers for 10.0.0.2: the kernel gives up on it as soon as something is sent there.
        let socket = tokio::net::UdpSocket::bind("10.0.0.1:0").await.unwrap();
        socket.send_to(b"anyone?", "10.0.0.2:9").await.unwrap();
        expect_routes(&["10.244.2.0/24 via 10.0.1.2 dev eth1 metric 1024"]).await;
        // It is there again, and we find out though nobody sends anything.
        ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
        expect_routes(&[BOTH]).await;
    });
}
