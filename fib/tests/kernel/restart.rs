//! Stopping removes nothing; starting keeps what is there until the inputs are complete.

use fib::{Change, Completeness, Config, Event, Filter, RouteState};

use crate::node::{Monitor, in_a_node, ip, open_config, routes, start, want, withdraw};

const KEPT: &str = "10.244.2.0/24 via 10.0.0.2 dev eth0 metric 1024";
const LEFT: &str = "10.244.3.0/24 via 10.0.0.3 dev eth0 metric 1024";
const KEPT6: &str = "fd00:244:2::/64 via fd00:10::2 dev eth0 metric 1024";

fn three() -> Vec<Change> {
    vec![
        want("10.244.2.0/24", &["10.0.0.2"]),
        want("10.244.3.0/24", &["10.0.0.3"]),
        want("fd00:244:2::/64", &["fd00:10::2"]),
    ]
}

#[test]
fn routes_stay_when_the_installer_stops_and_are_swept_only_when_complete() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(three()).await.unwrap();
        fib.flush().await.unwrap();
        drop(fib);
        assert_eq!(routes(179), [KEPT, LEFT, KEPT6]);

        let mut monitor = Monitor::start();
        let fib = start(open_config()).await;
        let mut events = fib.events();
        fib.flush().await.unwrap();
        let status = fib.status().await.unwrap();
        assert_eq!(
            (status.ipv4.stale, status.ipv6.stale, status.complete),
            (2, 1, false)
        );
        let stale = fib.routes(Filter::default()).await.unwrap();
        assert!(
            stale.iter().all(|route| route.state == RouteState::Stale),
            "{stale:?}"
        );

        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [KEPT, LEFT, KEPT6]);

        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [KEPT, KEPT6]);
        let lines = monitor.stop();
        // What was wanted again was never written: taken over as it was.
        assert!(
            lines.iter().all(|line| line.contains("10.244.3.0/24")),
            "{lines:?}"
        );
        let status = fib.status().await.unwrap();
        assert_eq!(
            (
                status.totals.adopted,
                status.totals.added,
                status.totals.removed
            ),
            (2, 0, 1)
        );
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.push(event);
        }
        assert!(told.contains(&Event::Swept { routes: 1 }), "{told:?}");
    });
}

#[test]
fn a_route_found_at_start_moves_in_place() {
    in_a_node(|| async {
        ip("route add 10.244.2.0/24 via 10.0.0.9 proto 179 metric 1024");
        ip("-6 route add fd00:244:2::/64 via fd00:10::9 proto 179 metric 1024");
        let mut monitor = Monitor::start();
        let fib = start(open_config()).await;
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [KEPT, KEPT6]);
        let lines = monitor.stop();
        assert!(
            !lines.iter().any(|line| line.contains("Deleted")),
            "{lines:?}"
        );
    });
}

#[test]
fn a_withdrawal_before_the_inputs_are_complete_keeps_what_was_found() {
    in_a_node(|| async {
        ip("route add 10.244.2.0/24 via 10.0.0.2 proto 179 metric 1024");
        let fib = start(open_config()).await;
        fib.update(vec![want("10.244.5.0/24", &["10.0.0.2"])])
            .await
            .unwrap();
        fib.update(vec![withdraw("10.244.2.0/24"), withdraw("10.244.5.0/24")])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [KEPT]);
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [""; 0]);
    });
}

#[test]
fn a_configuration_that_can_not_be_carried_out_changes_nothing() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![want("10.244.2.0/24", &["10.0.0.2"])])
            .await
            .unwrap();
        for mark in [
            fib::Mark {
                protocol: 4,
                ..fib::Mark::default()
            },
            fib::Mark {
                table: 255,
                ..fib::Mark::default()
            },
            fib::Mark {
                metric: 0,
                ..fib::Mark::default()
            },
        ] {
            let refused = fib
                .apply(Config {
                    mark,
                    ..open_config()
                })
                .await;
            assert!(matches!(refused, Err(fib::Error::Config(_))), "{refused:?}");
        }
        fib.flush().await.unwrap();
        assert_eq!(routes(179), [KEPT]);
    });
}
