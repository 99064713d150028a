//! What routes carry, and how many of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use tests::byhand::{Open, Peer, Update, attribute, nlri};
use tests::interop::{Cell, Column, Feature, LIMIT, Marks, SOURCES, Section, Settings};
use tests::scene::Transport;
use tests::story::at;

pub(super) const ROUTES: Section = Section {
    title: "Routes",
    rows: &[
        ("1,000 prefixes to them, and withdrawn again", many_to_them),
        (
            "1,000 prefixes from them, and withdrawn again",
            many_from_them,
        ),
        (
            "communities, extended and large, from them",
            their_communities,
        ),
        ("communities, extended and large, to them", our_communities),
        (
            "more prefixes from them than we allow: the session ends",
            our_limit,
        ),
        ("more prefixes to them than they allow", their_limit),
    ],
};

/// So many of either family, inside the pod network or beside it.
fn prefixes(count: u16, second: u8, third: u8, six: &str) -> Vec<String> {
    (0..count)
        .flat_map(|number| {
            let [_, low] = (number % 16 * 16).to_be_bytes();
            let third = u16::from(third) + number / 16;
            let six_high = 0x1000 + number;
            [
                format!("10.{second}.{third}.{low}/28"),
                format!("{six}:{six_high:x}::/64"),
            ]
        })
        .collect()
}

fn many_to_them(column: &mut Column<'_>) -> Result<Cell> {
    let all = prefixes(500, 77, 0, "fd00:77:77");
    // What some tell us back of ours does not count against our maximum.
    let settings = Settings::external();
    column.peering(settings.clone())?;
    let mut advertisement = "apiVersion: routelet.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {name: many}\nspec:\n  prefixes:\n".to_owned();
    for prefix in &all {
        let _ = writeln!(advertisement, "  - \"{prefix}\"");
    }
    let own = ["10.244.1.0/24", "fd00:10:244:1::/64"].map(str::to_owned);
    let few: BTreeSet<String> = own.iter().cloned().collect();
    let many: BTreeSet<String> = all.iter().chain(&own).cloned().collect();
    let name = column.name();
    for (settings, expected) in [
        (settings.clone().with(&advertisement), &many),
        (settings, &few),
    ] {
        column.tell_us(&settings.manifest(&name))?;
        column.eventually("they have exactly what we tell", || {
            let learned: BTreeSet<String> = column.learned()?.into_keys().collect();
            ensure!(
                &learned == expected,
                "{} of {}, for example {:?}",
                learned.len(),
                expected.len(),
                learned.symmetric_difference(expected).next()
            );
            Ok(())
        })?;
    }
    Ok(Cell::yes())
}

fn many_from_them(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external().we("maxPrefixes: {count: 5000}"))?;
    let (count, fewer) = column.speaker().many();
    let mut all = prefixes(count, 244, 64, "fd00:10:244");
    all.retain(|prefix| column.tells(prefix));
    let few = column.received()?;
    let many: BTreeSet<String> = all.iter().cloned().chain(few.clone()).collect();
    let exactly = |expected: &BTreeSet<String>| {
        column.eventually("we have exactly what they tell", || {
            let received = column.received()?;
            ensure!(
                &received == expected,
                "{} of {}, for example {:?}",
                received.len(),
                expected.len(),
                received.symmetric_difference(expected).next()
            );
            Ok(())
        })
    };
    column
        .speaker()
        .originate(&column.site(), &all, Marks::None)?;
    exactly(&many)?;
    column.speaker().withdraw(&column.site(), &all)?;
    exactly(&few)?;
    Ok(fewer.map_or_else(Cell::yes, |why| Cell::yes().but(why)))
}

fn their_communities(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external())?;
    let prefix = "10.244.52.0/24";
    column
        .speaker()
        .originate(&column.site(), &[prefix.to_owned()], Marks::Communities)?;
    column.eventually("we see the communities", || {
        let routes = column.routes()?;
        let route = routes
            .iter()
            .find(|route| route.get("prefix") == Some(&prefix.into()))
            .context("no such route")?;
        let known = at(route, "/communities")?;
        ensure!(
            known == &serde_json::json!(["65051:7", "65051:1:2", "rt:65051:7"]),
            "{known}"
        );
        Ok(())
    })?;
    Ok(Cell::yes())
}

