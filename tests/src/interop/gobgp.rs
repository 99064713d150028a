//! GoBGP: what it originates is told to it by its command.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::Value;

use super::away::Ended;
use super::settings::{Feature, KEY, LIMIT, SOURCES, THEIRS};
use super::speaker::{Learned, Marks, Site, Speaker, is_ipv6, own_next_hop, two_paths};
use crate::byhand::Peer;
use crate::scene::Transport;
use crate::wait::eventually;

const CONFIGURATION: &str = "/etc/gobgpd.toml";
/// The hold time of speakers by hand, who send no keepalives, seconds. Without one (0) its writes run out of time on the spot.
const HOLD: u16 = 3600;
const START: Duration = Duration::from_secs(60);

pub(super) struct GoBgp;

/// A neighbour with its families.
fn neighbor(site: &Site<'_>, address: &str, asn: u32, more: &str, of_family: &str) -> String {
    let mut text = format!(
        "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = {asn}\n{more}"
    );
    let families = if site.settings.has(Feature::OnlyIPv4) {
        &["ipv4-unicast"][..]
    } else {
        &["ipv4-unicast", "ipv6-unicast"]
    };
    for family in families {
        let _ = write!(
            text,
            "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}\"\n{of_family}"
        );
    }
    text
}

fn configuration(site: &Site<'_>) -> String {
    use Feature::{
        AddPathReceive, AddPathSend, GracefulRestart, Gtsm, LongLived, MaxPrefixes,
        NotificationRestart, Password,
    };
    let settings = site.settings;
    let has = |feature| settings.has(feature);
    let restarts = has(GracefulRestart) || has(LongLived);
    let mut more = String::new();
    if has(Password) {
        let _ = writeln!(more, "    auth-password = \"{KEY}\"");
    }
    let _ = write!(
        more,
        "  [neighbors.timers.config]\n    connect-retry = 1\n    idle-hold-time-after-reset = 1\n  [neighbors.transport.config]\n    local-address = \"{}\"\n",
        settings.their_address()
    );
    if has(Gtsm) {
        more += "  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n";
    }
    if restarts {
        let _ = write!(
            more,
            "  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = {}\n    deferral-time = 5\n    notification-enabled = {}\n    long-lived-enabled = {}\n",
            settings.restart_seconds(),
            has(NotificationRestart),
            has(LongLived)
        );
    }
    let mut of_family = String::new();
    if restarts {
        of_family += "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n";
    }
    if has(LongLived) {
        of_family += "    [neighbors.afi-safis.long-lived-graceful-restart.config]\n      enabled = true\n      restart-time = 3600\n";
    }
    if has(AddPathReceive) || has(AddPathSend) {
        let _ = write!(
            of_family,
            "    [neighbors.afi-safis.add-paths.config]\n      receive = {}\n      send-max = {}\n",
            has(AddPathReceive),
            if has(AddPathSend) { 8 } else { 0 }
        );
    }
    if has(MaxPrefixes) {
        let _ = write!(
            of_family,
            "    [neighbors.afi-safis.prefix-limit.config]\n      max-prefixes = {LIMIT}\n"
        );
    }
    let mut text = format!(
        "[global.config]\n  as = {}\n  router-id = \"10.0.0.51\"\n",
        settings.their_as
    );
    text += &neighbor(
        site,
        &settings.our_address(),
        settings.our_as,
        &more,
        &of_family,
    );
    if has(AddPathSend) {
        for (address, asn) in SOURCES {
            let passive = format!(
                "  [neighbors.timers.config]\n    hold-time = {HOLD}\n  [neighbors.transport.config]\n    passive-mode = true\n"
            );
            text += &neighbor(site, address, asn, &passive, "");
        }
    }
    text
}

fn gobgp(site: &Site<'_>, words: &[&str]) -> Result<String> {
    let mut all = vec!["gobgp"];
    all.extend(words);
    site.container()?.run(&all)
}

/// One call of its command for each of these lines, one after the other.
fn each(site: &Site<'_>, lines: &str) -> Result<()> {
    site.write("/tmp/lines", lines)?;
    site.container()?
        .sh("set -e; while read -r line; do gobgp global rib $line; done </tmp/lines")
        .map(drop)
}

fn family(prefix: &str) -> &'static str {
    if is_ipv6(prefix) { "ipv6" } else { "ipv4" }
}

