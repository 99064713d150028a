//! Metrics and health as Prometheus, the kubelet and a curl user meet them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

mod exposition;
mod support;

use exposition::Exposition;
use serde_json::Value;
use support::{Daemon, Place, eventually, text};

/// An answer: status code, header lines, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(stream: impl Read + Write, request: &str) -> Answer {
    let mut stream = stream;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

/// A daemon whose metrics are at this address.
struct Served {
    daemon: Daemon,
    at: SocketAddr,
}

impl Served {
    /// Node `n1`, at its own loopback address.
    fn start(place: &Place) -> Self {
        let at = SocketAddr::from((place.address(1), 9179));
        let daemon = place.spawn_with("n1", &["--metrics-address", &at.to_string()]);
        daemon.wait();
        eventually("metrics are served", || TcpStream::connect(at).is_ok());
        Self { daemon, at }
    }

    fn get(&self, path: &str) -> Answer {
        ask(TcpStream::connect(self.at).unwrap(), &format!("GET {path}"))
    }

    fn scrape(&self) -> Exposition {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(answer.head.contains(kind), "{}", answer.head);
        Exposition::read(&answer.body)
    }

    fn is_ready(&self) -> bool {
        self.get("/readyz").status == 200
    }
}

/// Two daemons that peer with each other; the metrics are the first one's.
fn pair(place: &Place) -> (Served, Daemon) {
    place.write("n1.yaml", &place.node("n1", 1, &[("n2", 2)]));
    place.write("n2.yaml", &place.node("n2", 2, &[("n1", 1)]));
    let one = Served::start(place);
    let two = place.start("n2");
    eventually("both are up", || one.daemon.is_up("n2") && two.is_up("n1"));
    (one, two)
}

/// A node of a mesh of so many.
fn mesh(place: &Place, nodes: u16) -> String {
    let mut text = format!(
        "apiVersion: routelet.dev/v1alpha1\nkind: BGPConfiguration\nmetadata: {{name: default}}\n\
         spec: {{listenPort: {}, kernel: {{install: false}}}}\n",
        support::PORT
    );
    for node in 1..=nodes {
        let [high, low] = node.to_be_bytes();
        let address = if node == 1 {
            place.address(1).to_string()
        } else {
            format!("192.0.{}.{low}", high + 2)
        };
        write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{node}}}\nspec: {{podCIDRs: [10.{high}.{low}.0/24]}}\n\
             status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
        )
        .unwrap();
    }
    text
}

