//! Who looks on: BMP collectors and MRT files.

use std::fmt;

use super::{BARE, Page, Scrape, flag};

pub(super) fn write(scrape: &Scrape, page: &mut Page<'_>) -> fmt::Result {
    let collectors = &scrape.status.collectors;
    let named = |name: &String| [("collector", name.clone())];
    page.gauge(
        "routelet_bmp_collector_up",
        "1 while we are connected to the BMP collector.",
        collectors
            .iter()
            .map(|(name, one)| (named(name), flag(one.connected))),
    )?;
    page.counter(
        "routelet_bmp_messages",
        "BMP messages for the collector.",
        collectors
            .iter()
            .map(|(name, one)| (named(name), one.messages)),
    )?;
    let mrt = scrape.status.mrt.iter();
    page.counter(
        "routelet_mrt_files",
        "MRT files that were completed.",
        mrt.clone().map(|mrt| (BARE, mrt.files)),
    )?;
    page.counter(
        "routelet_mrt_records_lost",
        "MRT records that could not be written, or not soon enough.",
        mrt.map(|mrt| (BARE, mrt.lost)),
    )
}
