//! [`Desired`] to look at: what `check --show` prints and what the cases of `tests/desired` compare. Passwords stay hidden.

use std::collections::BTreeMap;

use bgp::{
    bmp::{View, Views},
    config::{
        CollectorConfig, CommunityValue, Connect, MrtConfig, OverLimit, Password, PeerAsn,
        PeerConfig, Policy, Rule, Set, SpeakerConfig, Ttl, Verdict,
    },
    owners::Claimed,
    prefix::Families,
};
use serde_json::{Map, Value, json};

use super::Desired;
use crate::crd::value::CommunityText;

/// Everything in it, defaults left out.
pub(crate) fn view(desired: &Desired) -> Value {
    let mut all = Map::new();
    all.insert("speaker".into(), speaker(&desired.speaker));
    all.insert("policies".into(), policies(&desired.speaker));
    all.insert(
        "kernel".into(),
        desired
            .fib
            .as_ref()
            .map_or("nothing is installed".into(), kernel),
    );
    if let Some(cni) = &desired.cni {
        all.insert(
            "cni".into(),
            json!({"path": cni.path, "content": cni.content}),
        );
    }
    let problems: Vec<String> = desired.problems.iter().map(ToString::to_string).collect();
    all.insert("problems".into(), json!(problems));
    all.into()
}

fn speaker(config: &SpeakerConfig) -> Value {
    let originate: BTreeMap<String, String> = config
        .originate
        .iter()
        .map(|(prefix, what)| {
            let mut text = format!("{:?}", what.source);
            if let Some(peers) = &what.peers {
                let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
                text.push_str(&format!(" to {}", peers.join(", ")));
            }
            text.push_str(&set(&what.set));
            for (peers, other) in &what.others {
                let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
                text.push_str(&format!("; to {}{}", peers.join(", "), set(other)));
            }
            (prefix.to_string(), text)
        })
        .collect();
    let peers: BTreeMap<&String, Value> = config
        .peers
        .iter()
        .map(|(name, config)| (name, peer(config)))
        .collect();
    let ranges: BTreeMap<&String, Value> = config
        .ranges
        .iter()
        .map(|(name, range)| {
            let mut value = peer(&range.peer);
            if let Some(value) = value.as_object_mut() {
                value.insert("address".into(), range.range.to_string().into());
            }
            (name, value)
        })
        .collect();
    let mut all = json!({
        "asn": config.asn,
        "routerID": config.router_id.to_string(),
        "listen": config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "originate": originate,
        "peers": peers,
    });
    if let Some(all) = all.as_object_mut() {
        if config.cluster_id != config.router_id {
            all.insert("clusterID".into(), config.cluster_id.to_string().into());
        }
        if !ranges.is_empty() {
            all.insert("ranges".into(), json!(ranges));
        }
        if config.multipath.max_paths != 16 {
            all.insert("maxPaths".into(), config.multipath.max_paths.into());
        }
        let owners: BTreeMap<String, String> = config.owners.claims().map(claim).collect();
        if !owners.is_empty() {
            all.insert("owners".into(), json!(owners));
        }
        if config.draining {
            all.insert("draining".into(), true.into());
        }
        let collectors: BTreeMap<&String, String> = config
            .collectors
            .iter()
            .map(|(name, one)| (name, collector(one)))
            .collect();
        if !collectors.is_empty() {
            all.insert("bmp".into(), json!(collectors));
        }
        if let Some(mrt) = &config.mrt {
            all.insert("mrt".into(), files(mrt).into());
        }
    }
    all
}

fn collector(collector: &CollectorConfig) -> String {
    let mut text = format!("{}, {}", collector.address, views(collector.views));
    if let Some(statistics) = collector.statistics {
        text.push_str(&format!(", statistics every {} s", statistics.as_secs()));
    }
    text
}

fn views(views: Views) -> &'static str {
    match (views.has(View::PrePolicy), views.has(View::PostPolicy)) {
        (true, true) => "before and after policy",
        (true, false) => "before policy",
        (false, true) => "after policy",
        (false, false) => "no routes",
    }
}

fn files(mrt: &MrtConfig) -> String {
    let mut text = mrt.directory.display().to_string();
    if let Some(updates) = mrt.updates {
        text.push_str(&format!(", updates by {} s", updates.as_secs()));
    }
    if let Some(table) = mrt.table {
        text.push_str(&format!(", table every {} s", table.as_secs()));
    }
    text
}

/// A prefix and whose it is.
fn claim(claimed: Claimed<'_>) -> (String, String) {
    match claimed {
        Claimed::By { prefix, owner } if owner.forwards => {
            (prefix.to_string(), format!("{owner}, forwards for others"))
        }
        Claimed::By { prefix, owner } => (prefix.to_string(), owner.to_string()),
        Claimed::ByNobody { prefix, why } => (prefix.to_string(), format!("nobody: {why}")),
    }
}

