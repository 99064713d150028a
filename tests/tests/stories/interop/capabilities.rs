//! Capabilities, on and off: what they are for is seen to happen, and not to happen.

use anyhow::{Result, ensure};
use tests::byhand::{Open, Peer, Update, attribute, capability, nlri};
use tests::interop::{Cell, Column, Feature, SOURCES, Section, Settings, two_paths};
use tests::scene::Transport;
use tests::story::at;

pub(super) const CAPABILITIES: Section = Section {
    title: "Capabilities",
    rows: &[
        ("route refresh: we ask (RFC 2918)", we_ask),
        ("route refresh: they ask", they_ask),
        (
            "… with its begin and end marked (RFC 7313)",
            enhanced_refresh,
        ),
        ("add-path: they tell us two paths (RFC 7911)", their_paths),
        ("… not taken by us: one path", their_paths_off),
        ("add-path: we tell them two paths", our_paths),
        ("… not taken by them: one path", our_paths_off),
        (
            "a route that needs an extended message (RFC 8654)",
            extended_message,
        ),
        ("IPv4 with IPv6 next hops (RFC 8950)", extended_next_hop),
        (
            "… not offered by us: IPv4 next hops over IPv6",
            extended_next_hop_off,
        ),
    ],
};

/// Passed on as it is.
const PASSED_ON: &str = "export: {rules: [{action: Accept}]}";

/// What they lack, they must not offer either.
fn lacking(column: &mut Column<'_>, feature: Feature, capability: &str) -> Result<Option<Cell>> {
    let Some(why) = column.speaker().lacks(feature) else {
        return Ok(None);
    };
    column.peering(Settings::external())?;
    ensure!(!column.offered(capability)?, "it offers {capability}");
    Ok(Some(Cell::no(why)))
}

fn we_ask(column: &mut Column<'_>) -> Result<Cell> {
    column.again(Settings::external())?;
    let told = |column: &Column<'_>| -> Result<Option<u64>> {
        Ok(at(&column.peer()?, "/messages/updatesIn")?.as_u64())
    };
    let before = told(column)?;
    let name = column.name();
    column
        .node()?
        .run(&["routelet", "refresh", name.as_str()])?;
    if let Some((complaint, why)) = column.speaker().never_tells_again() {
        column.they_say(complaint)?;
        column.exchanged()?;
        return Ok(Cell::no(why));
    }
    column.eventually("their routes come again", || {
        let now = told(column)?;
        ensure!(now > before, "{before:?} UPDATEs before, {now:?} now");
        Ok(())
    })?;
    column.exchanged()?;
    Ok(Cell::yes())
}

fn they_ask(column: &mut Column<'_>) -> Result<Cell> {
    column.again(Settings::external())?;
    ensure!(column.offered("route refresh")?, "it offers none");
    column.speaker().ask_refresh(&column.site())?;
    if let Some(why) = column.speaker().never_asks() {
        return Ok(Cell::no(why));
    }
    column.eventually("we are asked", || {
        column.recorded("in", "ROUTE-REFRESH Request")
    })?;
    column.exchanged()?;
    Ok(Cell::yes())
}

fn enhanced_refresh(column: &mut Column<'_>) -> Result<Cell> {
    if let Some(cell) = lacking(column, Feature::EnhancedRefresh, "enhanced route refresh")? {
        return Ok(cell);
    }
    column.peering(Settings::external().they(Feature::EnhancedRefresh))?;
    ensure!(column.offered("enhanced route refresh")?, "it offers none");
    // Begin is 1, end is 2.
    let marks = || {
        let said = column.captured("bgp.route_refresh.subtype")?;
        anyhow::Ok(["1", "2"].map(|mark| said.iter().filter(|known| *known == mark).count()))
    };
    let before = marks()?;
    column.speaker().ask_refresh(&column.site())?;
    column.eventually("both marks are sent", || {
        let now = marks()?;
        ensure!(now[0] > before[0] && now[1] > before[1], "{now:?}");
        Ok(())
    })?;
    column.exchanged()?;
    Ok(Cell::yes())
}

const PREFIX: &str = "10.244.99.0/24";
const PARTS: (&str, u8) = ("10.244.99.0", 24);

/// How many paths of the prefix we have of them, once they have told us both.
fn told_us(column: &mut Column<'_>, settings: Settings, count: usize) -> Result<Cell> {
    column.peering(settings.they(Feature::AddPathSend))?;
    let _sources = column.speaker().two_paths(&column.site(), PARTS)?;
    let paths = || {
        let routes = column.routes()?;
        let of = routes
            .iter()
            .filter(|route| route.get("prefix") == Some(&PREFIX.into()));
        anyhow::Ok(of.count())
    };
    column.eventually(&format!("we have {count} paths"), || {
        let paths = paths()?;
        ensure!(paths == count, "we have {paths}");
        Ok(())
    })?;
    // A second one would come a moment later.
    column.exchanged()?;
    let paths = paths()?;
    ensure!(paths == count, "we have {paths} in the end");
    Ok(Cell::yes())
}

fn their_paths(column: &mut Column<'_>) -> Result<Cell> {
    told_us(
        column,
        Settings::external().we("addPath: {receive: true}"),
        2,
    )
}

fn their_paths_off(column: &mut Column<'_>) -> Result<Cell> {
    told_us(column, Settings::external(), 1)?;
    Ok(Cell::word("off"))
}

