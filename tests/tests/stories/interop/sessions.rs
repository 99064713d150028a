//! How a session comes about, and what keeps it from coming about.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::byhand::{Open, Peer, Update, nlri};
use tests::interop::{Cell, Column, Feature, SOURCES, Section, Settings};
use tests::scene::{Transport, secret};
use tests::story::at;
use tests::wait::always;

pub(super) const SESSIONS: Section = Section {
    title: "Sessions",
    rows: &[
        ("eBGP over IPv4, both families", external),
        ("eBGP over IPv6, both families", over_ipv6),
        ("iBGP", internal),
        ("one family on their side only", one_family),
        ("AS numbers beyond 65535 (RFC 6793)", four_octets),
        (
            "… with a side that knows two octets only: AS_TRANS",
            two_octets,
        ),
        ("TCP MD5 (RFC 2385)", password),
        ("… with another key on our side: no session", wrong_password),
        ("GTSM (RFC 5082)", gtsm),
        ("… on our side only: no session", lonely_gtsm),
        ("BFD (RFC 5880)", bfd),
        ("shutdown communication from us (RFC 9003)", our_words),
        ("shutdown communication from them", their_words),
        ("host name in the OPEN, shown by us", host_name),
    ],
};

fn external(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external())?;
    next_hops(column)
}

/// Each family has a next hop of its own.
fn next_hops(column: &Column<'_>) -> Result<Cell> {
    let learned = column.learned()?;
    for (prefix, hop) in [
        ("10.244.1.0/24", "10.0.0.1"),
        ("fd00:10:244:1::/64", "fd00:10::1"),
    ] {
        let hops = learned.get(prefix);
        ensure!(
            hops.is_some_and(|hops| hops == &[hop]),
            "they have {learned:?}"
        );
    }
    for (prefix, hop) in [
        ("10.244.51.0/24", "10.0.0.51"),
        ("fd00:10:244:51::/64", "fd00:10::51"),
    ] {
        if !column.tells(prefix) {
            continue;
        }
        column.eventually("our kernel has their pods", || {
            let route = column.node()?.our_route(prefix)?;
            ensure!(route.gateways() == [hop], "{route:?}");
            Ok(())
        })?;
    }
    Ok(match column.speaker().other_family() {
        Some(why) if !column.site().settings.is_internal() => {
            column.recorded("in", "a next hop no host can have")?;
            Cell::word("partly").but(why)
        }
        _ => Cell::yes(),
    })
}

fn over_ipv6(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external().over(Transport::IPv6))?;
    next_hops(column)
}

fn internal(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::internal())?;
    ensure!(
        at(&column.peer()?, "/kind")? == "internal",
        "it is not internal"
    );
    next_hops(column)
}

fn one_family(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external().they(Feature::OnlyIPv4))?;
    let families = at(&column.peer()?, "/session/families")?.to_string();
    ensure!(families == r#"["IPv4"]"#, "{families}");
    Ok(Cell::yes())
}

fn four_octets(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external().we_are(4_200_000_001))?;
    let shown = column.speaker().shown(&column.site(), "10.244.1.0/24")?;
    ensure!(shown.contains("4200000001"), "{shown}");
    Ok(Cell::yes())
}

fn two_octets(column: &mut Column<'_>) -> Result<Cell> {
    if let Some(why) = column.speaker().lacks(Feature::TwoOctetAs) {
        return Ok(Cell::no(why));
    }
    let settings = Settings::external().they(Feature::TwoOctetAs);
    let settings = settings.we("export: {rules: [{action: Accept}]}");
    column.peering(settings.and_sources())?;
    ensure!(!column.offered("four-octet AS")?, "it offers four octets");
    // Someone behind us has a number that needs four.
    let (address, asn) = SOURCES[0];
    let own = address.parse()?;
    let mut source = Peer::dial(column.hands()?, address.parse()?, "10.0.0.1".parse()?)?;
    source.establish(&Open {
        hold: 0,
        ..Open::of(asn, own)
    })?;
    let update =
        Update::announcing(&[asn, 4_200_000_001], own).prefixes(&nlri("10.244.95.0".parse()?, 24));
    source.send(&update.octets())?;
    let shown = column.eventually("they have the route", || {
        let learned = column.learned()?;
        ensure!(learned.contains_key("10.244.95.0/24"), "{learned:?}");
        column.speaker().shown(&column.site(), "10.244.95.0/24")
    })?;
    // AS_TRANS, or what AS4_PATH says in its place.
    ensure!(
        shown.contains("23456") || shown.contains("4200000001"),
        "{shown}"
    );
    Ok(Cell::yes())
}