fn peer(peer: &PeerConfig) -> Value {
    let mut all = Map::new();
    let mut say = |key: &str, value: Value| all.insert(key.to_owned(), value);
    let interface = peer
        .interface
        .as_ref()
        .map(|interface| format!("%{interface}"));
    say(
        "address",
        format!("{}{}", peer.address, interface.unwrap_or_default()).into(),
    );
    if let Some(known) = &peer.unnumbered {
        let note = known.note.as_deref();
        say("unnumbered", note.map_or(true.into(), Into::into));
    }
    say(
        "asn",
        match peer.asn {
            PeerAsn::Number(asn) => asn.into(),
            word => format!("{word:?}").into(),
        },
    );
    say("localASN", peer.local_asn.into());
    if let Some(source) = peer.source {
        say("source", source.to_string().into());
    }
    say(
        "connect",
        match peer.connect {
            Connect::Dial => "dial".into(),
            Connect::After(wait) => format!("after {} s", wait.as_secs()).into(),
            Connect::Passive => "passive".into(),
        },
    );
    say(
        "ttl",
        match peer.ttl {
            Ttl::Send(ttl) => ttl.into(),
            Ttl::Security(hops) => format!("security, {hops} hops").into(),
        },
    );
    match &peer.password {
        Password::None => None,
        Password::Key(key) => {
            let previous = key.previous.as_ref();
            let previous = previous.map(|key| format!(", before {} octets", key.len()));
            let text = format!(
                "{} octets{}",
                key.current.len(),
                previous.unwrap_or_default()
            );
            say("password", text.into())
        }
        Password::Ao(keys) => {
            let keys = keys.iter().map(|key| {
                let (send, receive, octets) = (key.send_id, key.receive_id, key.secret.len());
                format!(
                    "{} (send {send}, receive {receive}), {octets} octets",
                    key.algorithm
                )
            });
            say("tcpAO", keys.collect::<Vec<_>>().into())
        }
        Password::Missing(why) => say("password", format!("missing: {why}").into()),
    };
    let timers = &peer.timers;
    let seconds = [
        timers.connect_retry,
        timers.hold,
        timers.keepalive,
        timers.idle_hold_max,
    ]
    .map(|time| time.as_secs());
    if seconds != [5, 90, 30, 60] {
        let [retry, hold, keepalive, idle] = seconds;
        say(
            "timers",
            format!("retry {retry}, hold {hold}, keepalive {keepalive}, idle {idle}").into(),
        );
    }
    if peer.families != Families::all() {
        let families: Vec<String> = peer
            .families
            .each()
            .map(|family| family.to_string())
            .collect();
        say("families", families.join(", ").into());
    }
    say(
        "gracefulRestart",
        peer.graceful_restart.map_or("off".into(), |restart| {
            let mut text = format!("{} s", restart.restart_time);
            if restart.notification {
                text.push_str(", notification");
            }
            if restart.long_lived > 0 {
                text.push_str(&format!(", long-lived {} s", restart.long_lived));
            }
            if restart.restarted {
                text.push_str(", restarted");
            }
            text.into()
        }),
    );
    let ours = &peer.next_hop_addresses;
    let ours: Vec<String> = [
        ours.v4.map(|a| a.to_string()),
        ours.v6.map(|a| a.to_string()),
    ]
    .map(|address| address.unwrap_or_else(|| "session".into()))
    .into();
    say(
        "nextHop",
        format!("{:?}: {}", peer.next_hop, ours.join(", ")).into(),
    );
    say(
        "maxPrefixes",
        match peer.max_prefixes.action {
            OverLimit::Warn => format!("{}, warn", peer.max_prefixes.count).into(),
            OverLimit::Shutdown(_) => peer.max_prefixes.count.into(),
        },
    );
    say("import", peer.import.name.clone().into());
    if let Some(export) = &peer.export {
        say("export", export.name.clone().into());
    }
    for (flag, set) in [
        ("extendedNextHop", peer.extended_next_hop),
        ("routeReflectorClient", peer.route_reflector_client),
        ("mesh", peer.mesh),
    ] {
        if set {
            say(flag, true.into());
        }
    }
    if peer.port != 179 {
        say("port", peer.port.into());
    }
    if let Some(bfd) = &peer.bfd {
        let (rx, tx) = (bfd.min_rx.as_millis(), bfd.min_tx.as_millis());
        let text = format!(
            "rx {rx} ms, tx {tx} ms × {}, {:?}",
            bfd.multiplier, bfd.hops
        );
        say("bfd", text.into());
    }
    if peer.allow_own_as > 0 {
        say("allowOwnAS", peer.allow_own_as.into());
    }
    if peer.add_path.receive || peer.add_path.send_max > 0 {
        say(
            "addPath",
            format!(
                "receive {}, send {}",
                peer.add_path.receive, peer.add_path.send_max
            )
            .into(),
        );
    }
    if let Some(message) = &peer.shutdown {
        say("shutdown", message.clone().into());
    }
    all.into()
}