impl Speaker for GoBgp {
    fn name(&self) -> &'static str {
        "GoBGP"
    }

    fn version(&self) -> [&'static str; 2] {
        ["gobgpd", "--version"]
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::TwoOctetAs => Some("it always offers four-octet AS numbers"),
            Feature::ExtendedMessage => Some("it does not know RFC 8654"),
            Feature::EnhancedRefresh => Some("it does not know RFC 7313"),
            Feature::Bfd => Some("it has no BFD"),
            _ => None,
        }
    }

    fn forgets(&self, ended: Ended) -> Option<&'static str> {
        (ended == Ended::Them(SIGTERM))
            .then_some("it takes leave with a NOTIFICATION, which RFC 4724 lets nothing outlive")
    }

    fn tells_late(&self) -> Option<&'static str> {
        Some(
            "what it originates is told to it once it runs, and its End-of-RIB does not wait for that: its routes may be gone for a moment when it is back",
        )
    }

    fn start(&self, site: &Site<'_>, prefixes: &[&str]) -> Result<()> {
        site.write(CONFIGURATION, &configuration(site))?;
        let mut words = vec!["gobgpd", "-f", CONFIGURATION];
        if site.settings.is_graceful() {
            // It comes back from a restart, and waits with its End-of-RIB. To a peer without graceful restart it would tell nothing at all.
            words.push("-r");
        }
        site.spawn(&words)?;
        eventually(START, "gobgpd answers", || {
            gobgp(site, &["neighbor", &site.settings.our_address(), "-j"]).map(drop)
        })?;
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        self.originate(site, &prefixes, Marks::None)
    }

    fn originate(&self, site: &Site<'_>, prefixes: &[String], marks: Marks) -> Result<()> {
        let with = match marks {
            Marks::None => "",
            Marks::Communities => " community 65051:7 rt 65051:7 large-community 65051:1:2",
        };
        let line = |prefix: &String| {
            let hop = if site.settings.has(Feature::ExtendedNextHop) {
                "fd00:10::51".to_owned()
            } else {
                own_next_hop(prefix)
            };
            let family = family(prefix);
            format!("add {prefix} nexthop {hop}{with} -a {family}\n")
        };
        each(site, &prefixes.iter().map(line).collect::<String>())
    }

    fn many(&self) -> (u16, Option<&'static str>) {
        (50, Some("100 of them: its command takes them one by one"))
    }

    fn withdraw(&self, site: &Site<'_>, prefixes: &[String]) -> Result<()> {
        let line = |prefix: &String| format!("del {prefix} -a {}\n", family(prefix));
        each(site, &prefixes.iter().map(line).collect::<String>())
    }

    fn learned(&self, site: &Site<'_>) -> Result<Learned> {
        let node1 = site.settings.our_address();
        let mut learned = Learned::new();
        for family in ["ipv4", "ipv6"] {
            // Its Adj-RIB-In cannot be asked for while the session is down.
            let text = gobgp(site, &["global", "rib", "-a", family, "-j"])?;
            let table: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            for (prefix, paths) in table.as_object().into_iter().flatten() {
                for path in paths.as_array().into_iter().flatten() {
                    if path.get("neighbor-ip").and_then(Value::as_str) != Some(&node1) {
                        continue;
                    }
                    let attributes = path.get("attrs").and_then(Value::as_array);
                    let hop = attributes
                        .into_iter()
                        .flatten()
                        .find_map(|attribute| attribute.get("nexthop")?.as_str());
                    let hops = learned.entry(prefix.clone()).or_default();
                    hops.push(hop.context("no next hop")?.to_owned());
                    hops.sort();
                }
            }
        }
        Ok(learned)
    }

    fn shown(&self, site: &Site<'_>, prefix: &str) -> Result<String> {
        gobgp(site, &["global", "rib", prefix, "-a", family(prefix)])
    }

    fn established(&self, site: &Site<'_>) -> Result<bool> {
        let shown = gobgp(site, &["neighbor", &site.settings.our_address()])?;
        Ok(shown.contains("BGP state = ESTABLISHED"))
    }

    fn never_asks(&self) -> Option<&'static str> {
        Some("its softresetin goes over what it keeps, and asks nobody")
    }

    fn ask_refresh(&self, site: &Site<'_>) -> Result<()> {
        gobgp(
            site,
            &["neighbor", &site.settings.our_address(), "softresetin"],
        )
        .map(drop)
    }

    fn shut_down(&self, site: &Site<'_>, words: &str) -> Result<()> {
        let node1 = site.settings.our_address();
        // The newer word, disable, leaves the reason out.
        gobgp(site, &["neighbor", &node1, "shutdown", "--reason", words]).map(drop)
    }

    fn two_paths(&self, site: &Site<'_>, prefix: (&str, u8)) -> Result<Vec<Peer>> {
        two_paths(site.lab, &Transport::IPv4.address(THEIRS), HOLD, prefix)
    }
}
