//! Others look on: a real collector (pmacct) over BMP, bgpdump over MRT files. What they see is what `routelet routes` says, and
//! tshark finds nothing wrong with how BMP says it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::Lab;
use tests::byhand::{Bulk, Heard, Open, Peer, Table, kind, read_update};
use tests::capture::Capture;
use tests::container::Container;
use tests::scene::{self, BIRD, FRR, Transport::IPv4};
use tests::segment::Segment;
use tests::shell;
use tests::story::{established, is_up, write};
use tests::wait::{eventually, now};

const SOON: Duration = Duration::from_secs(60);
const PORT: u16 = 11019;

/// A route as it is compared: the address of its peer, its prefix, next hop and AS path.
type Route = [String; 4];

/// What node1 received of peers that are up, as it says itself; after policy only what may be used.
fn received(node: &Container, post_policy: bool) -> Result<BTreeSet<Route>> {
    let peers: Value = serde_json::from_str(&node.run(&["routelet", "peers", "-o", "json"])?)?;
    let address: BTreeMap<&str, &str> = peers
        .as_array()
        .into_iter()
        .flatten()
        .filter(|peer| peer.get("state") == Some(&"Established".into()))
        .filter_map(|peer| Some((peer.get("name")?.as_str()?, peer.get("address")?.as_str()?)))
        .collect();
    let words = ["routelet", "routes", "received", "-o", "json"];
    let routes: Value = serde_json::from_str(&node.run(&words)?)?;
    let routes = routes.get("routes").and_then(Value::as_array);
    let stands =
        |route: &&Value| !post_policy || route.pointer("/fate/is") != Some(&Value::from("refused"));
    let text = |route: &Value, field: &str| Some(route.get(field)?.as_str()?.to_owned());
    let told = routes
        .into_iter()
        .flatten()
        .filter(stands)
        .filter_map(|route| {
            let peer = address.get(route.get("from")?.as_str()?)?;
            Some([
                (*peer).to_owned(),
                text(route, "prefix")?,
                text(route, "nextHop")?,
                text(route, "asPath")?,
            ])
        });
    Ok(told.collect())
}

/// What tshark has to say of a file.
fn tshark(file: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(words);
    shell::run(&mut command)
}

const BMP: [&str; 2] = ["-d", "tcp.port==11019,bmp"];

/// Nothing of BMP in the file is malformed, or remarked upon as wrong.
fn is_well_formed(file: &Path) -> Result<()> {
    let wrong = "_ws.malformed || _ws.expert.severity >= 8388608 || (bmp && _ws.expert.severity >= 6291456)";
    let found = tshark(file, &[&BMP[..], &["-Y", wrong]].concat())?;
    ensure!(found.is_empty(), "tshark finds wrong: {found}");
    Ok(())
}

/// pmacct's collector, in a host of the lab.
struct Collector<'a> {
    lab: &'a Lab,
    log: PathBuf,
}

impl<'a> Collector<'a> {
    fn start(lab: &'a Lab, log: &str) -> Result<Self> {
        let node = lab.node("collector")?;
        let inside = format!("/tmp/{log}");
        let configuration = format!(
            "daemonize: false\nbmp_daemon_ip: 10.0.0.60\nbmp_daemon_port: {PORT}\nbmp_daemon_msglog_file: {inside}\n"
        );
        std::fs::write(node.path("/etc/pmbmpd.conf"), configuration)?;
        lab.spawn(
            "collector",
            &["pmbmpd", "-f", "/etc/pmbmpd.conf"].map(str::to_owned),
        )?;
        Ok(Self {
            lab,
            log: node.path(&inside),
        })
    }

    fn stop(self) -> Result<()> {
        self.lab.stop("collector", Signal::SIGKILL).map(drop)
    }