/// Every policy in use by name, a line a rule.
fn policies(config: &SpeakerConfig) -> Value {
    let ranges = config.ranges.values().map(|range| &range.peer);
    let mut all = BTreeMap::new();
    for peer in config.peers.values().chain(ranges) {
        for policy in [Some(&peer.import), peer.export.as_ref()]
            .into_iter()
            .flatten()
        {
            all.entry(policy.name.clone())
                .or_insert_with(|| lines(policy));
        }
    }
    json!(all)
}

/// A policy in words, a line a rule.
pub(crate) fn lines(policy: &Policy) -> Vec<String> {
    let last = match policy.default {
        Verdict::Accept => "otherwise accept",
        Verdict::Reject => "otherwise reject",
    };
    policy
        .rules
        .iter()
        .map(line)
        .chain([last.to_owned()])
        .collect()
}

fn line(rule: &Rule) -> String {
    let mut text = match rule.verdict {
        Some(Verdict::Accept) => "accept",
        Some(Verdict::Reject) => "reject",
        None => "continue with",
    }
    .to_owned();
    let matches = &rule.matches;
    let mut conditions = Vec::new();
    let prefixes: Vec<String> = matches
        .prefixes
        .iter()
        .map(|range| match (range.min_length, range.max_length) {
            (min, max) if min == max && min == range.prefix.length() => range.prefix.to_string(),
            (min, max) => format!("{} lengths {min}–{max}", range.prefix),
        })
        .collect();
    if !prefixes.is_empty() {
        conditions.push(prefixes.join(" or "));
    }
    conditions.extend(matches.family.map(|family| family.to_string()));
    if !matches.communities.is_empty() {
        conditions.push(format!("community {}", communities(&matches.communities)));
    }
    conditions.extend(
        matches
            .as_path
            .as_ref()
            .map(|regex| format!("AS path {:?}", regex.0.as_str())),
    );
    if !matches.next_hops.is_empty() {
        let hops: Vec<String> = matches.next_hops.iter().map(ToString::to_string).collect();
        conditions.push(format!("next hop {}", hops.join(" or ")));
    }
    conditions.extend(matches.source.map(|source| format!("origin {source:?}")));
    text.push(' ');
    text.push_str(&if conditions.is_empty() {
        "all".into()
    } else {
        conditions.join(", ")
    });
    text.push_str(&set(&rule.set));
    text
}

fn communities(values: &[CommunityValue]) -> String {
    let texts: Vec<String> = values
        .iter()
        .map(|value| CommunityText(*value).to_string())
        .collect();
    texts.join(" ")
}

fn set(set: &Set) -> String {
    let mut parts = Vec::new();
    parts.extend(set.local_pref.map(|value| format!("local-pref {value}")));
    parts.extend(set.med.map(|value| format!("med {value}")));
    if !set.add_communities.is_empty() {
        parts.push(format!("+{}", communities(&set.add_communities)));
    }
    if !set.remove_communities.is_empty() {
        parts.push(format!("-{}", communities(&set.remove_communities)));
    }
    match set.prepend {
        (_, 0) => {}
        (None, count) => parts.push(format!("prepend own AS × {count}")),
        (Some(asn), count) => parts.push(format!("prepend {asn} × {count}")),
    }
    parts.extend(set.next_hop.map(|address| format!("next hop {address}")));
    if parts.is_empty() {
        String::new()
    } else {
        format!("; set {}", parts.join(", "))
    }
}

fn kernel(config: &fib::Config) -> Value {
    let texts = |cidrs: &[ipnetwork::IpNetwork]| {
        cidrs
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let allowed: Vec<String> = config
        .guard
        .allowed
        .iter()
        .map(|range| format!("{} lengths {}–{}", range.cidr, range.min_len, range.max_len))
        .collect();
    json!({
        "mark": format!("protocol {}, table {}, metric {}", config.mark.protocol, config.mark.table, config.mark.metric),
        "maxPaths": config.max_paths,
        "unresolved": format!("{:?}", config.unresolved),
        "allowed": allowed,
        "own": texts(&config.guard.own_pod_cidrs),
        "services": texts(&config.guard.service_cidrs),
        "default": config.guard.accept_default,
        "blackholes": texts(&config.blackholes),
    })
}
