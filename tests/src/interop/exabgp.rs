//! ExaBGP: it speaks only what a process tells it, and hands that process what it hears: here two files.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::away::Ended;
use super::settings::{Feature, KEY};
use super::speaker::{Learned, Marks, Site, Speaker, own_next_hop};
use crate::byhand::Peer;
use crate::wait::eventually;

const CONFIGURATION: &str = "/etc/exabgp/lab.conf";
const SAY: &str = "/tmp/say";
const HEARD: &str = "/tmp/heard";
const START: Duration = Duration::from_secs(60);

pub(super) struct ExaBgp;

fn configuration(site: &Site<'_>) -> String {
    use Feature::{
        AddPathReceive, AddPathSend, ExtendedMessage, ExtendedNextHop, GracefulRestart, Gtsm,
        HostName, OnlyIPv4, Password, TwoOctetAs,
    };
    let settings = site.settings;
    let has = |feature| settings.has(feature);
    let word = |on| if on { "enable" } else { "disable" };
    let mut text = format!(
        "process lab {{\n\trun /bin/sh -c \"exec 3<&0; cat <&3 >>{HEARD} & exec tail -n +1 -F {SAY}\";\n\tencoder json;\n}}\n\
         neighbor {} {{\n\tlocal-address {};\n\tlocal-as {};\n\tpeer-as {};\n\trouter-id 10.0.0.51;\n\tpassive {};\n",
        settings.our_address(),
        settings.their_address(),
        settings.their_as,
        settings.our_as,
        // Where it listens it answers with a TTL of its own choice.
        !has(Gtsm)
    );
    for (feature, line) in [
        (Password, format!("md5-password \"{KEY}\";")),
        (Gtsm, "outgoing-ttl 255;\n\tincoming-ttl 255;".into()),
        (HostName, "host-name exabgp;\n\tdomain-name lab;".into()),
    ] {
        if has(feature) {
            let _ = writeln!(text, "\t{line}");
        }
    }
    let six = if has(OnlyIPv4) { "" } else { " ipv6 unicast;" };
    let _ = writeln!(text, "\tfamily {{ ipv4 unicast;{six} }}");
    let paths = match (has(AddPathSend), has(AddPathReceive)) {
        (true, true) => "send/receive",
        (true, false) => "send",
        (false, true) => "receive",
        (false, false) => "disable",
    };
    let restart = if has(GracefulRestart) {
        settings.restart_seconds().to_string()
    } else {
        "disable".to_owned()
    };
    let _ = writeln!(
        text,
        "\tcapability {{ add-path {paths}; asn4 {}; graceful-restart {restart}; multi-session disable; operational disable; aigp disable;\n\t\t\
         route-refresh enable; extended-message {}; nexthop {}; }}",
        word(!has(TwoOctetAs)),
        word(has(ExtendedMessage)),
        word(has(ExtendedNextHop))
    );
    if has(ExtendedNextHop) {
        text += "\tnexthop { ipv4 unicast ipv6; }\n";
    }
    text + "\tapi { processes [ lab ]; neighbor-changes; receive { parsed; update; open; notification; refresh; } }\n}\n"
}

/// What has it announce a prefix.
fn announced(site: &Site<'_>, prefix: &str, with: &str) -> String {
    let hop = if site.settings.has(Feature::ExtendedNextHop) {
        "fd00:10::51".to_owned()
    } else {
        own_next_hop(prefix)
    };
    format!("announce route {prefix} next-hop {hop}{with}\n")
}

/// Has it say something.
fn say(site: &Site<'_>, lines: &str) -> Result<()> {
    let mut file = std::fs::File::options()
        .append(true)
        .open(site.container()?.path(SAY))?;
    Ok(file.write_all(lines.as_bytes())?)
}

