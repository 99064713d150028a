//! What is wanted is in the kernel, in the form it should have.

use fib::{Change, Completeness, Config, Mark, NextHop, cleanup};

use crate::node::{
    expect_routes, in_a_node, index, ip, open_config, routes, start, want, withdraw,
};

#[test]
fn a_wanted_route_is_installed_moved_and_withdrawn() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        let first = "10.244.2.0/24 via 10.0.0.2 dev eth0 metric 1024";
        assert_eq!(
            routes(179),
            [first, "fd00:244:2::/64 via fd00:10::2 dev eth0 metric 1024"]
        );
        let status = fib.status().await.unwrap();
        assert_eq!(
            (
                status.ipv4.installed,
                status.ipv6.installed,
                status.totals.added
            ),
            (1, 1, 2)
        );

        fib.update(vec![
            want("10.244.2.0/24", &["10.0.1.2"]),
            withdraw("fd00:244:2::/64"),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(
            routes(179),
            ["10.244.2.0/24 via 10.0.1.2 dev eth1 metric 1024"]
        );
        assert_eq!(fib.status().await.unwrap().totals.replaced, 1);
    });
}

#[test]
fn equal_paths_become_one_multipath_route() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.1.2", "10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:11::2", "fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        let v4 = "10.244.2.0/24 metric 1024 | via 10.0.0.2 dev eth0 weight 1 | via 10.0.1.2 dev eth1 weight 1";
        let v6 = "fd00:244:2::/64 metric 1024 | via fd00:10::2 dev eth0 weight 1 | via fd00:11::2 dev eth1 weight 1";
        assert_eq!(routes(179), [v4, v6]);
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:11::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        let v6 = "fd00:244:2::/64 via fd00:11::2 dev eth1 metric 1024";
        assert_eq!(
            routes(179),
            ["10.244.2.0/24 via 10.0.0.2 dev eth0 metric 1024", v6]
        );
    });
}

#[test]
fn weights_reach_the_kernel_and_max_paths_cuts() {
    in_a_node(|| async {
        let fib = start(Config {
            max_paths: 2,
            ..open_config()
        })
        .await;
        let hop = |address: &str, weight| NextHop {
            weight,
            ..NextHop::new(address.parse().unwrap())
        };
        let hops = [hop("10.0.0.2", 3), hop("10.0.1.2", 1), hop("10.0.0.9", 1)];
        fib.update(vec![Change::wanted("10.244.2.0/24".parse().unwrap(), hops)])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        let expected = "10.244.2.0/24 metric 1024 | via 10.0.0.2 dev eth0 weight 3 | via 10.0.1.2 dev eth1 weight 1";
        assert_eq!(routes(179), [expected]);
    });
}

#[test]
fn ipv4_goes_over_an_ipv6_next_hop() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let link_local = NextHop::new("fe80::2".parse().unwrap()).on(index("eth1"));
        fib.update(vec![
            want("10.244.2.0/24", &["fd00:10::2"]),
            Change::wanted("10.244.3.0/24".parse().unwrap(), [link_local]),
            Change::wanted("fd00:244:3::/64".parse().unwrap(), [link_local]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(
            routes(179),
            [
                "10.244.2.0/24 via inet6 fd00:10::2 dev eth0 metric 1024",
                "10.244.3.0/24 via inet6 fe80::2 dev eth1 metric 1024",
                "fd00:244:3::/64 via fe80::2 dev eth1 metric 1024",
            ]
        );
    });
}

#[test]
fn own_pod_cidrs_are_blackholed_at_the_worst_metric() {
    in_a_node(|| async {
        let cidrs = |list: &[&str]| list.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let blackholes = cidrs(&["10.244.1.0/24", "fd00:244:1::/64", "10.9.9.9/32"]);
        let fib = start(Config {
            blackholes,
            ..open_config()
        })
        .await;
        fib.flush().await.unwrap();
        let v6 = "blackhole fd00:244:1::/64 dev lo metric 4294967294";
        assert_eq!(
            routes(179),
            ["blackhole 10.244.1.0/24 metric 4294967294", v6]
        );
        assert_eq!(fib.status().await.unwrap().blackholes, 2);
        fib.apply(Config {
            blackholes: cidrs(&["10.244.7.0/24"]),
            ..open_config()
        })
        .await
        .unwrap();
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), ["blackhole 10.244.7.0/24 metric 4294967294"]);
    });
}

