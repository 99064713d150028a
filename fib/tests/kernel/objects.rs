//! Next-hop objects: large sets of prefixes move, come back and go as a whole.

use fib::{Change, Completeness, Fib, Mark, NextHop};

use crate::node::{Monitor, PATIENCE, eventually, in_a_node, ip, open_config, routes, start};

/// More than a set needs to have an object.
const ENOUGH: usize = 300;
const BOTH: [&str; 2] = ["10.0.0.2", "10.0.1.2"];
const BOTH6: [&str; 2] = ["fd00:10::2", "fd00:11::2"];

fn prefix(n: usize) -> ipnetwork::IpNetwork {
    format!("10.{}.{}.0/24", 100 + n / 256, n % 256)
        .parse()
        .unwrap()
}

fn prefix6(n: usize) -> ipnetwork::IpNetwork {
    format!("fd00:244:{n:x}::/64").parse().unwrap()
}

fn hops(next_hops: &[&str]) -> Vec<NextHop> {
    next_hops
        .iter()
        .map(|hop| NextHop::new(hop.parse().unwrap()))
        .collect()
}

async fn want_all(fib: &Fib, count: usize, next_hops: &[&str], next_hops6: &[&str]) {
    let v4 = (0..count).map(|n| Change::wanted(prefix(n), hops(next_hops)));
    let v6 = (0..count).map(|n| Change::wanted(prefix6(n), hops(next_hops6)));
    fib.update(v4.chain(v6).collect()).await.unwrap();
    fib.flush().await.unwrap();
}

/// The lines of `ip nexthop` with our protocol number.
fn objects() -> Vec<String> {
    let all = ip("nexthop show");
    let ours = all.lines().filter(|line| line.contains("proto 179"));
    ours.map(|line| line.trim().to_owned()).collect()
}

fn groups() -> Vec<String> {
    let mut groups = objects();
    groups.retain(|line| line.contains(" group "));
    groups
}

/// The number in a line of `ip nexthop` or the one a route goes through.
fn number(line: &str) -> u32 {
    let mut words = line.split_whitespace();
    words.find(|word| matches!(*word, "id" | "nhid"));
    words.next().unwrap().parse().unwrap()
}

/// Waits until `count` prefixes of each family lead to exactly these gateways.
async fn all_lead(count: usize, via: &[&str], via6: &[&str]) {
    let leads = |line: &String, via: &[&str]| {
        let gateways: Vec<&str> = line
            .split_whitespace()
            .zip(line.split_whitespace().skip(1))
            .filter(|(word, _)| *word == "via")
            .map(|(_, gateway)| gateway)
            .collect();
        gateways == via
    };
    eventually(
        &format!("{count} prefixes through {via:?} and {via6:?}"),
        || {
            let routes = routes(179);
            let (v6, v4): (Vec<&String>, Vec<&String>) =
                routes.iter().partition(|line| line.contains("fd00:244"));
            let right = (v4.len(), v6.len()) == (count, count)
                && v4.iter().all(|line| leads(line, via))
                && v6.iter().all(|line| leads(line, via6));
            right.then_some(())
        },
    )
    .await;
}

/// Waits until the installer has heard of a link, and drawn its conclusions.
async fn heard_of(name: &str, up: bool, fib: &Fib) {
    let is = |link: &fib::Interface| link.name == name && link.up == up;
    let mut links = fib.links();
    let heard = links.wait_for(|links| links.iter().any(is));
    tokio::time::timeout(PATIENCE, heard)
        .await
        .expect("the link event comes")
        .unwrap();
    fib.flush().await.unwrap();
}

#[test]
fn ten_thousand_prefixes_leave_a_dead_link_by_one_operation() {
    in_a_node(|| async {
        const COUNT: usize = 10_000;
        let fib = start(open_config()).await;
        let changes = (0..COUNT).map(|n| Change::wanted(prefix(n), hops(&BOTH)));
        fib.update(changes.collect()).await.unwrap();
        fib.flush().await.unwrap();
        let before = fib.status().await.unwrap();
        assert_eq!(
            (before.objects, before.totals.objects),
            (3, 3),
            "{:?}",
            objects()
        );
        assert_eq!(before.totals.added, COUNT as u64);
        assert!(routes(179).iter().all(|line| line.contains("nhid 179")));

        ip("link set far1 down");
        // The kernel leaves the link by itself: what counts is what we made of it.
        heard_of("eth1", false, &fib).await;
        assert!(
            routes(179)
                .iter()
                .all(|line| line.contains("via 10.0.0.2") && !line.contains("eth1"))
        );
        let after = fib.status().await.unwrap();
        assert_eq!(after.totals.objects, 4, "one operation: {:?}", objects());
        let written = |status: &fib::Status| {
            (
                status.totals.added,
                status.totals.replaced,
                status.totals.removed,
            )
        };
        assert_eq!(written(&after), written(&before), "no route was written");

        ip("link set far1 up");
        heard_of("eth1", true, &fib).await;
        assert!(routes(179).iter().all(|line| line.contains("eth1")));
        let after = fib.status().await.unwrap();
        assert_eq!(
            after.totals.objects,
            6,
            "the member and the group: {:?}",
            objects()
        );
        assert_eq!(written(&after), written(&before), "no route was written");
        assert_eq!(routes(179).len(), COUNT);
    });
}

