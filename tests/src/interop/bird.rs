//! BIRD: what it originates stands in two files that its configuration includes.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal::SIGTERM;

use super::away::Ended;
use super::settings::{Feature, KEY, LIMIT, SOURCES};
use super::speaker::{Learned, Marks, Site, Speaker, by_family, is_ipv6};
use crate::wait::eventually;

const CONFIGURATION: &str = "/etc/bird.conf";
/// The static routes of either family.
const ROUTES: [&str; 2] = ["/etc/bird-routes4.conf", "/etc/bird-routes6.conf"];
const START: Duration = Duration::from_secs(60);

pub(super) struct Bird;

fn configuration(site: &Site<'_>) -> String {
    use Feature::{
        AddPathReceive, AddPathSend, Bfd, ExtendedMessage, ExtendedNextHop, GracefulRestart, Gtsm,
        HostName, LongLived, MaxPrefixes, OnlyIPv4, Password, TwoOctetAs,
    };
    let settings = site.settings;
    let has = |feature| settings.has(feature);
    let [four, six] = ROUTES;
    let mut text = format!(
        "log stderr all;\nrouter id 10.0.0.51;\nprotocol device {{}}\nprotocol static four {{ ipv4;\ninclude \"{four}\";\n}}\n\
         protocol static six {{ ipv6;\ninclude \"{six}\";\n}}\n"
    );
    if has(Bfd) {
        text += "protocol bfd { interface \"*\" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }\n";
    }
    if has(AddPathSend) {
        for (address, asn) in SOURCES {
            let _ = writeln!(
                text,
                "protocol bgp {{ local 10.0.0.51 as {}; neighbor {address} as {asn}; passive on; ipv4 {{ import all; export none; }}; }}",
                settings.their_as
            );
        }
    }
    let _ = write!(
        text,
        "protocol bgp ours {{\n\tlocal {} as {};\n\tneighbor {} as {};\n\tdirect;\n\tconnect delay time 1; error wait time 1, 2;\n",
        settings.their_address(),
        settings.their_as,
        settings.our_address(),
        settings.our_as
    );
    if has(GracefulRestart) || has(LongLived) {
        let _ = writeln!(
            text,
            "\tgraceful restart on; graceful restart time {};",
            settings.restart_seconds()
        );
    } else {
        text += "\tgraceful restart off;\n";
    }
    for (feature, line) in [
        (
            LongLived,
            "long lived graceful restart on; long lived stale time 3600;".to_owned(),
        ),
        (Password, format!("password \"{KEY}\";")),
        (Gtsm, "ttl security on;".into()),
        (TwoOctetAs, "enable as4 off;".into()),
        (ExtendedMessage, "enable extended messages on;".into()),
        (HostName, "advertise hostname on;".into()),
        (Bfd, "bfd on;".into()),
    ] {
        if has(feature) {
            let _ = writeln!(text, "\t{line}");
        }
    }
    if !has(LongLived) {
        text += "\tlong lived graceful restart off;\n";
    }
    let export = if has(AddPathSend) {
        "export where source = RTS_STATIC || source = RTS_BGP;"
    } else {
        "export where source = RTS_STATIC;"
    };
    let paths = match (has(AddPathSend), has(AddPathReceive)) {
        (true, true) => "add paths on;",
        (true, false) => "add paths tx;",
        (false, true) => "add paths rx;",
        (false, false) => "",
    };
    let limit = if has(MaxPrefixes) {
        format!("receive limit {LIMIT} action disable;")
    } else {
        String::new()
    };
    let next_hop = if has(ExtendedNextHop) {
        "extended next hop on;".to_owned()
    } else {
        "next hop address 10.0.0.51;".to_owned()
    };
    let _ = writeln!(
        text,
        "\tipv4 {{ import all; {export} {next_hop} {paths} {limit} }};"
    );
    if !has(OnlyIPv4) {
        let _ = writeln!(
            text,
            "\tipv6 {{ import all; {export} next hop address fd00:10::51; {paths} {limit} }};"
        );
    }
    text + "}\n"
}