    /// What it heard, message by message.
    fn heard(&self) -> Result<Vec<Value>> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be half written.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let read = |line| serde_json::from_str(line).context("a line of JSON");
        whole.lines().map(read).collect()
    }

    /// How many messages of a kind it heard.
    fn count(&self, kind: &str) -> Result<usize> {
        let heard = self.heard()?;
        let of_kind = |one: &&Value| one.get("bmp_msg_type") == Some(&kind.into());
        Ok(heard.iter().filter(of_kind).count())
    }

    /// The routes it knows of peers that are up.
    fn knows(&self, post_policy: bool) -> Result<BTreeSet<Route>> {
        let mut known: BTreeMap<(String, String), Route> = BTreeMap::new();
        for one in self.heard()? {
            let text = |field: &str| {
                one.get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let peer = text("peer_ip");
            match text("bmp_msg_type").as_str() {
                "peer_down" | "peer_up" => known.retain(|(other, _), _| *other != peer),
                "route_monitor" => {
                    let post = one.get("is_post").and_then(Value::as_u64) == Some(1);
                    if post != post_policy {
                        continue;
                    }
                    let key = (peer.clone(), text("ip_prefix"));
                    if text("log_type") == "withdraw" {
                        known.remove(&key);
                    } else if !key.1.is_empty() {
                        let route = [
                            peer,
                            text("ip_prefix"),
                            text("bgp_nexthop"),
                            text("as_path"),
                        ];
                        known.insert(key, route);
                    }
                }
                _ => {}
            }
        }
        Ok(known.into_values().collect())
    }

    /// It knows what node1 says, before and after policy.
    fn is_level(&self, what: &str) -> Result<()> {
        let node1 = self.lab.node("node1")?;
        eventually(SOON, what, || {
            for post_policy in [false, true] {
                let (is, should) = (self.knows(post_policy)?, received(node1, post_policy)?);
                ensure!(
                    is == should,
                    "post policy {post_policy}: it knows {is:#?}, not {should:#?}"
                );
                ensure!(!should.is_empty(), "there is nothing to know");
            }
            Ok(())
        })
    }
}

fn monitored(also: &str) -> String {
    scene::configuration(&format!(
        "  bmp:\n  - {{name: pmacct, address: 10.0.0.60, port: {PORT}, routes: Both, statisticsSeconds: 2}}\n{also}"
    )) + &scene::peer("frr", FRR, IPv4)
        // What BIRD says of 10.244.52.0/24 is refused.
        + &scene::peer("bird", BIRD, IPv4)
        + "  import:\n    rules:\n    - {match: {prefixes: [{cidr: 10.244.52.0/24}]}, action: Reject}\n    - {action: Accept}\n"
}

#[test]
fn a_collector_hears_over_bmp_what_routelet_knows() {
    let segment = scene::between("bmp", &monitored(""), IPv4).host("collector", 60);
    segment.story(|lab| {
        let (node1, frr) = (lab.node("node1")?, lab.node("frr")?);
        let file = node1.path("/tmp/bmp.pcap");
        let capture = Capture::start(node1, "eth1", &format!("tcp port {PORT}"), &file)?;
        let collector = Collector::start(lab, "first.json")?;
        is_up(node1, "frr")?;
        is_up(node1, "bird")?;
        collector.is_level("it knows all there is")?;

        // Routes come and go.
        frr.vtysh_configure(&[
            "router bgp 65254",
            "address-family ipv4 unicast",
            "no network 10.244.55.0/24",
        ])?;
        frr.vtysh_configure(&[
            "ip route 10.244.57.0/24 blackhole",
            "router bgp 65254",
            "address-family ipv4 unicast",
            "network 10.244.57.0/24",
        ])?;
        let one = |prefix: &str| {
            received(node1, false).map(|all| all.iter().any(|route| route[1] == prefix))
        };
        eventually(SOON, "the routes have changed", || {
            ensure!(!one("10.244.55.0/24")? && one("10.244.57.0/24")?);
            Ok(())
        })?;
        collector.is_level("it hears what changed")?;

        // A session ends, and comes back.
        let downs = collector.count("peer_down")?;
        scene::clear_frr(frr, IPv4)?;
        eventually(SOON, "it hears that the session ended", || {
            ensure!(collector.count("peer_down")? > downs);
            Ok(())
        })?;
        is_up(node1, "frr")?;
        collector.is_level("it knows all again")?;
        eventually(SOON, "it gets statistics", || {
            ensure!(collector.count("stats")? > 0);
            Ok(())
        })?;

        // The collector is gone, and begins anew.
        collector.stop()?;
        eventually(SOON, "node1 misses it", || {
            let status = node1.output(&["routelet", "status"])?.stdout;
            ensure!(status.contains("not connected for"), "{status}");
            Ok(())
        })?;
        let collector = Collector::start(lab, "second.json")?;
        collector.is_level("a new one knows all")?;

        let captured = capture.stop()?;
        ensure!(!captured.packets("tcp")?.is_empty(), "nothing was captured");
        is_well_formed(&file)?;
        let types = tshark(
            &file,
            &[&BMP[..], &["-Y", "bmp", "-T", "fields", "-e", "bmp.type"]].concat(),
        )?;
        let types: BTreeSet<&str> = types
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .collect();
        ensure!(
            ["0", "1", "2", "3", "4"]
                .iter()
                .all(|kind| types.contains(kind)),
            "{types:?}"
        );

        // It is configured away and sessions do not notice.
        write(
            &lab.manifests().join("bgp.yaml"),
            &monitored("").replace("statisticsSeconds: 2", "statisticsSeconds: 0"),
        )?;
        eventually(SOON, "it is told goodbye and dialled anew", || {
            ensure!(
                collector.count("term")? > 0,
                "{:?}",
                collector.heard()?.last()
            );
            Ok(())
        })?;
        ensure!(
            established(node1)?.get("bird") == Some(&1),
            "{:?}",
            established(node1)?
        );
        Ok(())
    });
}