/// What it has heard, event after event; a line that is not whole yet is left out, and so is a refresh, which it does not write as JSON.
fn heard(site: &Site<'_>) -> Result<Vec<Value>> {
    let text = site.read(HEARD)?;
    let whole = text
        .rfind('\n')
        .map_or("", |end| text.get(..end).unwrap_or_default());
    whole
        .lines()
        .filter(|line| !line.contains("\"type\": \"refresh\""))
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

fn is_state(event: &Value, state: &str) -> bool {
    event.pointer("/neighbor/state") == Some(&state.into())
}

/// The prefix of an announced or withdrawn route.
fn prefix(route: &Value) -> Option<String> {
    Some(route.get("nlri")?.as_str()?.to_owned())
}

/// A prefix and, where there is one, its path identifier.
fn key(route: &Value) -> Option<(String, String)> {
    let path = route.get("path-information").and_then(Value::as_str);
    Some((prefix(route)?, path.unwrap_or_default().to_owned()))
}

impl Speaker for ExaBgp {
    fn name(&self) -> &'static str {
        "ExaBGP"
    }

    fn version(&self) -> [&'static str; 2] {
        ["exabgp", "--version"]
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::NotificationRestart => Some("it does not know RFC 8538"),
            Feature::LongLived => Some("it does not know RFC 9494"),
            Feature::MaxPrefixes => Some("it counts no prefixes"),
            Feature::HostName => Some("it takes a host name in its configuration, and sends none"),
            Feature::Bfd => Some("it has no BFD"),
            _ => None,
        }
    }

    fn misreads_words(&self) -> Option<(&'static str, &'static str)> {
        Some((
            "can not decode update message of type",
            "its reader of shutdown communications fails in itself (octets and text in one format), and it answers 1/0",
        ))
    }

    fn forgets(&self, ended: Ended) -> Option<&'static str> {
        matches!(ended, Ended::Us(_))
            .then_some("it keeps no table: what it hands on ends with the session")
    }

    fn tells_late(&self) -> Option<&'static str> {
        Some(
            "what it originates is told to it once it runs, and its End-of-RIB does not wait for that: its routes may be gone for a moment when it is back",
        )
    }

    fn start(&self, site: &Site<'_>, prefixes: &[&str]) -> Result<()> {
        site.container()?.run(&["mkdir", "-p", "/etc/exabgp"])?;
        let lines = prefixes.iter().map(|prefix| announced(site, prefix, ""));
        site.write(SAY, &lines.collect::<String>())?;
        site.write(HEARD, "")?;
        site.write(CONFIGURATION, &configuration(site))?;
        let before = site.said().len();
        let listen = format!("exabgp.tcp.bind={}", site.settings.their_address());
        site.spawn(&[
            "env",
            "exabgp.daemon.user=root",
            &listen,
            "exabgp.api.cli=false",
            "exabgp.api.ack=false",
            "exabgp.log.level=INFO",
            "exabgp",
            CONFIGURATION,
        ])?;
        eventually(START, "ExaBGP is ready", || {
            let said = site.said();
            let new = said.get(before..).unwrap_or_default();
            ensure!(new.contains("loaded new configuration"), "{new}");
            Ok(())
        })
    }

    fn originate(&self, site: &Site<'_>, prefixes: &[String], marks: Marks) -> Result<()> {
        let with = match marks {
            Marks::None => "",
            Marks::Communities => {
                " community [65051:7] extended-community [target:65051:7] large-community [65051:1:2]"
            }
        };
        let line = |prefix: &String| announced(site, prefix, with);
        say(site, &prefixes.iter().map(line).collect::<String>())
    }

    fn withdraw(&self, site: &Site<'_>, prefixes: &[String]) -> Result<()> {
        let line = |prefix: &String| {
            format!(
                "withdraw route {prefix} next-hop {}\n",
                own_next_hop(prefix)
            )
        };
        say(site, &prefixes.iter().map(line).collect::<String>())
    }

    fn learned(&self, site: &Site<'_>) -> Result<Learned> {
        let mut known = std::collections::BTreeMap::new();
        for event in heard(site)? {
            if is_state(&event, "down") {
                known.clear();
            }
            let Some(update) = event.pointer("/neighbor/message/update") else {
                continue;
            };
            let families = update.get("announce").and_then(Value::as_object);
            for (hop, routes) in families
                .into_iter()
                .flatten()
                .filter_map(|(_, hops)| hops.as_object())
                .flatten()
            {
                for key in routes.as_array().into_iter().flatten().filter_map(key) {
                    // A link-local address beside the global one is listed as a next hop of its own.
                    known.entry(key).or_insert_with(|| hop.clone());
                }
            }
            let families = update.get("withdraw").and_then(Value::as_object);
            for routes in families
                .into_iter()
                .flatten()
                .filter_map(|(_, routes)| routes.as_array())
            {
                for key in routes.iter().filter_map(key) {
                    known.remove(&key);
                }
            }
        }
        let mut learned = Learned::new();
        for ((prefix, _), hop) in known {
            let hops = learned.entry(prefix).or_default();
            hops.push(hop);
            hops.sort();
        }
        Ok(learned)
    }

    fn shown(&self, site: &Site<'_>, prefix: &str) -> Result<String> {
        let lines = site.read(HEARD)?;
        let last = lines
            .lines()
            .rfind(|line| line.contains(&format!("\"{prefix}\"")));
        last.map(str::to_owned)
            .with_context(|| format!("it has not heard of {prefix}"))
    }

    fn established(&self, site: &Site<'_>) -> Result<bool> {
        let events = heard(site)?;
        let last = events
            .iter()
            .rfind(|event| event.pointer("/neighbor/state").is_some());
        Ok(last.is_some_and(|event| is_state(event, "up")))
    }

    fn ask_refresh(&self, site: &Site<'_>) -> Result<()> {
        say(
            site,
            "announce route-refresh ipv4 unicast\nannounce route-refresh ipv6 unicast\n",
        )
    }

    fn shut_down(&self, site: &Site<'_>, _words: &str) -> Result<()> {
        say(
            site,
            &format!("neighbor {} teardown 2\n", site.settings.our_address()),
        )
    }

    fn log(&self, site: &Site<'_>) -> Result<String> {
        Ok(site.said() + &site.read(HEARD)?)
    }

    fn two_paths(&self, site: &Site<'_>, (address, length): (&str, u8)) -> Result<Vec<Peer>> {
        say(
            site,
            &format!(
                "announce route {address}/{length} next-hop 10.0.0.51 path-information 0.0.0.1\n\
                 announce route {address}/{length} next-hop 10.0.200.61 path-information 0.0.0.2\n"
            ),
        )?;
        Ok(Vec::new())
    }
}