impl Speaker for Bird {
    fn name(&self) -> &'static str {
        "BIRD"
    }

    fn version(&self) -> [&'static str; 2] {
        ["bird", "--version"]
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::NotificationRestart => Some("it does not know RFC 8538"),
            _ => None,
        }
    }

    fn forgets(&self, ended: Ended) -> Option<&'static str> {
        (ended == Ended::Them(SIGTERM))
            .then_some("it takes leave with a NOTIFICATION, which RFC 4724 lets nothing outlive")
    }

    fn start(&self, site: &Site<'_>, prefixes: &[&str]) -> Result<()> {
        for (file, six) in ROUTES.iter().zip([false, true]) {
            let of_family = prefixes.iter().filter(|prefix| is_ipv6(prefix) == six);
            let lines = of_family.map(|prefix| format!("route {prefix} blackhole;\n"));
            site.write(file, &lines.collect::<String>())?;
        }
        site.write(CONFIGURATION, &configuration(site))?;
        site.container()?.sh("rm -f /run/bird/bird.ctl")?;
        let mut words = vec!["bird", "-f", "-c", CONFIGURATION];
        if site.settings.has(Feature::GracefulRestart) {
            words.push("-R");
        }
        site.spawn(&words)?;
        eventually(START, "BIRD answers", || {
            site.container()?.birdc("show status").map(drop)
        })
    }

    fn originate(&self, site: &Site<'_>, prefixes: &[String], marks: Marks) -> Result<()> {
        let with = match marks {
            Marks::None => ";",
            Marks::Communities => {
                " { bgp_community.add((65051, 7)); bgp_ext_community.add((rt, 65051, 7)); bgp_large_community.add((65051, 1, 2)); };"
            }
        };
        for (file, prefixes) in ROUTES.iter().zip(by_family(prefixes)) {
            let mut text = site.read(file)?;
            for prefix in prefixes {
                let _ = writeln!(text, "route {prefix} blackhole{with}");
            }
            site.write(file, &text)?;
        }
        site.container()?.birdc("configure").map(drop)
    }

    fn withdraw(&self, site: &Site<'_>, prefixes: &[String]) -> Result<()> {
        for (file, gone) in ROUTES.iter().zip(by_family(prefixes)) {
            let stays = |line: &&str| {
                let prefix = line.split_whitespace().nth(1).unwrap_or_default();
                !gone.contains(&prefix)
            };
            let text: String = site
                .read(file)?
                .lines()
                .filter(stays)
                .map(|line| format!("{line}\n"))
                .collect();
            site.write(file, &text)?;
        }
        site.container()?.birdc("configure").map(drop)
    }

    fn learned(&self, site: &Site<'_>) -> Result<Learned> {
        let shown = site.container()?.birdc("show route protocol ours all")?;
        let mut learned = Learned::new();
        let mut prefix = String::new();
        for line in shown.lines() {
            if let Some(hop) = line.trim().strip_prefix("BGP.next_hop: ") {
                let hops = learned.entry(prefix.clone()).or_default();
                hops.push(hop.split(' ').next().context("no next hop")?.to_owned());
                hops.sort();
            } else if !line.starts_with([' ', '\t']) && line.contains('/') {
                line.split(' ')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut prefix);
            }
        }
        Ok(learned)
    }

    fn shown(&self, site: &Site<'_>, prefix: &str) -> Result<String> {
        site.container()?.birdc(&format!("show route all {prefix}"))
    }

    fn established(&self, site: &Site<'_>) -> Result<bool> {
        let shown = site.container()?.birdc("show protocols ours")?;
        Ok(shown.contains("Established"))
    }

    fn ask_refresh(&self, site: &Site<'_>) -> Result<()> {
        site.container()?.birdc("reload in ours").map(drop)
    }

    fn shut_down(&self, site: &Site<'_>, words: &str) -> Result<()> {
        // What stands in quotes is one word for birdc too.
        let line = format!("disable ours \"{words}\"");
        site.container()?.run(&["birdc", &line]).map(drop)
    }
}