#[test]
fn ten_thousand_prefixes_that_nobody_wants_go_with_their_object() {
    in_a_node(|| async {
        const COUNT: usize = 10_000;
        let fib = start(open_config()).await;
        let mut changes: Vec<Change> = (0..COUNT)
            .map(|n| Change::wanted(prefix(n), hops(&["10.0.0.2"])))
            .collect();
        changes.push(Change::wanted(prefix(COUNT), hops(&["10.0.1.2"])));
        fib.update(changes).await.unwrap();
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        ip("route add 10.99.0.0/24 via 10.0.0.2 proto static");

        let mut monitor = Monitor::start();
        let gone = (0..COUNT).map(|n| Change::Withdrawn(prefix(n)));
        fib.update(gone.collect()).await.unwrap();
        fib.flush().await.unwrap();
        assert_eq!(monitor.stop(), [""; 0], "no route was removed by itself");
        let left = routes(179);
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].contains("via 10.0.1.2"), "{left:?}");
        assert_eq!(objects(), [""; 0]);
        assert_eq!(routes(4).len(), 1, "what is not ours stays");
        let status = fib.status().await.unwrap();
        assert_eq!(status.totals.removed, COUNT as u64);
        assert_eq!(status.objects, 0);

        // Back again: nothing of it is left in our own books either.
        let back = (0..COUNT).map(|n| Change::wanted(prefix(n), hops(&["10.0.0.2"])));
        fib.update(back.collect()).await.unwrap();
        fib.flush().await.unwrap();
        assert_eq!(routes(179).len(), COUNT + 1);
    });
}

#[test]
fn a_restart_takes_over_objects_and_writes_nothing() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        want_all(&fib, ENOUGH, &BOTH, &BOTH6).await;
        drop(fib);
        let (before, objects_before) = (routes(179), ip("nexthop show"));
        assert_eq!(before.len(), 2 * ENOUGH);
        assert_eq!(groups().len(), 2);

        let mut monitor = Monitor::start();
        let fib = start(open_config()).await;
        want_all(&fib, ENOUGH, &BOTH, &BOTH6).await;
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        assert_eq!(monitor.stop(), [""; 0], "a route was touched");
        assert_eq!(routes(179), before);
        assert_eq!(ip("nexthop show"), objects_before);
        let totals = fib.status().await.unwrap().totals;
        assert_eq!((totals.adopted, totals.objects), (2 * ENOUGH as u64, 0));
    });
}

#[test]
fn what_nobody_takes_over_goes_once_the_inputs_are_complete() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        want_all(&fib, ENOUGH, &BOTH, &BOTH6).await;
        drop(fib);
        let fib = start(open_config()).await;
        fib.flush().await.unwrap();
        assert_eq!((routes(179).len(), groups().len()), (2 * ENOUGH, 2));
        fib.set_complete(Completeness::Complete).await.unwrap();
        fib.flush().await.unwrap();
        eventually("no route and no object left", || {
            (routes(179).is_empty() && objects().is_empty()).then_some(())
        })
        .await;
    });
}

#[test]
fn a_link_that_comes_back_brings_all_its_routes_back() {
    in_a_node(|| async {
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down", "1").unwrap();
        let fib = start(open_config()).await;
        want_all(&fib, ENOUGH, &BOTH[..1], &BOTH6[..1]).await;
        for (down, up) in [
            ("link set far0 down", "link set far0 up"),
            ("link set eth0 down", "link set eth0 up"),
        ] {
            ip(down);
            eventually("no route left", || routes(179).is_empty().then_some(())).await;
            ip(up);
            all_lead(ENOUGH, &BOTH[..1], &BOTH6[..1]).await;
            // Faster than anyone can hear.
            ip(down);
            ip(up);
            all_lead(ENOUGH, &BOTH[..1], &BOTH6[..1]).await;
        }
        fib.flush().await.unwrap();
        assert_eq!(groups().len(), 2);
    });
}

