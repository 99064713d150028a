//! OpenBGPD: what it originates is told to it by bgpctl.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::away::Ended;
use super::settings::{Feature, KEY, LIMIT, SOURCES};
use super::speaker::{Learned, Marks, Site, Speaker, by_family, own_next_hop};
use crate::shell;
use crate::wait::eventually;

const CONFIGURATION: &str = "/etc/bgpd.conf";
const START: Duration = Duration::from_secs(60);

pub(super) struct OpenBgpd;

fn configuration(site: &Site<'_>, prefixes: &[&str]) -> String {
    use Feature::{
        AddPathReceive, AddPathSend, EnhancedRefresh, GracefulRestart, Gtsm, MaxPrefixes, OnlyIPv4,
        Password, TwoOctetAs,
    };
    let settings = site.settings;
    let has = |feature| settings.has(feature);
    let mut text = format!(
        "AS {}\nrouter-id 10.0.0.51\nfib-update no\nconnect-retry 1\n",
        settings.their_as
    );
    for prefix in prefixes {
        let _ = writeln!(
            text,
            "network {prefix} set nexthop {}",
            own_next_hop(prefix)
        );
    }
    if has(AddPathSend) {
        for (address, asn) in SOURCES {
            let _ = writeln!(
                text,
                "neighbor {address} {{\n\tremote-as {asn}\n\tpassive\n}}"
            );
        }
    }
    let _ = writeln!(
        text,
        "neighbor {} {{\n\tremote-as {}\n\tlocal-address {}\n\tannounce IPv4 unicast",
        settings.our_address(),
        settings.our_as,
        settings.their_address()
    );
    if !has(OnlyIPv4) {
        text += "\tannounce IPv6 unicast\n";
    }
    if !has(GracefulRestart) {
        text += "\tannounce restart no\n";
    }
    for (feature, line) in [
        (Password, format!("tcp md5sig password {KEY}")),
        (Gtsm, "ttl-security yes".into()),
        (TwoOctetAs, "announce as-4byte no".into()),
        (EnhancedRefresh, "announce enhanced refresh yes".into()),
        (AddPathSend, "announce add-path send all".into()),
        (AddPathReceive, "announce add-path recv yes".into()),
        (MaxPrefixes, format!("max-prefix {LIMIT}")),
    ] {
        if has(feature) {
            let _ = writeln!(text, "\t{line}");
        }
    }
    text + "}\nallow from any\nallow to any\n"
}

fn bgpctl(site: &Site<'_>, words: &[&str]) -> Result<String> {
    let mut all = vec!["bgpctl"];
    all.extend(words);
    site.container()?.run(&all)
}

fn bulk(site: &Site<'_>, words: &[&str], prefixes: &[&str]) -> Result<()> {
    if prefixes.is_empty() {
        return Ok(());
    }
    let mut all = vec!["bgpctl", "network", "bulk"];
    all.extend(words);
    let lines: String = prefixes
        .iter()
        .map(|prefix| format!("{prefix}\n"))
        .collect();
    shell::run_with(&mut site.container()?.command(&all), &lines).map(drop)
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

impl Speaker for OpenBgpd {
    fn name(&self) -> &'static str {
        "OpenBGPD"
    }

    fn version(&self) -> [&'static str; 2] {
        ["bgpctl", "-V"]
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::NotificationRestart => Some("it does not know RFC 8538"),
            Feature::LongLived => Some("it does not know RFC 9494"),
            Feature::ExtendedMessage => Some("it does not know RFC 8654"),
            Feature::ExtendedNextHop => Some("it does not know RFC 8950"),
            Feature::HostName => Some("it names neither its host nor its version"),
            Feature::Bfd => Some("it has no BFD"),
            _ => None,
        }
    }

    fn other_family(&self) -> Option<&'static str> {
        Some(
            "its IPv6 next hop over IPv4 is ::1, its IPv4 next hop over IPv6 127.0.0.1: we leave such routes out (RFC 4271 §6.3) and keep the session",
        )
    }

    fn forgets(&self, ended: Ended) -> Option<&'static str> {
        matches!(ended, Ended::Them(_))
            .then_some("it helps others restart, and asks nobody to keep its own routes")
    }

    fn never_tells_again(&self) -> Option<(&'static str, &'static str)> {
        Some((
            "route refresh: AID IPv4 unicast not negotiated",
            "it calls the family that is asked for not negotiated, and shows it as negotiated itself",
        ))
    }

    fn start(&self, site: &Site<'_>, prefixes: &[&str]) -> Result<()> {
        // Whoever was its parent before may be dead, and the others not yet.
        eventually(START, "no bgpd is left", || {
            site.container()?.sh("! pgrep -x bgpd").map(drop)
        })?;
        site.write(CONFIGURATION, &configuration(site, prefixes))?;
        site.container()?.sh(&format!(
            "chmod 600 {CONFIGURATION}; mkdir -p /run/openbgpd; rm -f /run/openbgpd/*"
        ))?;
        site.spawn(&["bgpd", "-d", "-f", CONFIGURATION])?;
        eventually(START, "bgpd answers", || bgpctl(site, &["show"]).map(drop))
    }

    fn originate(&self, site: &Site<'_>, prefixes: &[String], marks: Marks) -> Result<()> {
        for prefixes in by_family(prefixes) {
            let Some(first) = prefixes.first() else {
                continue;
            };
            let hop = own_next_hop(first);
            let mut words = vec!["nexthop", &hop];
            if marks == Marks::Communities {
                words.extend(["community", "65051:7", "ext-community", "rt", "65051:7"]);
                words.extend(["large-community", "65051:1:2"]);
            }
            words.push("add");
            bulk(site, &words, &prefixes)?;
        }
        Ok(())
    }

    fn withdraw(&self, site: &Site<'_>, prefixes: &[String]) -> Result<()> {
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        bulk(site, &["delete"], &prefixes)
    }

    fn learned(&self, site: &Site<'_>) -> Result<Learned> {
        let node1 = site.settings.our_address();
        let shown = json(&bgpctl(
            site,
            &["-j", "show", "rib", "in", "neighbor", &node1],
        )?)?;
        let mut learned = Learned::new();
        for route in shown
            .get("rib")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |field: &str| {
                let value = route.get(field).and_then(Value::as_str);
                value
                    .map(str::to_owned)
                    .with_context(|| format!("no {field} in {route}"))
            };
            let hops = learned.entry(text("prefix")?).or_default();
            hops.push(text("exit_nexthop")?);
            hops.sort();
        }
        Ok(learned)
    }

    fn shown(&self, site: &Site<'_>, prefix: &str) -> Result<String> {
        bgpctl(site, &["show", "rib", "detail", prefix])
    }

    fn established(&self, site: &Site<'_>) -> Result<bool> {
        let shown = json(&bgpctl(
            site,
            &["-j", "show", "neighbor", &site.settings.our_address()],
        )?)?;
        Ok(shown.pointer("/neighbors/0/state") == Some(&"Established".into()))
    }

    fn ask_refresh(&self, site: &Site<'_>) -> Result<()> {
        bgpctl(site, &["neighbor", &site.settings.our_address(), "refresh"]).map(drop)
    }

    fn shut_down(&self, site: &Site<'_>, words: &str) -> Result<()> {
        bgpctl(
            site,
            &["neighbor", &site.settings.our_address(), "down", words],
        )
        .map(drop)
    }
}