#[test]
fn another_mark_takes_over_without_a_gap() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        // The same place under another protocol, then another metric, then another table.
        let mut monitor = crate::node::Monitor::start();
        for mark in [
            Mark {
                protocol: 180,
                ..Mark::default()
            },
            Mark {
                protocol: 180,
                metric: 2000,
                ..Mark::default()
            },
        ] {
            fib.apply(Config {
                mark,
                ..open_config()
            })
            .await
            .unwrap();
            fib.flush().await.unwrap();
            assert_eq!(
                routes(180),
                [
                    format!("10.244.2.0/24 via 10.0.0.2 dev eth0 metric {}", mark.metric),
                    format!(
                        "fd00:244:2::/64 via fd00:10::2 dev eth0 metric {}",
                        mark.metric
                    ),
                ]
            );
            assert_eq!(routes(179), [""; 0]);
        }
        let lines = monitor.stop();
        // The first removal comes after the new metric is there.
        let position = |text: &str| {
            lines
                .iter()
                .position(|line| line.contains(text) && line.contains("10.244.2.0"))
        };
        assert!(position("Deleted") > position("metric 2000"), "{lines:?}");
        let mark = Mark {
            protocol: 180,
            metric: 2000,
            table: 1000,
        };
        fib.apply(Config {
            mark,
            ..open_config()
        })
        .await
        .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(180), [""; 0]);
        assert!(
            ip("route show table 1000")
                .contains("10.244.2.0/24 via 10.0.0.2 dev eth0 proto 180 metric 2000")
        );
    });
}

#[test]
fn cleanup_removes_what_is_ours_and_nothing_else() {
    in_a_node(|| async {
        ip("route add 10.50.0.0/24 via 10.0.0.9 proto static metric 1024");
        ip("route add 10.51.0.0/24 via 10.0.0.9 proto 179 metric 5");
        // The kernel's own come and go in the background for a while after the links are up.
        let others = || {
            let all = ip("route show table all");
            let lines = all.lines().filter(|line| !line.contains("proto kernel"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = others();
        assert_eq!(before.len(), 2, "{before:?}");
        let blackholes = vec!["10.244.1.0/24".parse().unwrap()];
        let fib = start(Config {
            blackholes,
            ..open_config()
        })
        .await;
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        drop(fib);
        assert_eq!(cleanup(Mark::default()).await.unwrap(), 3);
        assert_eq!(cleanup(Mark::default()).await.unwrap(), 0);
        assert_eq!(others(), before);
        expect_routes(&["10.51.0.0/24 via 10.0.0.9 dev eth0 metric 5"]).await;
    });
}

#[test]
fn a_hundred_thousand_routes_are_counted_exactly() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let prefix = |n: u32| format!("{}.{}.{}.0/24", 20 + (n >> 16), (n >> 8) & 255, n & 255);
        let all: Vec<Change> = (0..100_000)
            .map(|n| want(&prefix(n), &["10.0.0.2"]))
            .collect();
        for batch in all.chunks(1000) {
            fib.update(batch.to_vec()).await.unwrap();
        }
        fib.flush().await.unwrap();
        assert_eq!(routes(179).len(), 100_000);
        let status = fib.status().await.unwrap();
        assert_eq!(
            (
                status.ipv4.installed,
                status.ipv4.pending,
                status.totals.failures
            ),
            (100_000, 0, 0)
        );
        let withdrawn: Vec<Change> = (0..60_000).map(|n| withdraw(&prefix(n))).collect();
        for batch in withdrawn.chunks(1000) {
            fib.update(batch.to_vec()).await.unwrap();
        }
        fib.flush().await.unwrap();
        assert_eq!(routes(179).len(), 40_000);
    });
}
