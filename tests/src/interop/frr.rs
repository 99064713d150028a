//! FRR: zebra and bfdd run on, bgpd comes and goes.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::settings::{Feature, KEY, LIMIT, SOURCES};
use super::speaker::{Learned, Marks, Site, Speaker, by_family, is_ipv6};
use crate::wait::eventually;

const CONFIGURATION: &str = "/etc/frr/bgpd.conf";
const LOG: &str = "/tmp/frr.log";
const START: Duration = Duration::from_secs(60);

pub(super) struct Frr;

fn configuration(site: &Site<'_>, prefixes: &[&str]) -> String {
    use Feature::{
        AddPathReceive, AddPathSend, Bfd, ExtendedNextHop, GracefulRestart, Gtsm, LongLived,
        MaxPrefixes, NotificationRestart, OnlyIPv4, Password,
    };
    let settings = site.settings;
    let node1 = settings.our_address();
    let has = |feature| settings.has(feature);
    let mut text = format!(
        "hostname frr\nlog file {LOG} informational\nrouter bgp {}\n bgp router-id 10.0.0.51\n bgp log-neighbor-changes\n \
         no bgp ebgp-requires-policy\n no bgp network import-check\n no bgp default ipv4-unicast\n",
        settings.their_as
    );
    if has(GracefulRestart) || has(LongLived) {
        let _ = write!(
            text,
            " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time {}\n",
            settings.restart_seconds()
        );
    } else {
        // It gathers what it tells for a second, which keeps its End-of-RIB behind its routes when it restarts, and else only takes time.
        text += " bgp graceful-restart-disable\n coalesce-time 0\n";
    }
    if has(NotificationRestart) {
        text += " bgp graceful-restart notification\n";
    }
    if has(LongLived) {
        text += " bgp long-lived-graceful-restart stale-time 3600\n";
    }
    let _ = write!(
        text,
        " neighbor {node1} remote-as {}\n neighbor {node1} timers connect 1\n neighbor {node1} advertisement-interval 0\n",
        settings.our_as
    );
    for (feature, line) in [
        (Password, format!("password {KEY}")),
        (Gtsm, "ttl-security hops 1".into()),
        (ExtendedNextHop, "capability extended-nexthop".into()),
        (Bfd, "bfd".into()),
    ] {
        if has(feature) {
            let _ = writeln!(text, " neighbor {node1} {line}");
        }
    }
    if has(AddPathSend) {
        for (address, asn) in SOURCES {
            let _ = write!(
                text,
                " neighbor {address} remote-as {asn}\n neighbor {address} passive\n"
            );
        }
    }
    let families = if has(OnlyIPv4) {
        &["ipv4"][..]
    } else {
        &["ipv4", "ipv6"]
    };
    for family in families {
        let _ = write!(
            text,
            " address-family {family} unicast\n  neighbor {node1} activate\n"
        );
        if has(AddPathSend) {
            let _ = writeln!(text, "  neighbor {node1} addpath-tx-all-paths");
            for (address, _) in SOURCES {
                let _ = writeln!(text, "  neighbor {address} activate");
            }
        }
        if !has(AddPathReceive) {
            let _ = writeln!(text, "  neighbor {node1} disable-addpath-rx");
        }
        let of_family = |prefix: &&&str| is_ipv6(prefix) == (*family == "ipv6");
        for prefix in prefixes.iter().filter(of_family) {
            let _ = writeln!(text, "  network {prefix}");
        }
        if has(MaxPrefixes) {
            let _ = writeln!(text, "  neighbor {node1} maximum-prefix {LIMIT}");
        }
        text += " exit-address-family\n";
    }
    text + "exit\nroute-map MARKS permit 10\n set community 65051:7\n set extcommunity rt 65051:7\n set large-community 65051:1:2\nexit\n"
}

/// Gives these lines to both families of its BGP.
fn networks(site: &Site<'_>, prefixes: &[String], line: impl Fn(&str) -> String) -> Result<()> {
    let mut text = format!("router bgp {}\n", site.settings.their_as);
    for (family, prefixes) in ["ipv4", "ipv6"].iter().zip(by_family(prefixes)) {
        let _ = writeln!(text, "address-family {family} unicast");
        for prefix in prefixes {
            let _ = writeln!(text, "{}", line(prefix));
        }
        text += "exit-address-family\n";
    }
    site.write("/tmp/networks", &text)?;
    site.container()?
        .run(&["vtysh", "-d", "bgpd", "-f", "/tmp/networks"])
        .map(drop)
}