#[test]
fn an_object_that_someone_removes_or_changes_is_put_back_with_its_routes() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        want_all(&fib, ENOUGH, &BOTH, &BOTH6).await;
        let members: Vec<u32> = objects()
            .iter()
            .filter(|line| !line.contains(" group "))
            .map(|line| number(line))
            .collect();
        for group in groups() {
            ip(&format!("nexthop del id {}", number(&group)));
            all_lead(ENOUGH, &BOTH, &BOTH6).await;
        }
        for member in &members {
            ip(&format!("nexthop del id {member}"));
            all_lead(ENOUGH, &BOTH, &BOTH6).await;
        }
        let group = groups()
            .into_iter()
            .find(|line| line.contains(&members[0].to_string()))
            .unwrap();
        ip(&format!(
            "nexthop replace id {} group {}",
            number(&group),
            members[0]
        ));
        all_lead(ENOUGH, &BOTH, &BOTH6).await;
        eventually("the drift was counted", || {
            (groups().len() == 2).then_some(())
        })
        .await;
        fib.flush().await.unwrap();
        let status = fib.status().await.unwrap();
        assert!(status.totals.drifted >= 7, "{status:?}");
        assert_eq!(
            status.ipv4.installed + status.ipv6.installed,
            2 * ENOUGH as u64
        );
    });
}

#[test]
fn objects_of_others_are_left_alone_even_in_our_range() {
    in_a_node(|| async {
        ip("nexthop add id 4 via 10.0.0.9 dev eth0 proto 179");
        ip("nexthop add id 1790000000 via 10.0.0.9 dev eth0");
        ip("nexthop add id 1790000002 group 1790000000");
        let foreign = || {
            let all = ip("nexthop show");
            let theirs = all
                .lines()
                .filter(|line| line.contains("10.0.0.9") || line.contains("1790000002"));
            theirs.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = foreign();
        assert_eq!(before.len(), 3);
        let fib = start(open_config()).await;
        want_all(&fib, ENOUGH, &BOTH, &BOTH6).await;
        all_lead(ENOUGH, &BOTH, &BOTH6).await;
        assert_eq!(groups().len(), 2);
        drop(fib);
        assert_eq!(fib::cleanup(Mark::default()).await.unwrap(), 2 * ENOUGH);
        assert_eq!(foreign(), before);
        assert_eq!(
            ip("nexthop show").lines().count(),
            3,
            "nothing of ours is left"
        );
        assert_eq!(routes(179), [""; 0]);
    });
}

#[test]
fn every_kind_of_next_hop_goes_through_an_object() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        let weighted = |address: &str, weight| NextHop {
            weight,
            ..NextHop::new(address.parse().unwrap())
        };
        let sets = [
            // RFC 8950, and a link-local one on its interface.
            vec![weighted("fd00:10::2", 1)],
            vec![NextHop::new("fe80::2".parse().unwrap()).on(crate::node::index("eth1"))],
            vec![
                weighted("10.0.0.2", 256),
                weighted("10.0.1.2", 1),
                weighted("fd00:11::2", 3),
            ],
        ];
        for (place, set) in sets.iter().enumerate() {
            let changes =
                (0..ENOUGH).map(|n| Change::wanted(prefix(1000 * place + n), set.clone()));
            fib.update(changes.collect()).await.unwrap();
        }
        fib.flush().await.unwrap();
        let status = fib.status().await.unwrap();
        assert_eq!(
            status.ipv4.installed,
            3 * ENOUGH as u64,
            "{:?}",
            status.problems
        );
        assert_eq!(groups().len(), 3);
        let through = routes(179);
        assert!(
            through.iter().all(|line| line.contains("nhid")),
            "{through:?}"
        );
        for part in [
            "via inet6 fd00:10::2",
            "via inet6 fe80::2 dev eth1",
            "via 10.0.0.2 dev eth0 weight 255 | via 10.0.1.2 dev eth1 weight 1 | via inet6 fd00:11::2 dev eth1 weight 3",
        ] {
            assert!(
                through.iter().any(|line| line.contains(part)),
                "{part}: {}",
                through[2 * ENOUGH]
            );
        }
        let explained = fib.explain(prefix(0)).await.unwrap();
        assert!(
            explained.kernel_routes[0].contains(" nhid 179"),
            "{explained:?}"
        );
        assert!(
            explained.kernel_routes[0].contains(" via fd00:10::2 dev eth0"),
            "{explained:?}"
        );
    });
}

#[test]
fn a_small_set_stays_plain_and_grows_into_an_object_without_a_gap() {
    in_a_node(|| async {
        let fib = start(open_config()).await;
        want_all(&fib, 100, &BOTH, &BOTH6).await;
        assert!(objects().is_empty());
        let mut monitor = Monitor::start();
        want_all(&fib, ENOUGH, &BOTH, &BOTH6).await;
        all_lead(ENOUGH, &BOTH, &BOTH6).await;
        assert!(routes(179).iter().all(|line| line.contains("nhid")));
        let lines = monitor.stop();
        assert!(
            !lines.iter().any(|line| line.contains("Deleted")),
            "{lines:?}"
        );
    });
}
