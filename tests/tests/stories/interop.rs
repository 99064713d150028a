//! The interop matrix: every capability and behaviour with FRR, BIRD, OpenBGPD, GoBGP and ExaBGP. What is seen is docs/interop.md.

mod capabilities;
mod restarts;
mod routes;
mod sessions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use tests::dissect::Judgement;
use tests::interop::{Cell, Column, Feature, SPEAKERS, Section, Speaker, Table, speaker};
use tests::story::{autopsy, last_lines};

const SECTIONS: [Section; 4] = [
    sessions::SESSIONS,
    capabilities::CAPABILITIES,
    routes::ROUTES,
    restarts::RESTARTS,
];

const PREFACE: &str = concat!(
    "# Interoperation
What was seen between routelet ",
    env!("CARGO_PKG_VERSION"),
    " and the BGP speakers that Debian 12 ships, between real daemons in network namespaces. This page is written by the stories that make these sessions,
and they fail when they see something else: `tests/run interop_matrix` judges, `INTEROP=write tests/run interop_matrix` writes.

**yes**: seen to work. **partly**: seen to work but for what the note says. **no**: seen not to, or the peer has no such thing. **off**: one side was told to leave it, and what follows from that was seen. **kept**: the routes of who was away
stayed in use all the time, and **until back** at least as long as it was away. Where a row is about prefixes that must not stay, or a session that must not be, **yes** says that it was so.
"
);

/// What the machine's user asks for: `INTEROP=write` has the page written; `INTEROP=only:WORD,…` tries the rows with such a word in
/// their names.
enum Wish {
    Judge,
    Write,
    Only(Vec<String>),
}

fn wish() -> Result<Wish> {
    match std::env::var("INTEROP").unwrap_or_default().as_str() {
        "" => Ok(Wish::Judge),
        "write" => Ok(Wish::Write),
        words => {
            let words = words
                .strip_prefix("only:")
                .context("INTEROP is 'write' or 'only:WORD,…'")?;
            Ok(Wish::Only(
                words.to_lowercase().split(',').map(str::to_owned).collect(),
            ))
        }
    }
}

impl Wish {
    /// Is this row to be tried?
    fn has(&self, row: &str) -> bool {
        let Self::Only(words) = self else {
            return true;
        };
        let row = row.to_lowercase();
        words.iter().any(|word| row.contains(word))
    }
}

/// A row's name and what was seen.
type Seen = (&'static str, Cell);

/// All cells of one speaker; where one could not be seen, why. What we say meanwhile must be without fault to the dissector.
fn column(speaker: &'static dyn Speaker, wish: &Wish) -> Result<Vec<Seen>> {
    let name = speaker.name();
    let lab = Column::lab(speaker)?;
    let mut column = Column::new(&lab, speaker)?;
    let mut cells = Vec::new();
    let mut failed = Vec::new();
    let rows = SECTIONS.iter().flat_map(|section| section.rows);
    for (row, observe) in rows.filter(|(row, _)| wish.has(row)) {
        let start = tests::wait::now();
        let seen = observe(&mut column);
        let shown = seen
            .as_ref()
            .map_or_else(|error| format!("{error:#}"), Cell::shown);
        let seconds = start.elapsed().as_secs_f64();
        println!("{name} · {row}: {shown} ({seconds:.1} s)");
        match seen {
            Ok(cell) => cells.push((*row, cell)),
            Err(error) => {
                let said = last_lines(&column.site().said(), 20);
                println!("{name} said last:\n{said}");
                column.spoilt()?;
                failed.push(format!("{name} · {row}: {error:#}"));
            }
        }
    }
    if !failed.is_empty() {
        autopsy(&lab);
    }
    let Judgement { faults, kinds } = column.dissected()?;
    println!("{name}: the dissector saw of us {kinds:?}");
    if !faults.is_empty() {
        failed.push(format!(
            "{name}: the dissector complains of us: {faults:#?}"
        ));
    }
    if !matches!(wish, Wish::Only(_)) {
        failed.extend(unseen(speaker, &kinds));
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(cells)
}

/// Whatever we say to such a speaker must have been looked at.
fn unseen(speaker: &dyn Speaker, kinds: &BTreeMap<&str, usize>) -> Vec<String> {
    let always = ["OPEN", "UPDATE", "NOTIFICATION", "KEEPALIVE"].map(|kind| (None, kind));
    let some = [
        (Some(Feature::EnhancedRefresh), "ROUTE-REFRESH"),
        (Some(Feature::Bfd), "BFD"),
    ];
    let said =
        |feature: Option<Feature>| feature.is_none_or(|feature| speaker.lacks(feature).is_none());
    always
        .into_iter()
        .chain(some)
        .filter(|(feature, kind)| {
            said(*feature) && kinds.get(*kind).is_none_or(|count| *count == 0)
        })
        .map(|(_, kind)| format!("{}: no {kind} was looked at", speaker.name()))
        .collect()
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md")
}

fn documented() -> Result<Table> {
    let page = std::fs::read_to_string(page()).context("docs/interop.md")?;
    Table::read(&page)
}

/// Puts a column into the page; the others stay as they are.
fn write(speaker: &dyn Speaker, seen: Vec<Seen>) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let known = documented()
        .ok()
        .filter(|table| table.has_rows_of(&SECTIONS));
    let names = SPEAKERS.map(Speaker::name);
    let mut table = known.unwrap_or_else(|| Table::unseen(&names, &SECTIONS));
    let cells = seen.into_iter().map(|(_, cell)| cell).collect();
    table.put(speaker.name(), Column::head(speaker)?, cells)?;
    Ok(std::fs::write(page(), table.page(PREFACE, &SECTIONS))?)
}

fn judged(name: &str) -> Result<()> {
    let wish = wish()?;
    let speaker = speaker(name)?;
    let seen = column(speaker, &wish)?;
    if matches!(wish, Wish::Write) {
        return write(speaker, seen);
    }
    let denied = documented()?.denied(speaker.name(), &seen);
    ensure!(
        denied.is_empty(),
        "docs/interop.md says otherwise (INTEROP=write writes it anew):\n{}",
        denied.join("\n")
    );
    Ok(())
}

/// Beside us, row by row, as docs/interop.md says.
#[expect(clippy::panic, reason = "that is how a test fails")]
fn matrix(name: &str) {
    if let Err(error) = judged(name) {
        panic!("{error:#}");
    }
}

#[test]
fn interop_matrix_frr() {
    matrix("FRR");
}

#[test]
fn interop_matrix_bird() {
    matrix("BIRD");
}

#[test]
fn interop_matrix_openbgpd() {
    matrix("OpenBGPD");
}

#[test]
fn interop_matrix_gobgp() {
    matrix("GoBGP");
}

#[test]
fn interop_matrix_exabgp() {
    matrix("ExaBGP");
}

/// Nobody has written into it by hand, and it has no row that is not seen any more.
#[test]
fn interop_page_is_what_the_matrix_writes() {
    let page = std::fs::read_to_string(page()).expect("docs/interop.md");
    let table = Table::read(&page).expect("a table");
    assert!(table.has_rows_of(&SECTIONS), "other rows");
    assert_eq!(table.page(PREFACE, &SECTIONS), page);
}
