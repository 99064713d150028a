//! AS_PATH: which ASes a route came through (RFC 4271 §5.1.2, RFC 5065, RFC 6793).

use std::{fmt, str::FromStr};

use bytes::{BufMut, BytesMut};

use super::{
    Partial,
    table::{Flags, Malformed, Row, Scope},
};
use crate::wire::{AS_TRANS, Context, update::Treatment};

/// AS_PATH: segments, the nearest AS first. Kept as on the wire with four-octet AS numbers: one allocation, and equal paths
/// are equal octets.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct AsPath(Box<[u8]>);

/// What a segment of an AS_PATH is (RFC 4271 §4.3 b, RFC 5065 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SegmentKind {
    /// AS_SET, unordered: counts as one hop.
    Set = 1,
    /// AS_SEQUENCE, ordered.
    Sequence = 2,
    /// AS_CONFED_SEQUENCE: counts as no hop.
    ConfedSequence = 3,
    /// AS_CONFED_SET: counts as no hop.
    ConfedSet = 4,
}

impl SegmentKind {
    /// The kind of this type octet.
    #[must_use]
    pub const fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => Self::Set,
            2 => Self::Sequence,
            3 => Self::ConfedSequence,
            4 => Self::ConfedSet,
            _ => return None,
        })
    }

    /// Whether it belongs to a confederation.
    #[must_use]
    pub const fn is_confederation(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
    }
}

/// One segment of an [`AsPath`], 1–255 AS numbers long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// What it is.
    pub kind: SegmentKind,
    octets: &'a [[u8; 4]],
}

impl<'a> Segment<'a> {
    /// Its AS numbers.
    pub fn asns(self) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator + 'a {
        self.octets.iter().map(|octets| u32::from_be_bytes(*octets))
    }

    /// How many AS numbers it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub const fn len(self) -> usize {
        self.octets.len()
    }

    /// What it counts in the length of a path (RFC 4271 §9.1.2.2 a, RFC 5065 §5.3).
    #[must_use]
    pub const fn hops(self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }
}

impl AsPath {
    /// The path without any AS: what we originate.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The path through these ASes in order, the nearest first.
    #[must_use]
    pub fn sequence(asns: &[u32]) -> Self {
        Self::from_segments([(SegmentKind::Sequence, asns)])
    }