const SECRET: &str = "authSecretRef: {name: key, key: password}";

fn with_key(column: &Column<'_>, key: &str) -> Result<Settings> {
    secret(column.site().lab, "key", key)?;
    Ok(Settings::external().they(Feature::Password).we(SECRET))
}

fn password(column: &mut Column<'_>) -> Result<Cell> {
    let settings = with_key(column, tests::interop::KEY)?;
    column.peering(settings)?;
    Ok(Cell::yes())
}

/// Neither side gets through for a while in which it would have tried more than once.
fn stays_down(column: &Column<'_>) -> Result<Cell> {
    always(Duration::from_secs(4), "no session", || {
        let peer = column.peer()?;
        ensure!(at(&peer, "/establishedCount")? == 0, "{peer:#}");
        Ok(())
    })?;
    Ok(Cell::yes())
}

fn wrong_password(column: &mut Column<'_>) -> Result<Cell> {
    let settings = with_key(column, "wrong")?;
    column.arrange(settings)?;
    column.eventually("it is tried", || column.peer().map(drop))?;
    stays_down(column)
}

fn gtsm(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(
        Settings::external()
            .they(Feature::Gtsm)
            .we("ttlSecurity: 1"),
    )?;
    Ok(Cell::yes())
}

fn lonely_gtsm(column: &mut Column<'_>) -> Result<Cell> {
    column.arrange(Settings::external().we("ttlSecurity: 1"))?;
    column.eventually("it is tried", || column.peer().map(drop))?;
    stays_down(column)
}

fn bfd(column: &mut Column<'_>) -> Result<Cell> {
    if let Some(why) = column.speaker().lacks(Feature::Bfd) {
        return Ok(Cell::no(why));
    }
    column.peering(Settings::external().they(Feature::Bfd).we("bfd: {}"))?;
    column.eventually("BFD is up", || {
        let peer = column.peer()?;
        ensure!(at(&peer, "/bfd/state")? == "Up", "{peer:#}");
        ensure!(at(&peer, "/bfd/remote/state")? == "Up", "{peer:#}");
        Ok(())
    })?;
    Ok(Cell::yes())
}

const WORDS: &str = "moving to rack seven";

fn our_words(column: &mut Column<'_>) -> Result<Cell> {
    let settings = Settings::external();
    column.peering(settings.clone())?;
    let down = settings.we(&format!("shutdown: {{message: {WORDS}}}"));
    column.tell_us(&down.manifest(&column.name()))?;
    column.eventually("they see the end", || {
        ensure!(!column.speaker().established(&column.site())?, "still up");
        Ok(())
    })?;
    Ok(match column.speaker().misreads_words() {
        Some((complaint, why)) => {
            column.they_say(complaint)?;
            Cell::no(why)
        }
        None => {
            column.they_say(WORDS)?;
            Cell::yes()
        }
    })
}

fn their_words(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external())?;
    column.speaker().shut_down(&column.site(), WORDS)?;
    let error = column.eventually("we see the end", || {
        // Some are back at once.
        let error = at(&column.peer()?, "/lastError")?.to_string();
        ensure!(error.contains("Administrative Shutdown"), "{error}");
        Ok(error)
    })?;
    Ok(if error.contains(WORDS) {
        Cell::yes()
    } else {
        Cell::no("it shuts down without a word of its own")
    })
}

fn host_name(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external().they(Feature::HostName))?;
    let host = at(&column.peer()?, "/session/host")?.clone();
    match column.speaker().lacks(Feature::HostName) {
        Some(why) => {
            ensure!(host.is_null(), "it names {host}");
            Ok(Cell::no(why))
        }
        None => {
            ensure!(host.is_string(), "it names none");
            Ok(Cell::yes())
        }
    }
}