/// The same for what we tell them.
fn told_them(column: &mut Column<'_>, settings: Settings, count: usize) -> Result<Cell> {
    let we = "addPath: {sendMax: 4}\n  nextHopMode: Keep";
    column.peering(settings.we(we).we(PASSED_ON).and_sources())?;
    let _sources = two_paths(column.site().lab, &Transport::IPv4.address(1), 0, PARTS)?;
    column.eventually("we have both", || {
        let known = column.node()?.run(&["routelet", "explain", PREFIX])?;
        for (hop, _) in SOURCES {
            ensure!(known.contains(hop), "{known}");
        }
        Ok(())
    })?;
    column.eventually(&format!("they have {count} paths"), || {
        let learned = column.learned()?;
        let paths = learned.get(PREFIX).map_or(0, Vec::len);
        ensure!(paths == count, "they have {learned:?}");
        Ok(())
    })?;
    Ok(Cell::yes())
}

fn our_paths(column: &mut Column<'_>) -> Result<Cell> {
    told_them(
        column,
        Settings::external().they(Feature::AddPathReceive),
        2,
    )
}

fn our_paths_off(column: &mut Column<'_>) -> Result<Cell> {
    told_them(column, Settings::external(), 1)?;
    Ok(Cell::word("off"))
}

/// A source tells us of a route with so many communities that no message of 4,096 octets holds it, and then of a plain one.
fn long_and_short(column: &Column<'_>) -> Result<Peer> {
    let (address, asn) = SOURCES[0];
    let own = address.parse()?;
    let mut open = Open {
        hold: 0,
        ..Open::of(asn, own)
    };
    let capabilities = [
        capability(1, &[0, 1, 0, 1]),
        capability(6, &[]),
        capability(65, &asn.to_be_bytes()),
    ];
    open.parameters = Open::parameters(&capabilities.concat());
    let mut peer = Peer::dial(
        column.hands()?,
        address.parse()?,
        Transport::IPv4.address(1).parse()?,
    )?;
    peer.establish(&open)?;
    let many: Vec<u8> = (0..1_500_u16)
        .flat_map(|number| [65_061_u16.to_be_bytes(), number.to_be_bytes()].concat())
        .collect();
    for (prefix, more) in [
        ("10.244.98.0", attribute(0xc0, 8, &many)),
        ("10.244.97.0", Vec::new()),
    ] {
        let update = Update::announcing(&[asn], own)
            .with(&more)
            .prefixes(&nlri(prefix.parse()?, 24));
        peer.send(&update.octets())?;
    }
    Ok(peer)
}

fn extended_message(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(
        Settings::external()
            .they(Feature::ExtendedMessage)
            .we(PASSED_ON)
            .and_sources(),
    )?;
    let offered = column.offered("extended message")?;
    let _source = long_and_short(column)?;
    column.eventually("they have the short one", || {
        let learned = column.learned()?;
        ensure!(learned.contains_key("10.244.97.0/24"), "{learned:?}");
        Ok(())
    })?;
    match column.speaker().lacks(Feature::ExtendedMessage) {
        Some(why) => {
            let learned = column.learned()?;
            ensure!(
                !offered && !learned.contains_key("10.244.98.0/24"),
                "{learned:?}"
            );
            column.up()?;
            Ok(Cell::no(&format!(
                "{why}; the route is left out, the session stays"
            )))
        }
        None => {
            ensure!(offered, "it offers none");
            column.eventually("they have the long one", || {
                let learned = column.learned()?;
                ensure!(learned.contains_key("10.244.98.0/24"), "{learned:?}");
                Ok(())
            })?;
            Ok(Cell::yes())
        }
    }
}

/// Are the next hops of IPv4 prefixes IPv6 addresses: with them, with us?
fn hops_over_ipv6(column: &Column<'_>) -> Result<(bool, bool)> {
    let learned = column.learned()?;
    let with_them = learned
        .get("10.244.1.0/24")
        .is_some_and(|hops| hops.iter().all(|hop| hop.contains(':')));
    let with_us = column.routes()?.iter().any(|route| {
        let hop = route.get("nextHop").and_then(serde_json::Value::as_str);
        route.get("prefix") == Some(&"10.244.51.0/24".into())
            && hop.is_some_and(|hop| hop.contains(':'))
    });
    Ok((with_them, with_us))
}

fn extended_next_hop(column: &mut Column<'_>) -> Result<Cell> {
    if let Some(cell) = lacking(column, Feature::ExtendedNextHop, "extended next hop")? {
        return Ok(cell);
    }
    let settings = Settings::external().over(Transport::IPv6);
    column.peering(
        settings
            .they(Feature::ExtendedNextHop)
            .we("extendedNextHop: true"),
    )?;
    ensure!(column.offered("extended next hop")?, "it offers none");
    column.eventually("our kernel has their IPv4 pods by an IPv6 next hop", || {
        column.node()?.our_route("10.244.51.0/24").map(drop)
    })?;
    Ok(match hops_over_ipv6(column)? {
        (true, true) => Cell::yes(),
        (true, false) => Cell::yes().but("it takes them, and sends IPv4 next hops itself"),
        (false, true) => Cell::yes().but("it sends them, and shows IPv4 next hops for ours"),
        (false, false) => Cell::no("it offers the capability and uses IPv4 next hops both ways"),
    })
}

fn extended_next_hop_off(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external().over(Transport::IPv6))?;
    let hops = hops_over_ipv6(column)?;
    ensure!(hops == (false, false), "{hops:?}");
    Ok(Cell::word("off"))
}