const COUNT: u32 = 30_000;

/// The most memory that node1's routelet has had since it was last asked, MiB.
fn peak(lab: &Lab) -> Result<u64> {
    let shown = lab.node("node1")?.sh(
        "pid=$(cat /run/lab.pid); grep VmHWM /proc/$pid/status; echo 5 >/proc/$pid/clear_refs",
    )?;
    let kib = shown.split_whitespace().nth(1).context("no VmHWM")?;
    Ok(kib.parse::<u64>()? / 1024)
}

/// A session with node1 by hand, from 10.0.128.`host`, an address of the collector's host.
fn dial(lab: &Lab, host: u8) -> Result<Peer> {
    let from = Ipv4Addr::new(10, 0, 128, host);
    let mut session = Peer::dial(
        lab.node("collector")?,
        from.into(),
        Ipv4Addr::new(10, 0, 0, 1).into(),
    )?;
    session.establish(&Open {
        hold: 0,
        ..Open::of(65_100 + u32::from(host), from)
    })?;
    Ok(session)
}

#[test]
fn a_stuck_collector_costs_nobody_else() {
    let manifest = format!(
        "{}  kernel: {{install: false}}\n  bmp: [{{name: pmacct, address: 10.0.0.60}}]\n",
        scene::configuration("")
    ) + "---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: source}
spec: {peerAddress: 10.0.128.1, peerASN: 65101, passive: true, maxPrefixes: {count: 200000}, import: {rules: [{action: Accept}]}}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: reader}
spec: {peerAddress: 10.0.128.2, peerASN: 65102, passive: true, export: {rules: [{action: Accept}]}}
";
    let segment = Segment::named("bmpstuck")
        .manifest("bgp.yaml", &manifest)
        .routelet(1)
        .host("collector", 60);
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        let collector = Collector::start(lab, "log.json")?;
        let (mut source, mut reader) = (dial(lab, 1)?, dial(lab, 2)?);
        let host: IpAddr = Ipv4Addr::new(10, 0, 0, 60).into();
        // Ten prefixes a message, and fat attributes: a queue of messages would show.
        let bulk = Bulk {
            set: 10,
            ballast: 40,
            ..Bulk::of(COUNT, &[65_101], host)
        };
        let mut table = Table::default();
        let mut round = |mark: u16| {
            source.send(&bulk.announce(mark))?;
            let start = now();
            while table.marked(mark) < COUNT as usize {
                ensure!(start.elapsed() < SOON, "the reader has {} of {COUNT}", table.marked(mark));
                if let Heard::Message { kind: kind::UPDATE, body } = reader.hear(SOON)? {
                    table.hear(&read_update(&body)?)?;
                }
            }
            Ok(start.elapsed())
        };
        let knows_all = |mark: u16| {
            let mark = format!("{}:{mark}", Table::MARK);
            eventually(SOON * 2, "the collector knows all", || {
                let mut known = BTreeSet::new();
                for one in collector.heard()? {
                    let text = |field| one.get(field).and_then(Value::as_str).unwrap_or_default();
                    if text("comms").contains(&mark) {
                        known.insert(text("ip_prefix").to_owned());
                    }
                }
                ensure!(known.len() == COUNT as usize, "it knows {}", known.len());
                Ok(())
            })
        };
        let with: Duration = round(1)?;
        knows_all(1)?;
        let peak_with = peak(lab)?;
        lab.signal("collector", Signal::SIGSTOP)?;
        let without: Vec<Duration> = (2..10).map(&mut round).collect::<Result<_>>()?;
        let peak_without = peak(lab)?;
        lab.signal("collector", Signal::SIGCONT)?;
        knows_all(9)?;
        println!("{COUNT} routes took {with:.2?}, and {without:.2?} while the collector was stuck; peak memory {peak_with} and {peak_without} MiB");
        ensure!(peak_without <= peak_with + 32, "memory grew from {peak_with} to {peak_without} MiB");
        let once = established(node1)?.values().all(|count| *count == 1);
        ensure!(once, "a session was established again: {:?}", established(node1)?);
        Ok(())
    });
}

/// What bgpdump makes of MRT files, a line a record.
fn bgpdump(files: &[PathBuf]) -> Result<Vec<Vec<String>>> {
    let mut lines = Vec::new();
    for file in files {
        let mut command = Command::new("bgpdump");
        let read = shell::run(command.args(["-m", "-v"]).arg(file))?;
        lines.extend(
            read.lines()
                .map(|line| line.split('|').map(str::to_owned).collect()),
        );
    }
    Ok(lines)
}

