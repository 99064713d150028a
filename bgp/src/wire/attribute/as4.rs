//! AS4_PATH and AS4_AGGREGATOR: four-octet AS numbers through speakers of two octets (RFC 6793 §4.2).

use bytes::BufMut;

use super::{
    Aggregator, AsPath, Attributes, Partial, SegmentKind, aggregator,
    as_path::{Width, checked, put_segments},
    table::{Draft, Flags, Row, Scope},
};
use crate::wire::{AS_TRANS, update::Treatment};

/// The two attributes of a message, before they are merged.
#[derive(Debug, Default)]
pub(super) struct As4 {
    path: Option<AsPath>,
    aggregator: Option<Aggregator>,
}

pub(super) const AS4_PATH: Row = Row {
    code: 17,
    name: "AS4_PATH",
    flags: Flags::OPTIONAL_TRANSITIVE,
    if_malformed: Treatment::Discard,
    rule: "RFC 6793 §6",
    subcode: 9,
    scope: Scope::TwoOctet,
    partial: Partial::empty(),
    read: |value, draft| {
        let path = checked(value, Width::Four, |_| true)?;
        // Confederation segments do not belong here: they alone are discarded.
        draft.as4.path = Some(path.without_confederation()).filter(|path| !path.is_empty());
        Ok(())
    },
    write: |attributes, _, out| {
        // What only a confederation's segments say is not said here (RFC 6793 §4.2.2), and an empty one would be malformed.
        let path = attributes.as_path.without_confederation();
        let needed = path.asns().any(|asn| u16::try_from(asn).is_err());
        if needed {
            put_segments(&path, Width::Four, out);
        }
        needed
    },
};

pub(super) const AS4_AGGREGATOR: Row = Row {
    code: 18,
    name: "AS4_AGGREGATOR",
    flags: Flags::OPTIONAL_TRANSITIVE,
    if_malformed: Treatment::Discard,
    rule: "RFC 6793 §6",
    subcode: 9,
    scope: Scope::TwoOctet,
    partial: Partial::empty(),
    read: |value, draft| {
        draft.as4.aggregator = Some(aggregator::four_octet(value)?);
        Ok(())
    },
    write: |attributes, _, out| match attributes.aggregator {
        Some(Aggregator { asn, id }) if u16::try_from(asn).is_err() => {
            out.put_u32(asn);
            out.put_slice(&id.octets());
            true
        }
        _ => false,
    },
};

/// Puts the four-octet values in place of what a two-octet speaker could say (RFC 6793 §4.2.3).
pub(super) fn merge(draft: &mut Draft<'_>) {
    let As4 { path, aggregator } = std::mem::take(&mut draft.as4);
    let Attributes {
        as_path,
        aggregator: two_octet,
        ..
    } = &mut draft.attributes;
    if let (Some(real), Some(said)) = (aggregator, two_octet.as_mut()) {
        // Someone on the way aggregated again and knew nothing of the two: both are out of date.
        if said.asn != u32::from(AS_TRANS) {
            return;
        }
        *said = real;
    }
    if let Some(merged) = path.and_then(|path| merged(as_path, &path)) {
        *as_path = merged;
    }
}

/// The ASes that AS_PATH has in front of AS4_PATH, then AS4_PATH. `None` where AS_PATH is the shorter one: then AS4_PATH
/// is ignored.
fn merged(as_path: &AsPath, as4_path: &AsPath) -> Option<AsPath> {
    let mut missing = as_path.hops().checked_sub(as4_path.hops())?;
    let mut segments: Vec<(SegmentKind, Vec<u32>)> = Vec::new();
    for segment in as_path.segments() {
        // "… SHALL be prepended if it is either the leading path segment or is adjacent to a path segment that is prepended."
        if missing == 0 && !segment.kind.is_confederation() {
            break;
        }
        let asns = match segment.kind {
            SegmentKind::Sequence => segment.asns().take(missing).collect(),
            _ => segment.asns().collect(),
        };
        let cut = segment.kind == SegmentKind::Sequence && missing < segment.len();
        missing = missing.saturating_sub(segment.hops());
        segments.push((segment.kind, asns));
        if cut {
            break;
        }
    }
    for segment in as4_path.segments() {
        match segments.last_mut() {
            Some((SegmentKind::Sequence, asns)) if segment.kind == SegmentKind::Sequence => {
                asns.extend(segment.asns());
            }
            _ => segments.push((segment.kind, segment.asns().collect())),
        }
    }
    Some(AsPath::from_segments(
        segments.iter().map(|(kind, asns)| (*kind, &**asns)),
    ))
}