    /// The path of these segments; one longer than 255 is split, an empty one left out.
    #[must_use]
    pub fn from_segments<'a>(segments: impl IntoIterator<Item = (SegmentKind, &'a [u32])>) -> Self {
        let mut octets = Vec::new();
        for (kind, asns) in segments {
            for part in asns.chunks(usize::from(u8::MAX)) {
                octets.extend([kind as u8, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
                part.iter().for_each(|asn| octets.extend(asn.to_be_bytes()));
            }
        }
        Self(octets.into())
    }

    /// The segments in order.
    #[must_use]
    pub fn segments(&self) -> Segments<'_> {
        Segments(&self.0)
    }

    /// Every AS number in order, whatever its segment.
    pub fn asns(&self) -> impl Iterator<Item = u32> {
        self.segments().flat_map(Segment::asns)
    }

    /// Its length for the decision: an AS_SET counts as one, confederation segments not at all (RFC 4271 §9.1.2.2 a).
    #[must_use]
    pub fn hops(&self) -> usize {
        self.segments()
            .fold(0, |hops, segment| hops.saturating_add(segment.hops()))
    }

    /// Whether it holds no AS at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `asn` stands anywhere in it.
    #[must_use]
    pub fn contains(&self, asn: u32) -> bool {
        self.asns().any(|other| other == asn)
    }

    /// How often `asn` stands in it.
    #[must_use]
    pub fn count(&self, asn: u32) -> usize {
        self.asns().filter(|other| *other == asn).count()
    }

    /// The neighbour AS of RFC 4271 §9.1.2.2 c: the first of the first AS_SEQUENCE, confederation segments aside; `None` where
    /// the path is empty (then it is our own AS) or begins with an AS_SET.
    #[must_use]
    pub fn neighbor_as(&self) -> Option<u32> {
        self.segments()
            .find(|segment| !segment.kind.is_confederation())
            .filter(|segment| segment.kind == SegmentKind::Sequence)
            .and_then(|segment| segment.asns().next())
    }

    /// The AS that originated the route: the last of the path, `None` where it is empty or ends in an AS_SET.
    #[must_use]
    pub fn origin_as(&self) -> Option<u32> {
        self.segments()
            .last()
            .filter(|segment| segment.kind == SegmentKind::Sequence)
            .and_then(|segment| segment.asns().next_back())
    }

    /// The same without the segments of a confederation (RFC 5065 §3).
    #[must_use]
    pub fn without_confederation(&self) -> Self {
        if !self
            .segments()
            .any(|segment| segment.kind.is_confederation())
        {
            return self.clone();
        }
        let segments: Vec<_> = self
            .segments()
            .filter(|segment| !segment.kind.is_confederation())
            .map(|segment| (segment.kind, segment.asns().collect::<Vec<_>>()))
            .collect();
        Self::from_segments(segments.iter().map(|(kind, asns)| (*kind, &**asns)))
    }

    /// The same with `asn` in front, `times` times (RFC 4271 §5.1.2 b).
    #[must_use]
    pub fn prepend(&self, asn: u32, times: usize) -> Self {
        let first = self.segments().next();
        let mut front = vec![asn; times];
        let mut rest = self.0.get(..).unwrap_or_default();
        if let Some(first) = first.filter(|first| first.kind == SegmentKind::Sequence && times > 0)
        {
            front.extend(first.asns());
            rest = rest
                .get(first.len().saturating_mul(4).saturating_add(2)..)
                .unwrap_or_default();
        }
        // A segment that overflows leaves its short part in front, so that the next prepend has room there.
        let short = front.len() % usize::from(u8::MAX);
        let (head, tail) = front.split_at(short);
        let head =
            Self::from_segments([(SegmentKind::Sequence, head), (SegmentKind::Sequence, tail)]);
        Self([&*head.0, rest].concat().into())
    }
}

impl From<&[u32]> for AsPath {
    fn from(asns: &[u32]) -> Self {
        Self::sequence(asns)
    }
}

impl<const N: usize> From<[u32; N]> for AsPath {
    fn from(asns: [u32; N]) -> Self {
        Self::sequence(&asns)
    }
}

/// The segments of an [`AsPath`].
#[derive(Clone, Debug)]
pub struct Segments<'a>(&'a [u8]);

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let (&[kind, count], rest) = self.0.split_first_chunk()?;
        let (asns, rest) = rest.split_at_checked(usize::from(count).saturating_mul(4))?;
        self.0 = rest;
        Some(Segment {
            kind: SegmentKind::from_octet(kind)?,
            octets: asns.as_chunks().0,
        })
    }
}

