//! What others do to our routes is put right; what is theirs is left alone.

use std::time::{Duration, Instant};

use fib::{Completeness, Event, Filter, RouteState};
use tokio::sync::broadcast::Receiver;

use crate::node::{
    PATIENCE, eventually, expect_routes, in_a_node, ip, ip_batch, open_config, routes, start, want,
};

const OURS: &str = "10.244.2.0/24 via 10.0.0.2 dev eth0 metric 1024";
const OURS6: &str = "fd00:244:2::/64 via fd00:10::2 dev eth0 metric 1024";

async fn told(events: &mut Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("the event comes")
}

#[test]
fn a_deleted_route_is_back() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let mut events = fib.events();
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        ip("route del 10.244.2.0/24 proto 179");
        ip("-6 route del fd00:244:2::/64 proto 179");
        expect_routes(&[OURS, OURS6]).await;
        told(
            &mut events,
            |event| matches!(event, Event::Drifted { found: None, by, .. } if *by != 0),
        )
        .await;
        told(&mut events, |event| matches!(event, Event::Healed { .. })).await;
        let totals = fib.status().await.unwrap().totals;
        assert_eq!((totals.drifted, totals.healed), (2, 2));
    });
}

#[test]
fn a_changed_route_is_changed_back() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let mut events = fib.events();
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
        ])
        .await
        .unwrap();
        fib.flush().await.unwrap();
        ip("route replace 10.244.2.0/24 via 10.0.0.66 proto 179 metric 1024");
        let event = told(&mut events, |event| matches!(event, Event::Drifted { .. })).await;
        assert!(
            matches!(event, Event::Drifted { found: Some(found), .. } if found.contains("10.0.0.66"))
        );
        expect_routes(&[OURS, OURS6]).await;
        // One more hop, appended by hand.
        ip("-6 route append fd00:244:2::/64 via fd00:10::66 proto 179 metric 1024");
        told(&mut events, |event| matches!(event, Event::Drifted { .. })).await;
        expect_routes(&[OURS, OURS6]).await;
    });
}

#[test]
fn one_hop_of_an_ipv6_multipath_route_deleted_by_hand_is_back() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![want("fd00:244:2::/64", &["fd00:10::2", "fd00:11::2"])])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        let both = routes(179);
        ip("-6 route del fd00:244:2::/64 via fd00:10::2 proto 179");
        expect_routes(&both.iter().map(String::as_str).collect::<Vec<_>>()).await;
        ip("-6 route del fd00:244:2::/64 proto 179");
        expect_routes(&both.iter().map(String::as_str).collect::<Vec<_>>()).await;
    });
}

#[test]
fn someone_who_deletes_in_a_loop_is_answered_ever_less_often() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let mut events = fib.events();
        fib.update(vec![want("10.244.2.0/24", &["10.0.0.2"])])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        let fight = Instant::now();
        for _ in 0..7 {
            expect_routes(&[OURS]).await;
            ip("route del 10.244.2.0/24 proto 179");
        }
        let event = told(&mut events, |event| matches!(event, Event::Fighting { .. })).await;
        assert!(
            matches!(event, Event::Fighting { times: 4, .. }),
            "{event:?}"
        );
        expect_routes(&[OURS]).await;
        assert!(
            fight.elapsed() > Duration::from_millis(1000),
            "no back-off: {:?}",
            fight.elapsed()
        );
        assert!(
            fib.status()
                .await
                .unwrap()
                .problems
                .iter()
                .any(|problem| problem.contains("another program"))
        );
    });
}

#[test]
fn a_foreign_route_in_our_place_is_left_alone_and_reported() {
    in_a_node(|| async {
        ip("route add 10.244.2.0/24 via 10.0.0.9 proto static metric 1024");
        ip("-6 route add fd00:244:2::/64 via fd00:10::9 proto static metric 1024");
        ip("route add 10.244.3.0/24 via 10.0.0.9 proto static metric 50");
        let foreign = ip("route show proto static") + &ip("-6 route show proto static");
        let fib = start(open_config()).await;
        let mut events = fib.events();
        fib.update(vec![
            want("10.244.2.0/24", &["10.0.0.2"]),
            want("fd00:244:2::/64", &["fd00:10::2"]),
            want("10.244.3.0/24", &["10.0.0.2"]),
        ])
        .await
        .unwrap();
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        // Another metric is no obstacle.
        assert_eq!(
            routes(179),
            ["10.244.3.0/24 via 10.0.0.2 dev eth0 metric 1024"]
        );
        assert_eq!(
            ip("route show proto static") + &ip("-6 route show proto static"),
            foreign
        );
        let event = told(&mut events, |event| matches!(event, Event::Refused { .. })).await;
        assert!(
            event
                .to_string()
                .contains("a foreign route stands in the way"),
            "{event}"
        );
        let status = fib.status().await.unwrap();
        assert_eq!(status.refusals.get("foreign-route"), Some(&2));
        let problems = fib
            .routes(Filter {
                only_problems: true,
                ..Filter::default()
            })
            .await
            .unwrap();
        assert!(
            matches!(&problems[0].state, RouteState::Refused { kind: "foreign-route", reason }
            if reason.contains("10.244.2.0/24 via 10.0.0.9 dev eth0 proto static metric 1024")),
            "{problems:?}"
        );
        // It goes, ours comes; it comes back over ours, ours gives way.
        ip("route del 10.244.2.0/24 proto static");
        eventually("our route", || {
            routes(179).contains(&OURS.to_owned()).then_some(())
        })
        .await;
        ip("route replace 10.244.2.0/24 via 10.0.0.9 proto static metric 1024");
        eventually("the refusal", || {
            (!routes(179).contains(&OURS.to_owned())).then_some(())
        })
        .await;
        fib.flush().await.unwrap();
        assert_eq!(
            ip("route show proto static") + &ip("-6 route show proto static"),
            foreign
        );
        assert_eq!(
            fib.status().await.unwrap().refusals.get("foreign-route"),
            Some(&2)
        );
        drop(fib);
        fib::cleanup(fib::Mark::default()).await.unwrap();
        assert_eq!(
            ip("route show proto static") + &ip("-6 route show proto static"),
            foreign
        );
    });
}

#[test]
fn a_route_with_our_mark_that_nobody_wants_is_removed() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        ip("route add 10.244.9.0/24 via 10.0.0.9 proto 179 metric 1024");
        expect_routes(&[]).await;
    });
}

#[test]
fn a_flood_of_foreign_changes_does_not_hide_a_lost_route() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        fib.update(vec![want("10.244.2.0/24", &["10.0.0.2"])])
            .await
            .unwrap();
        fib.flush().await.unwrap();
        // The task does not run while this thread does: everything piles up in the socket.
        let mut batch = String::new();
        for n in 0..300_000_u32 {
            batch += &format!(
                "route add 30.{}.{}.{}/32 via 10.0.0.9 proto bgp\n",
                n >> 16,
                (n >> 8) & 255,
                n & 255
            );
        }
        batch += "route del 10.244.2.0/24 proto 179\n";
        ip_batch(&batch);
        expect_routes(&[OURS]).await;
        assert!(
            fib.status().await.unwrap().totals.overruns > 0,
            "the socket held it all: no overrun to test"
        );
    });
}
