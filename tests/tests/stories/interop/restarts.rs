//! Who comes back, how it ended, and what the other side kept of it meanwhile.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use tests::interop::{Away, Cell, Column, Ended, Feature, Section, Settings};

pub(super) const RESTARTS: Section = Section {
    title: "Restarts",
    rows: &[
        (
            "their process is killed: their routes here",
            they_are_killed,
        ),
        ("… SIGTERM", they_are_ended),
        ("our process is killed: our routes there", we_are_killed),
        ("… SIGTERM", we_are_ended),
        (
            "their process is killed, graceful restart off on our side",
            they_are_killed_off,
        ),
        (
            "our process is killed, graceful restart off on our side",
            we_are_killed_off,
        ),
        (
            "the hold time runs out (RFC 8538): their routes here",
            silent_here,
        ),
        ("… our routes there", silent_there),
        (
            "away longer than the restart time (RFC 9494): their routes here",
            long_here,
        ),
        ("… our routes there", long_there),
    ],
};

/// A session in which both sides keep what they can.
fn graceful() -> Settings {
    Settings::external()
        .they(Feature::GracefulRestart)
        .we("gracefulRestart: {notification: false}")
}

/// Whoever ends in this way comes back.
fn kept(column: &mut Column<'_>, ended: Ended) -> Result<Cell> {
    column.again(graceful())?;
    let late = column.speaker().tells_late();
    let late = late.filter(|_| matches!(ended, Ended::Them(_)));
    Ok(match (column.restart(ended)?, late) {
        (Away::Kept | Away::KeptUntilBack, Some(why)) => Cell::word("kept until back").but(why),
        (Away::Kept, None) => Cell::word("kept"),
        (Away::KeptUntilBack, None) => Cell::word("kept until back"),
        (Away::Gone, _) => match column.speaker().forgets(ended) {
            None => Cell::word("gone"),
            Some(why) => Cell::word("gone").but(why),
        },
    })
}

/// The same where we offer no graceful restart.
fn gone(column: &mut Column<'_>, ended: Ended) -> Result<Cell> {
    let they = Settings::external().they(Feature::GracefulRestart);
    column.again(they.we_restart_hard())?;
    let away = column.restart(ended)?;
    ensure!(away == Away::Gone, "{away:?}");
    Ok(Cell::word("gone"))
}

fn they_are_killed(column: &mut Column<'_>) -> Result<Cell> {
    kept(column, Ended::Them(SIGKILL))
}

fn they_are_ended(column: &mut Column<'_>) -> Result<Cell> {
    kept(column, Ended::Them(SIGTERM))
}

fn they_are_killed_off(column: &mut Column<'_>) -> Result<Cell> {
    gone(column, Ended::Them(SIGKILL))
}

fn we_are_killed(column: &mut Column<'_>) -> Result<Cell> {
    kept(column, Ended::Us(SIGKILL))
}

fn we_are_ended(column: &mut Column<'_>) -> Result<Cell> {
    kept(column, Ended::Us(SIGTERM))
}

fn we_are_killed_off(column: &mut Column<'_>) -> Result<Cell> {
    gone(column, Ended::Us(SIGKILL))
}

/// Both sides know RFC 8538 where they can, and the network between them falls silent for three seconds and more.
fn silence(column: &mut Column<'_>) -> Result<()> {
    let settings = Settings::external()
        .they(Feature::GracefulRestart)
        .they(Feature::NotificationRestart)
        .we("timers: {holdSeconds: 3}");
    column.again(settings)?;
    column.node()?.black_hole("eth1")
}

/// The cell, and whether it is what was agreed.
fn of_silence(column: &Column<'_>, kept: bool) -> Cell {
    let cell = Cell::word(if kept { "kept" } else { "gone" });
    match column.speaker().lacks(Feature::NotificationRestart) {
        Some(why) => cell.but(why),
        None => cell,
    }
}

fn silent_here(column: &mut Column<'_>) -> Result<Cell> {
    silence(column)?;
    let kept = column.we_keep();
    column.node()?.heal("eth1")?;
    let kept = kept?;
    column.exchanged()?;
    Ok(of_silence(column, kept))
}

fn silent_there(column: &mut Column<'_>) -> Result<Cell> {
    silence(column)?;
    let kept = column.they_keep();
    column.node()?.heal("eth1")?;
    let kept = kept?;
    column.exchanged()?;
    Ok(of_silence(column, kept))
}

/// Both sides offer it where they can; three seconds, and then an hour.
fn long_lived(column: &mut Column<'_>) -> Result<()> {
    let we = "gracefulRestart: {restartSeconds: 3, longLivedSeconds: 3600}";
    column.again(Settings::external().they(Feature::LongLived).we(we))?;
    let lacks = column.speaker().lacks(Feature::LongLived).is_some();
    let offers = column.offered("long-lived graceful restart")?;
    ensure!(lacks != offers, "it offers it: {offers}");
    Ok(())
}

fn long_here(column: &mut Column<'_>) -> Result<Cell> {
    long_lived(column)?;
    column.stop_them(SIGKILL)?;
    let lacks = column.speaker().lacks(Feature::LongLived);
    column.eventually("their restart time is over", || {
        let routes = column.routes()?;
        let theirs = routes
            .iter()
            .find(|route| route.get("prefix") == Some(&"10.244.51.0/24".into()));
        if lacks.is_some() {
            ensure!(theirs.is_none(), "{theirs:?}");
            return Ok(());
        }
        let communities = theirs.and_then(|route| route.get("communities"));
        let communities = communities.context("their route is gone")?.to_string();
        ensure!(communities.contains("llgr-stale"), "{communities}");
        Ok(())
    })?;
    column.start_them()?;
    column.exchanged()?;
    Ok(match lacks {
        Some(why) => Cell::word("gone").but(why),
        None => Cell::word("kept"),
    })
}

/// How a route of long-lived graceful restart is marked, in the words of one speaker or another.
const STALE: [&str; 3] = ["llgr-stale", "(65535,6)", "65535:6"];

fn long_there(column: &mut Column<'_>) -> Result<Cell> {
    long_lived(column)?;
    column.stop_us(SIGKILL)?;
    let lacks = column.speaker().lacks(Feature::LongLived);
    column.eventually("our restart time is over", || {
        if lacks.is_some() {
            let learned = column.learned()?;
            ensure!(learned.is_empty(), "{learned:?}");
            return Ok(());
        }
        let shown = column.speaker().shown(&column.site(), "10.244.1.0/24")?;
        ensure!(STALE.iter().any(|word| shown.contains(word)), "{shown}");
        Ok(())
    })?;
    column.start_us()?;
    column.exchanged()?;
    Ok(match lacks {
        Some(why) => Cell::word("gone").but(why),
        None => Cell::word("kept"),
    })
}