impl fmt::Display for AsPath {
    /// `65001 65002 {65003,65004}`; confederation segments as `(65005 65006)` and `[65007,65008]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.segments().enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            let (open, between, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            f.write_str(open)?;
            for (place, asn) in segment.asns().enumerate() {
                if place > 0 {
                    f.write_str(between)?;
                }
                write!(f, "{asn}")?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

/// A text that is no AS path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no AS path: numbers with spaces between, sets as {{1,2}}")]
pub struct UnknownAsPath(String);

impl FromStr for AsPath {
    type Err = UnknownAsPath;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, UnknownAsPath> {
        let unknown = || UnknownAsPath(text.to_owned());
        let mut segments: Vec<(SegmentKind, Vec<u32>)> = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (kind, close) = match rest.as_bytes().first() {
                Some(b'{') => (SegmentKind::Set, Some('}')),
                Some(b'(') => (SegmentKind::ConfedSequence, Some(')')),
                Some(b'[') => (SegmentKind::ConfedSet, Some(']')),
                _ => (SegmentKind::Sequence, None),
            };
            let inside;
            (inside, rest) = match close {
                Some(close) => rest
                    .get(1..)
                    .and_then(|rest| rest.split_once(close))
                    .ok_or_else(unknown)?,
                None => rest.split_at(rest.find(['{', '(', '[']).unwrap_or(rest.len())),
            };
            rest = rest.trim_start();
            let asns = inside
                .split([' ', ','])
                .filter(|word| !word.is_empty())
                .map(|word| word.parse().ok().filter(|asn| *asn != 0))
                .collect::<Option<Vec<u32>>>()
                .filter(|asns| !asns.is_empty())
                .ok_or_else(unknown)?;
            segments.push((kind, asns));
        }
        Ok(Self::from_segments(
            segments.iter().map(|(kind, asns)| (*kind, &**asns)),
        ))
    }
}

pub(super) const AS_PATH: Row = Row {
    code: 2,
    name: "AS_PATH",
    flags: Flags::WELL_KNOWN,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.2",
    subcode: 11,
    scope: Scope::Any,
    partial: Partial::empty(),
    read: |value, draft| {
        let width = Width::of(draft.context);
        // We are in no confederation: from outside our AS such segments are an error (RFC 5065 §5).
        let internal = draft.context.internal;
        let path = checked(value, width, |kind| internal || !kind.is_confederation())?;
        draft.attributes.as_path = path;
        Ok(())
    },
    write: |attributes, to, out| {
        put_segments(&attributes.as_path, Width::of(to.context), out);
        true
    },
};

/// Octets of an AS number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Two,
    Four,
}

impl Width {
    const fn of(context: &Context) -> Self {
        if context.four_octet_as {
            Self::Four
        } else {
            Self::Two
        }
    }
}

/// The path that `value` holds, if it is one and every segment is `welcome`.
pub(super) fn checked(
    value: &[u8],
    width: Width,
    welcome: impl Fn(SegmentKind) -> bool,
) -> Result<AsPath, Malformed> {
    let mut wide = Vec::new();
    let mut rest = value;
    while let Some((&[kind, count], after)) = rest.split_first_chunk() {
        let kind = SegmentKind::from_octet(kind)
            .ok_or(Malformed::Value("has a segment of unknown type"))?;
        if !welcome(kind) {
            return Err(Malformed::Value("has a confederation segment, RFC 5065 §5"));
        }
        if count == 0 {
            return Err(Malformed::Value("has an empty segment"));
        }
        let octets = usize::from(count).saturating_mul(match width {
            Width::Two => 2,
            Width::Four => 4,
        });
        let (asns, after) = after
            .split_at_checked(octets)
            .ok_or(Malformed::Value("has a segment longer than itself"))?;
        let zero = match width {
            Width::Four => asns.as_chunks::<4>().0.contains(&[0; 4]),
            Width::Two => {
                wide.extend([kind as u8, count]);
                let asns = asns.as_chunks::<2>().0;
                wide.extend(asns.iter().flat_map(|[high, low]| [0, 0, *high, *low]));
                asns.contains(&[0; 2])
            }
        };
        if zero {
            return Err(Malformed::Value("holds AS 0, RFC 7607 §2"));
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Malformed::Value("ends within a segment"));
    }
    Ok(AsPath(match width {
        Width::Four => value.into(),
        Width::Two => wide.into(),
    }))
}

/// Appends the segments; AS numbers that do not fit become AS_TRANS.
pub(super) fn put_segments(path: &AsPath, width: Width, out: &mut BytesMut) {
    if width == Width::Four {
        out.put_slice(&path.0);
        return;
    }
    for segment in path.segments() {
        out.put_u8(segment.kind as u8);
        out.put_u8(u8::try_from(segment.len()).unwrap_or(u8::MAX));
        for asn in segment.asns() {
            out.put_u16(u16::try_from(asn).unwrap_or(AS_TRANS));
        }
    }
}