#[test]
fn metrics_say_what_status_and_peers_say() {
    let place = Place::new();
    let (one, _two) = pair(&place);
    eventually("the route is there", || {
        one.daemon.json(&["status"])["routes"]["IPv4"]["received"] == 1
    });
    let (status, peer) = (one.daemon.json(&["status"]), one.daemon.session("n2"));
    let said = one.scrape();
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(said.value("routelet_healthy", ""), 1.0);
    assert_eq!(
        said.sum("routelet_peers", ""),
        number(&status["peers"]["total"])
    );
    assert_eq!(
        said.sum("routelet_peers", r#"state="Established""#),
        number(&status["peers"]["established"])
    );
    for count in ["received", "accepted", "stale", "advertised"] {
        for family in ["IPv4", "IPv6"] {
            let all = said.sum(
                &format!("routelet_routes_{count}"),
                &format!("family=\"{family}\""),
            );
            assert_eq!(
                all,
                status["routes"][family][count].as_f64().unwrap_or(0.0),
                "{count} {family}"
            );
        }
        let own = said.sum(&format!("routelet_peer_routes_{count}"), r#"peer="n2""#);
        let families = peer["families"].as_object().unwrap().values();
        assert_eq!(
            own,
            families.map(|counts| number(&counts[count])).sum::<f64>(),
            "{count}"
        );
    }
    assert_eq!(
        said.value("routelet_prefixes", r#"family="IPv4""#),
        number(&status["prefixes"]["IPv4"])
    );
    assert_eq!(
        said.value("routelet_attribute_sets", ""),
        number(&status["attributeSets"])
    );
    let severities = said.sum("routelet_problems", "");
    assert_eq!(
        severities,
        status["problems"].as_array().unwrap().len() as f64
    );
    assert_eq!(said.value("routelet_peer_up", r#"peer="n2""#), 1.0);
    assert_eq!(said.value("routelet_peer_state", r#"peer="n2""#), 6.0);
    assert_eq!(
        said.value("routelet_peer_sessions_total", r#"peer="n2""#),
        1.0
    );
    assert_eq!(
        said.value(
            "routelet_peer_info",
            r#"type="internal",peer="n2",asn="64512""#
        ),
        1.0
    );
    // KEEPALIVEs come and go between the two questions.
    let messages = said.value("routelet_peer_messages_total", r#"direction="received""#);
    assert!(
        messages >= number(&peer["messages"]["messagesIn"]),
        "{messages}"
    );
    assert_eq!(said.value("routelet_duty", r#"duty="in_service""#), 1.0);
    assert_eq!(said.value("routelet_initial_routes_complete", ""), 1.0);
    assert!(said.value("routelet_initial_sync_duration_seconds", "") > 0.0);
    // Nothing is installed here.
    assert_eq!(said.series("routelet_fib_routes"), 0);
}

#[test]
fn metrics_tell_why_a_peer_left_and_what_became_of_the_configuration() {
    let place = Place::new();
    let (one, two) = pair(&place);
    assert_eq!(two.ask(&["drain"]).status.code(), Some(0));
    eventually("the peer's last word is counted", || {
        let said = one.scrape();
        let last = r#"peer="n2",from="peer",code="6",subcode="2""#;
        said.value("routelet_peer_up", r#"peer="n2""#) == 0.0
            && said.sum("routelet_peer_last_notification", last) == 1.0
            && said.value("routelet_healthy", "") == 0.0
            && said.value("routelet_problems", r#"severity="error""#) >= 1.0
    });
    assert_eq!(
        one.scrape()
            .value("routelet_configuration_last_reload_successful", ""),
        1.0
    );
    place.write("n1.yaml", "kind: [");
    eventually("the broken file is told", || {
        let said = one.scrape();
        said.value("routelet_configuration_last_reload_successful", "") == 0.0
    });
}

#[test]
fn the_number_of_series_does_not_grow_with_the_mesh() {
    let mut series = Vec::new();
    for nodes in [3_u16, 300] {
        let place = Place::new();
        place.write("n1.yaml", &mesh(&place, nodes));
        let one = Served::start(&place);
        let said = one.scrape();
        assert_eq!(
            said.sum("routelet_peers", r#"type="mesh""#),
            f64::from(nodes - 1)
        );
        series.push(said.labelled());
    }
    assert_eq!(series[0], series[1]);
}

#[test]
fn a_node_becomes_ready_with_its_first_peer_and_stays_so_without_it() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[("n2", 2)]));
    place.write("n2.yaml", &place.node("n2", 2, &[("n1", 1)]));
    let one = Served::start(&place);
    let waiting = one.get("/readyz");
    assert_eq!(waiting.status, 503);
    assert!(
        waiting
            .body
            .contains("[-]peers failed: none of 1 peers has been up"),
        "{}",
        waiting.body
    );
    assert!(
        waiting.body.contains("[+]daemon ok\n[+]speaker ok\n"),
        "{}",
        waiting.body
    );
    assert!(
        waiting.body.ends_with("readyz check failed\n"),
        "{}",
        waiting.body
    );
    // A neighbour that is not there is no reason to be restarted.
    let healthy = one.get("/healthz");
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "ok\n"));
    let two = place.start("n2");
    eventually("ready", || one.is_ready());
    let verbose = one.get("/readyz?verbose").body;
    assert!(verbose.ends_with("readyz check passed\n"), "{verbose}");
    assert_eq!(two.stop(), Some(0));
    eventually("the peer is gone", || !one.daemon.is_up("n2"));
    assert!(one.is_ready());
    assert_eq!(
        one.get("/healthz?verbose").body,
        "[+]daemon ok\n[+]speaker ok\nhealthz check passed\n"
    );
}

#[test]
fn an_address_in_use_is_a_problem_until_it_is_free_and_nothing_worse() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let at = SocketAddr::from((place.address(1), 9179));
    let taken = TcpListener::bind(at).unwrap();
    let one = place.spawn_with("n1", &["--metrics-address", &at.to_string()]);
    one.wait();
    let told = || text(&one.ask(&["status"]).stdout).contains("warning: metrics: ");
    eventually("the problem is told", told);
    let shown = text(&one.ask(&["status"]).stdout);
    assert!(
        shown.contains(&format!("{at} cannot be listened on")),
        "{shown}"
    );
    assert!(shown.contains("--metrics-address"), "{shown}");
    eventually("healthy all the same", || {
        one.ask(&["status"]).status.code() == Some(0)
    });
    // The control socket has them whatever happens to the port.
    let ready = ask(UnixStream::connect(&one.socket).unwrap(), "GET /readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ok\n"));
    let metrics = ask(UnixStream::connect(&one.socket).unwrap(), "GET /metrics");
    assert_eq!(
        Exposition::read(&metrics.body).value("routelet_problems", r#"severity="warning""#),
        1.0
    );
    drop(taken);
    eventually("it is had", || !told());
    assert_eq!(
        ask(TcpStream::connect(at).unwrap(), "GET /healthz").status,
        200
    );
}

#[test]
fn nothing_else_is_served_over_tcp() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let one = Served::start(&place);
    for path in ["/", "/v1/status", "/v1/dump", "/metrics/"] {
        assert_eq!(one.get(path).status, 404, "{path}");
    }
    for request in ["POST /v1/drain", "POST /metrics", "DELETE /healthz"] {
        let answer = ask(TcpStream::connect(one.at).unwrap(), request);
        assert_eq!(answer.status, 405, "{request}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
    }
    assert_eq!(one.daemon.json(&["status"])["duty"], "inService");
    let head = ask(TcpStream::connect(one.at).unwrap(), "HEAD /metrics");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn many_idle_connections_do_not_keep_the_daemon_from_its_work() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let one = Served::start(&place);
    let idle: Vec<TcpStream> = (0..500)
        .map(|_| TcpStream::connect(one.at).unwrap())
        .collect();
    let silent: Vec<UnixStream> = (0..500)
        .map(|_| UnixStream::connect(&one.daemon.socket).unwrap())
        .collect();
    assert_eq!(one.daemon.ask(&["status"]).status.code(), Some(0));
    // The kubelet would kill a daemon whose health it cannot ask about.
    assert_eq!(one.get("/healthz").status, 200);
    let open = fs::read_dir(format!("/proc/{}/fd", one.daemon.child.id())).unwrap();
    let open = open.count();
    assert!(open < 64 + 256 + 50, "{open} descriptors");
    drop((idle, silent));
}

#[test]
fn an_address_that_is_none_is_refused_with_what_would_be_right() {
    let refused = support::routelet(
        &[
            "run",
            "--node",
            "n",
            "--config",
            "x",
            "--metrics-address",
            "9179",
        ],
        None,
    );
    assert_eq!(refused.status.code(), Some(2));
    let told = text(&refused.stderr);
    assert!(
        told.contains("is no ADDR:PORT such as 127.0.0.1:9179"),
        "{told}"
    );
}

#[test]
fn dashboard_alerts_and_readme_name_only_metrics_that_there_are() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[]));
    let there = Served::start(&place).scrape().names();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for file in [
        "deploy/grafana/routelet.json",
        "deploy/prometheus/rules.yaml",
    ] {
        let named = names(&fs::read_to_string(top.join(file)).unwrap());
        assert!(named.len() > 5, "{file} names {named:?}");
        let unknown: Vec<&String> = named.difference(&there).collect();
        assert!(
            unknown.is_empty(),
            "{file} names what there is not: {unknown:?}"
        );
    }
    // The README names them all.
    let readme = fs::read_to_string(top.join("README.md")).unwrap();
    let (_, section) = readme.split_once("## Metrics").unwrap();
    let section = section.split("\n## ").next().unwrap();
    assert_eq!(names(section), there);
}

/// Every word in `text` that begins as our metrics do.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("routelet_"))
        .map(str::to_owned)
        .collect()
}