/// A source of ours tells of a route with all three kinds.
fn marked(column: &Column<'_>, prefix: &str) -> Result<Peer> {
    let (address, asn) = SOURCES[0];
    let own = address.parse()?;
    let node1 = Transport::IPv4.address(1).parse()?;
    let mut peer = Peer::dial(column.hands()?, address.parse()?, node1)?;
    peer.establish(&Open {
        hold: 0,
        ..Open::of(asn, own)
    })?;
    let large: Vec<u8> = [asn, 1, 2]
        .iter()
        .flat_map(|part| part.to_be_bytes())
        .collect();
    let extended = [&[0, 2][..], &65_061_u16.to_be_bytes(), &7_u32.to_be_bytes()].concat();
    let update = Update::announcing(&[asn], own)
        .communities(&[(65_061, 7)])
        .with(&attribute(0xc0, 16, &extended))
        .with(&attribute(0xc0, 32, &large))
        .prefixes(&nlri(prefix.parse()?, 24));
    peer.send(&update.octets())?;
    Ok(peer)
}

fn our_communities(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(
        Settings::external()
            .we("export: {rules: [{action: Accept}]}")
            .and_sources(),
    )?;
    let _source = marked(column, "10.244.96.0")?;
    // Each in the words of one speaker or another.
    let kinds: [&[&str]; 3] = [
        &["65061:7", "65061,7", "[ 65061, 7 ]"],
        &[
            "rt:65061:7",
            "(rt, 65061, 7)",
            "rt 65061:7",
            "[65061:7]",
            "target:65061:7",
        ],
        &["65061:1:2", "(65061, 1, 2)", "[ 65061, 1 , 2 ]"],
    ];
    column.eventually("they show all three kinds", || {
        let shown = column.speaker().shown(&column.site(), "10.244.96.0/24")?;
        let lower = shown.to_lowercase();
        for words in kinds {
            ensure!(
                words.iter().any(|word| lower.contains(word)),
                "none of {words:?} in {shown}"
            );
        }
        Ok(())
    })?;
    Ok(Cell::yes())
}

fn our_limit(column: &mut Column<'_>) -> Result<Cell> {
    column.peering(Settings::external().we("maxPrefixes: {count: 20}"))?;
    let many: Vec<String> = (0..30)
        .map(|number| format!("10.244.{}.0/24", 100 + number))
        .collect();
    column
        .speaker()
        .originate(&column.site(), &many, Marks::None)?;
    column.eventually("we end the session", || {
        let peer = column.peer()?;
        let error = at(&peer, "/lastNotification")?;
        ensure!(
            at(error, "/code")? == 6 && at(error, "/subcode")? == 1 && at(error, "/from")? == "us",
            "{peer:#}"
        );
        Ok(())
    })?;
    Ok(Cell::yes())
}

fn their_limit(column: &mut Column<'_>) -> Result<Cell> {
    if let Some(why) = column.speaker().lacks(Feature::MaxPrefixes) {
        return Ok(Cell::no(why));
    }
    let settings = Settings::external().they(Feature::MaxPrefixes);
    column.peering(settings.clone())?;
    let mut advertisement = "apiVersion: routelet.dev/v1alpha1\nkind: BGPAdvertisement\nmetadata: {name: many}\nspec:\n  prefixes:\n".to_owned();
    for number in 0..2 * LIMIT {
        let _ = writeln!(advertisement, "  - 10.77.{number}.0/24");
    }
    column.tell_us(&settings.with(&advertisement).manifest(&column.name()))?;
    column.eventually("they end the session", || {
        let peer = column.peer()?;
        let error = at(&peer, "/lastNotification")?;
        ensure!(
            at(error, "/code")? == 6
                && at(error, "/subcode")? == 1
                && at(error, "/from")? == "peer",
            "{peer:#}"
        );
        Ok(())
    })?;
    Ok(Cell::yes())
}
