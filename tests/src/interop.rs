//! The interop matrix: routelet beside each other speaker that Debian has, capability by capability; what was seen is a table.
//!
//! ```text
//! Settings ─┬─► Speaker: FRR, BIRD, OpenBGPD, GoBGP, ExaBGP ─┐
//!           └─► our manifest ────────────────────────────────┴─► Column (a lab) ─ a row's observe ─► Cell ─► Table ⇄ docs/interop.md
//! ```

mod away;
mod bird;
mod column;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;
mod said;
mod settings;
mod speaker;
mod table;

use anyhow::{Context, Result};

pub use away::{Away, Ended};
pub use column::Column;
pub use settings::{Feature, KEY, LIMIT, SOURCES, Settings, THEIRS, internal_as};
pub use speaker::{Learned, Marks, Site, Speaker, two_paths};
pub use table::{Cell, Section, Table};

/// All speakers, in the order of the table's columns.
pub const SPEAKERS: [&dyn Speaker; 5] = [
    &frr::Frr,
    &bird::Bird,
    &openbgpd::OpenBgpd,
    &gobgp::GoBgp,
    &exabgp::ExaBgp,
];

/// The speaker of this name.
pub fn speaker(name: &str) -> Result<&'static dyn Speaker> {
    let of_name = |speaker: &&dyn Speaker| speaker.name() == name;
    let speaker = SPEAKERS.into_iter().find(of_name);
    speaker.with_context(|| format!("no speaker {name}"))
}