/// Peer, prefix, next hop and AS path of a line that announces.
fn announced(line: &[String]) -> Option<Route> {
    let field = |place: usize| line.get(place).cloned();
    Some([field(3)?, field(5)?, field(8)?, field(6)?])
}

/// The finished files of a kind, the oldest first.
fn finished(folder: &Path, kind: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(kind) && name.ends_with(".mrt") {
            files.push(path.clone());
        }
    }
    files.sort();
    Ok(files)
}

/// What whoever replays these updates knows in the end, of peers that are up.
fn replayed(files: &[PathBuf]) -> Result<BTreeSet<Route>> {
    let mut known: BTreeMap<(String, String), Route> = BTreeMap::new();
    for line in bgpdump(files)? {
        let field = |place: usize| line.get(place).cloned().unwrap_or_default();
        match field(2).as_str() {
            "A" => {
                let route = announced(&line).context("a line that announces")?;
                known.insert((field(3), field(5)), route);
            }
            "W" => {
                known.remove(&(field(3), field(5)));
            }
            "STATE" => known.retain(|(peer, _), _| *peer != field(3)),
            other => anyhow::bail!("bgpdump says {other}: {line:?}"),
        }
    }
    Ok(known.into_values().collect())
}

/// The routes of peers in a table dump, and those of node1 itself.
fn tabled(file: &Path) -> Result<(BTreeSet<Route>, BTreeSet<Route>)> {
    let lines = bgpdump(&[file.to_owned()])?;
    let all = lines.iter().filter_map(|line| announced(line));
    Ok(all.partition(|route| route[0] != "0.0.0.0" && route[0] != "::"))
}

#[test]
fn bgpdump_reads_from_mrt_files_what_routelet_knows() {
    let manifest = scene::configuration(
        "  mrt: {directory: /tmp/mrt, updates: {rotateSeconds: 2}, table: {intervalSeconds: 10}}\n",
    ) + &scene::peer("frr", FRR, IPv4)
        + &scene::peer("bird", BIRD, IPv4);
    let segment = scene::between("mrt", &manifest, IPv4);
    segment.story(|lab| {
        let (node1, frr) = (lab.node("node1")?, lab.node("frr")?);
        let folder = node1.path("/tmp/mrt");
        is_up(node1, "frr")?;
        is_up(node1, "bird")?;
        let level = |what: &str| {
            eventually(SOON, what, || {
                let should = received(node1, false)?;
                ensure!(!should.is_empty(), "there is nothing to know");
                node1.run(&["routelet", "mrt", "table", "-w", "/tmp/rib.mrt"])?;
                let (of_peers, own) = tabled(&node1.path("/tmp/rib.mrt"))?;
                ensure!(of_peers == should, "the table has {of_peers:#?}, not {should:#?}");
                ensure!(own.iter().any(|route| route[1] == "10.244.1.0/24"), "{own:#?}");
                let is = replayed(&finished(&folder, "updates")?)?;
                ensure!(is == should, "updates give {is:#?}, not {should:#?}");
                Ok(())
            })
        };
        level("table and updates give what is known")?;
        frr.vtysh_configure(&["router bgp 65254", "address-family ipv4 unicast", "no network 10.244.55.0/24"])?;
        level("… after a withdrawal")?;
        scene::clear_frr(frr, IPv4)?;
        is_up(node1, "frr")?;
        level("… after a session began anew")?;
        eventually(SOON, "the daemon writes the table", || {
            let files = finished(&folder, "rib")?;
            let last = files.last().context("there is none yet")?;
            let should = received(node1, false)?;
            ensure!(tabled(last)?.0 == should, "{last:?}");
            Ok(())
        })?;
        // A full disk costs the files and nothing else.
        node1.sh("mount -t tmpfs -o size=256k tmpfs /tmp/mrt && head -c 262144 /dev/zero >/tmp/mrt/full || true")?;
        scene::clear_frr(frr, IPv4)?;
        eventually(SOON, "node1 says that the disk is full", || {
            let status = node1.output(&["routelet", "status"])?.stdout;
            ensure!(status.contains("cannot be written"), "{status}");
            Ok(())
        })?;
        is_up(node1, "frr")?;
        node1.sh("rm /tmp/mrt/full")?;
        scene::clear_frr(frr, IPv4)?;
        is_up(node1, "frr")?;
        eventually(SOON, "and that it is not any more", || {
            let status = node1.output(&["routelet", "status"])?.stdout;
            ensure!(!status.contains("cannot be written"), "{status}");
            Ok(())
        })
    });
}