fn ask(site: &Site<'_>, command: &str) -> Result<Value> {
    site.container()?.vtysh(command)
}

impl Speaker for Frr {
    fn name(&self) -> &'static str {
        "FRR"
    }

    fn version(&self) -> [&'static str; 2] {
        ["/usr/lib/frr/bgpd", "--version"]
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::TwoOctetAs => Some("it always offers four-octet AS numbers"),
            _ => None,
        }
    }

    fn start(&self, site: &Site<'_>, prefixes: &[&str]) -> Result<()> {
        let frr = site.container()?;
        frr.sh("[ -e /run/frr/zebra.pid ] || { /usr/lib/frr/zebra -d -A 127.0.0.1 && /usr/lib/frr/bfdd -d -A 127.0.0.1; }")?;
        site.write(CONFIGURATION, &configuration(site, prefixes))?;
        frr.sh(&format!(
            "chown frr:frr {CONFIGURATION}; : >{LOG}; chown frr:frr {LOG}"
        ))?;
        site.spawn(&["/usr/lib/frr/bgpd", "-f", CONFIGURATION, "-A", "127.0.0.1"])?;
        eventually(START, "bgpd answers", || ask(site, "show bgp summary json")).map(drop)
    }

    fn originate(&self, site: &Site<'_>, prefixes: &[String], marks: Marks) -> Result<()> {
        let also = match marks {
            Marks::None => "",
            Marks::Communities => " route-map MARKS",
        };
        networks(site, prefixes, |prefix| format!("network {prefix}{also}"))
    }

    fn withdraw(&self, site: &Site<'_>, prefixes: &[String]) -> Result<()> {
        networks(site, prefixes, |prefix| format!("no network {prefix}"))
    }

    fn learned(&self, site: &Site<'_>) -> Result<Learned> {
        let node1 = site.settings.our_address();
        let mut learned = Learned::new();
        for family in ["ipv4", "ipv6"] {
            let table = ask(site, &format!("show bgp {family} unicast json"))?;
            let routes = table.get("routes").and_then(Value::as_object);
            for (prefix, paths) in routes.into_iter().flatten() {
                for path in paths.as_array().into_iter().flatten() {
                    if path.get("peerId").and_then(Value::as_str) != Some(&node1) {
                        continue;
                    }
                    let hop = path.pointer("/nexthops/0/ip").and_then(Value::as_str);
                    let hops = learned.entry(prefix.clone()).or_default();
                    hops.push(hop.context("no next hop")?.to_owned());
                    hops.sort();
                }
            }
        }
        Ok(learned)
    }

    fn shown(&self, site: &Site<'_>, prefix: &str) -> Result<String> {
        let family = if is_ipv6(prefix) { "ipv6" } else { "ipv4" };
        Ok(ask(site, &format!("show bgp {family} unicast {prefix} json"))?.to_string())
    }

    fn established(&self, site: &Site<'_>) -> Result<bool> {
        let node1 = site.settings.our_address();
        let shown = ask(site, &format!("show bgp neighbors {node1} json"))?;
        let state = shown.get(&node1).and_then(|peer| peer.get("bgpState"));
        Ok(state.and_then(Value::as_str) == Some("Established"))
    }

    fn ask_refresh(&self, site: &Site<'_>) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            let command = format!(
                "clear bgp {family} unicast {} soft in",
                site.settings.our_address()
            );
            site.container()?.run(&["vtysh", "-c", &command])?;
        }
        Ok(())
    }

    fn shut_down(&self, site: &Site<'_>, words: &str) -> Result<()> {
        let settings = site.settings;
        site.container()?.vtysh_configure(&[
            &format!("router bgp {}", settings.their_as),
            &format!(
                "neighbor {} shutdown message {words}",
                settings.our_address()
            ),
        ])
    }

    fn log(&self, site: &Site<'_>) -> Result<String> {
        let log = site.read(LOG)?;
        ensure!(!log.is_empty(), "its log is empty");
        Ok(log)
    }
}
