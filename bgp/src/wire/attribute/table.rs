//! The table of path attributes, and the two loops over it: one reads (RFC 7606), one writes (in order, RFC 7606 §5.1).

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Attributes, Partial, Unknown, aggregator, as_path, as4, communities, multiprotocol, next_hop,
    origin, preference, reflection,
};
use crate::wire::{
    Context, WireError,
    read::Short,
    update::{Fault, Treatment},
};

bitflags::bitflags! {
    /// The Attribute Flags octet (RFC 4271 §4.3); its low four bits mean nothing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u8 {
        const OPTIONAL = 0x80;
        const TRANSITIVE = 0x40;
        const PARTIAL = 0x20;
        const EXTENDED_LENGTH = 0x10;
    }
}

impl Flags {
    pub(super) const WELL_KNOWN: Self = Self::TRANSITIVE;
    pub(super) const OPTIONAL_TRANSITIVE: Self = Self::OPTIONAL.union(Self::TRANSITIVE);

    /// The two that an attribute's specification fixes (RFC 7606 §3 c).
    fn kind(self) -> Self {
        self & Self::OPTIONAL_TRANSITIVE
    }
}

/// Everything the protocol says of one attribute.
pub(super) struct Row {
    /// Type code.
    pub(super) code: u8,
    /// As the RFC spells it.
    pub(super) name: &'static str,
    /// Optional or well-known, transitive or not.
    pub(super) flags: Flags,
    /// What to do about a malformed one.
    pub(super) if_malformed: Treatment,
    /// Where that stands.
    pub(super) rule: &'static str,
    /// Error subcode (RFC 4271 §6.3) of a wrong value, where the session must be reset after all.
    pub(super) subcode: u8,
    /// From and to whom it goes.
    pub(super) scope: Scope,
    /// Which bit of [`Attributes::partial`] keeps its Partial flag.
    pub(super) partial: Partial,
    /// Puts the value where it belongs.
    pub(super) read: for<'a> fn(&'a [u8], &mut Draft<'a>) -> Result<(), Malformed>,
    /// Appends the value; `false`: there is none, and nothing was appended.
    pub(super) write: fn(&Attributes, &Outgoing<'_>, &mut BytesMut) -> bool,
}

/// From and to whom an attribute goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Any peer.
    Any,
    /// Internal peers; from an external one it is discarded (RFC 7606 §7.5, §7.9, §7.10).
    Internal,
    /// Peers with two-octet AS numbers; from others it is discarded (RFC 6793 §4.1).
    TwoOctet,
}

/// In ascending order of code, the order of writing.
pub(super) const ROWS: [Row; 16] = [
    origin::ORIGIN,
    as_path::AS_PATH,
    next_hop::NEXT_HOP,
    preference::MED,
    preference::LOCAL_PREF,
    aggregator::ATOMIC_AGGREGATE,
    aggregator::AGGREGATOR,
    communities::COMMUNITIES,
    reflection::ORIGINATOR_ID,
    reflection::CLUSTER_LIST,
    multiprotocol::MP_REACH_NLRI,
    multiprotocol::MP_UNREACH_NLRI,
    communities::EXTENDED_COMMUNITIES,
    as4::AS4_PATH,
    as4::AS4_AGGREGATOR,
    communities::LARGE_COMMUNITY,
];

/// The row of each type code, as an index into [`ROWS`]; beyond its end where there is none.
const ROW_OF_CODE: [u8; 256] = {
    let mut rows = [u8::MAX; 256];
    let mut row = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    while row < ROWS.len() {
        rows[ROWS[row].code as usize] = row as u8;
        row += 1;
    }
    rows
};

fn row_of(code: u8) -> Option<&'static Row> {
    static TABLE: [Row; ROWS.len()] = ROWS;
    let row = ROW_OF_CODE.get(usize::from(code))?;
    TABLE.get(usize::from(*row))
}

/// What is wrong with the value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Its length is not what this says: `4`, `a multiple of 4 and not 0`.
    Length(&'static str),
    /// Its content: `holds AS 0`.
    Value(&'static str),
    /// Prefixes cannot be told; the section of RFC 7606.
    Unlocatable(&'static str, &'static str),
}

/// A fixed length was not met; which, the row adds by [`Malformed::Length`].
impl From<Short> for Malformed {
    fn from(_: Short) -> Self {
        Self::Value("is cut short")
    }
}

/// Faults kept of one message: it could have thousands.
const MOST_FAULTS: usize = 16;

/// A fault, with what the peer is told should it end the session after all (RFC 7606 §5.2).
#[derive(Debug)]
pub(in crate::wire) struct AttributeFault {
    pub(in crate::wire) fault: Fault,
    pub(in crate::wire) subcode: u8,
    pub(in crate::wire) data: Bytes,
}

/// The attributes of one UPDATE while they are read.
#[derive(Debug)]
pub(in crate::wire) struct Draft<'a> {
    pub(in crate::wire) context: &'a Context,
    pub(in crate::wire) attributes: Attributes,
    /// MP_REACH_NLRI.
    pub(in crate::wire) reach: Option<multiprotocol::Reach<'a>>,
    /// MP_UNREACH_NLRI.
    pub(in crate::wire) unreach: Option<multiprotocol::Unreach<'a>>,
    /// NEXT_HOP holds no address of a host.
    pub(in crate::wire) bad_next_hop: bool,
    pub(super) as4: as4::As4,
    /// All of the attribute that is being read.
    pub(super) whole: &'a [u8],
    /// Type codes met so far.
    pub(in crate::wire) seen: Seen,
    pub(in crate::wire) faults: Vec<AttributeFault>,
}

/// A set of type codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::wire) struct Seen([u128; 2]);

impl Seen {
    /// Adds `code`; `false` if it was there already.
    fn add(&mut self, code: u8) -> bool {
        let bit = 1_u128 << (code & 127);
        let [low, high] = &mut self.0;
        let half = if code < 128 { low } else { high };
        let new = *half & bit == 0;
        *half |= bit;
        new
    }

    /// Whether `code` is in it.
    pub(in crate::wire) const fn has(&self, code: u8) -> bool {
        let [low, high] = self.0;
        let half = if code < 128 { low } else { high };
        half & 1 << (code & 127) != 0
    }

    /// Whether nothing but `code` is in it, or nothing at all.
    pub(in crate::wire) fn nothing_but(&self, code: u8) -> bool {
        let mut only = Self::default();
        only.add(code);
        *self == only || *self == Self::default()
    }
}

/// One attribute, cut out of its list.
struct Raw<'a> {
    flags: Flags,
    code: u8,
    value: &'a [u8],
    /// All of it.
    whole: &'a [u8],
}

impl<'a> Draft<'a> {
    /// Before anything is read.
    pub(in crate::wire) fn new(context: &'a Context) -> Self {
        Self {
            context,
            attributes: Attributes::default(),
            reach: None,
            unreach: None,
            bad_next_hop: false,
            as4: as4::As4::default(),
            whole: &[],
            seen: Seen::default(),
            faults: Vec::new(),
        }
    }

    /// Reads the Path Attributes field. What ends the session is the error; all else is in `faults`.
    pub(in crate::wire) fn read(&mut self, block: &'a [u8]) -> Result<(), WireError> {
        let mut rest = block;
        while !rest.is_empty() {
            let Some(raw) = self.cut(&mut rest)? else {
                break;
            };
            match row_of(raw.code) {
                Some(row) => self.read_known(row, &raw)?,
                None => self.read_unknown(&raw)?,
            }
        }
        if !self.context.four_octet_as {
            as4::merge(self);
        }
        Ok(())
    }

    /// The next attribute; `None` after a fault, when its length leads out of the list (RFC 7606 §4).
    fn cut(&mut self, rest: &mut &'a [u8]) -> Result<Option<Raw<'a>>, WireError> {
        let start = *rest;
        let (&[flags, code], after) = match start.split_first_chunk() {
            Some(header) => header,
            None => return Ok(self.overrun(start)),
        };
        let flags = Flags::from_bits_truncate(flags);
        let header = if flags.contains(Flags::EXTENDED_LENGTH) {
            after
                .split_first_chunk()
                .map(|(length, after)| (usize::from(u16::from_be_bytes(*length)), after))
        } else {
            after
                .split_first()
                .map(|(length, after)| (usize::from(*length), after))
        };
        let value = header.and_then(|(length, after)| after.split_at_checked(length));
        let Some((value, after)) = value else {
            if let Some(row) = row_of(code).filter(|row| row.if_malformed == Treatment::Reset) {
                return Err(unlocatable(row, "it is longer than the list", "4", start));
            }
            return Ok(self.overrun(start));
        };
        *rest = after;
        let whole = start
            .get(..start.len().saturating_sub(after.len()))
            .unwrap_or(start);
        Ok(Some(Raw {
            flags,
            code,
            value,
            whole,
        }))
    }

    fn overrun<T>(&mut self, start: &[u8]) -> Option<T> {
        let (name, code) = match start {
            [_, code, ..] => (name_of(*code), *code),
            _ => ("an attribute".to_owned(), 0),
        };
        self.seen.add(code);
        let reason = format!("{name} is longer than the list of attributes (RFC 7606 §4)");
        self.fault(Treatment::Withdraw, reason, 5, start);
        None
    }

    fn read_known(&mut self, row: &'static Row, raw: &Raw<'a>) -> Result<(), WireError> {
        if !self.seen.add(row.code) {
            return self.duplicate(row.if_malformed, row.name);
        }
        let unwelcome = match row.scope {
            Scope::Any => None,
            Scope::Internal if self.context.internal => None,
            Scope::Internal => Some("came from an external peer"),
            Scope::TwoOctet if !self.context.four_octet_as => None,
            Scope::TwoOctet => Some("came over a session with four-octet AS numbers"),
        };
        if let Some(why) = unwelcome {
            let reason = format!("{} {why} ({})", row.name, row.rule);
            self.fault(Treatment::Discard, reason, row.subcode, raw.whole);
            return Ok(());
        }
        if raw.flags.kind() != row.flags {
            let flags = raw.flags.bits();
            let reason = format!("{} has flags {flags:#04x} (RFC 7606 §3 c)", row.name);
            self.fault(Treatment::Withdraw, reason, 4, raw.whole);
        }
        self.whole = raw.whole;
        match (row.read)(raw.value, self) {
            Ok(()) => {
                if raw.flags.contains(Flags::PARTIAL) {
                    self.attributes.partial |= row.partial;
                }
            }
            Err(Malformed::Unlocatable(why, section)) => {
                return Err(unlocatable(row, why, section, raw.whole));
            }
            Err(Malformed::Length(wanted)) => {
                let found = raw.value.len();
                let reason = format!(
                    "{} has {found} octets, not {wanted} ({})",
                    row.name, row.rule
                );
                self.fault(row.if_malformed, reason, 5, raw.whole);
            }
            Err(Malformed::Value(why)) => {
                let reason = format!("{} {why} ({})", row.name, row.rule);
                self.fault(row.if_malformed, reason, row.subcode, raw.whole);
            }
        }
        Ok(())
    }

    /// RFC 4271 §5, §6.3: an unknown attribute is passed on if transitive, dropped if not, and an error if well-known.
    fn read_unknown(&mut self, raw: &Raw<'a>) -> Result<(), WireError> {
        if !raw.flags.contains(Flags::OPTIONAL) {
            return Err(WireError::UnrecognizedWellKnown {
                code: raw.code,
                attribute: Bytes::copy_from_slice(raw.whole),
            });
        }
        if !self.seen.add(raw.code) {
            return self.duplicate(Treatment::Withdraw, &name_of(raw.code));
        }
        if raw.flags.contains(Flags::TRANSITIVE) {
            let mut unknown = std::mem::take(&mut self.attributes.unknown).into_vec();
            let place = unknown.partition_point(|other| other.code < raw.code);
            unknown.insert(
                place,
                Unknown {
                    flags: (raw.flags.kind() | Flags::PARTIAL).bits(),
                    code: raw.code,
                    value: raw.value.into(),
                },
            );
            self.attributes.unknown = unknown.into();
        }
        Ok(())
    }

    /// RFC 7606 §3 g: of two the first counts, but two lists of prefixes are one too many.
    fn duplicate(&mut self, if_malformed: Treatment, name: &str) -> Result<(), WireError> {
        match (if_malformed, name) {
            (Treatment::Reset, "MP_REACH_NLRI") => {
                Err(WireError::DuplicateMultiprotocol("MP_REACH_NLRI"))
            }
            (Treatment::Reset, _) => Err(WireError::DuplicateMultiprotocol("MP_UNREACH_NLRI")),
            _ => {
                let reason = format!("{name} stands there more than once (RFC 7606 §3 g)");
                self.fault(Treatment::Discard, reason, 1, &[]);
                Ok(())
            }
        }
    }

    /// Notes a fault; of a great many only the first and what is worse than they.
    pub(in crate::wire) fn fault(
        &mut self,
        treatment: Treatment,
        reason: String,
        subcode: u8,
        data: &[u8],
    ) {
        let known = || {
            self.faults
                .iter()
                .any(|other| other.fault.treatment >= treatment)
        };
        if self.faults.len() >= MOST_FAULTS && known() {
            return;
        }
        self.faults.push(AttributeFault {
            fault: Fault { treatment, reason },
            subcode,
            data: Bytes::copy_from_slice(data),
        });
    }
}

fn unlocatable(row: &Row, why: &'static str, section: &'static str, whole: &[u8]) -> WireError {
    WireError::MalformedMultiprotocol {
        name: row.name,
        why,
        section,
        attribute: Bytes::copy_from_slice(whole),
    }
}

/// The name of an attribute, or its number.
fn name_of(code: u8) -> String {
    row_of(code).map_or_else(|| format!("attribute {code}"), |row| row.name.to_owned())
}

/// Where attributes are written to.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Outgoing<'a> {
    pub(in crate::wire) context: &'a Context,
    /// The next hop stands in NEXT_HOP, not in MP_REACH_NLRI.
    pub(in crate::wire) classic: bool,
}

/// Appends all attributes but MP_REACH_NLRI and MP_UNREACH_NLRI, in ascending order of code.
pub(in crate::wire) fn write(attributes: &Attributes, to: &Outgoing<'_>, out: &mut BytesMut) {
    let mut unknown = attributes.unknown.iter().peekable();
    for row in &ROWS {
        while let Some(earlier) = unknown.next_if(|unknown| unknown.code < row.code) {
            write_unknown(earlier, out);
        }
        let welcome = match row.scope {
            Scope::Any => true,
            Scope::Internal => to.context.internal,
            Scope::TwoOctet => !to.context.four_octet_as,
        };
        if !welcome {
            continue;
        }
        let mut flags = row.flags;
        if attributes.partial.intersects(row.partial) {
            flags |= Flags::PARTIAL;
        }
        let start = out.len();
        out.put_slice(&[flags.bits(), row.code, 0]);
        if (row.write)(attributes, to, out) {
            set_length(out, start);
        } else {
            out.truncate(start);
        }
    }
    unknown.for_each(|unknown| write_unknown(unknown, out));
}

fn write_unknown(unknown: &Unknown, out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(&[unknown.flags, unknown.code, 0]);
    out.put_slice(&unknown.value);
    set_length(out, start);
}

/// Fills in the length of the attribute that began at `start` with three octets of header; beyond 255 octets it moves the
/// value by one and sets the Extended Length flag.
fn set_length(out: &mut BytesMut, start: usize) {
    let value = start.saturating_add(3);
    let length = out.len().saturating_sub(value);
    if let Ok(length) = u8::try_from(length) {
        if let Some(octet) = out.get_mut(start.saturating_add(2)) {
            *octet = length;
        }
        return;
    }
    out.put_u8(0);
    let end = out.len();
    out.copy_within(value..end.saturating_sub(1), value.saturating_add(1));
    // What does not fit here fits into no message either: whoever packs messages refuses it by its size.
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    if let Some([flags, _, high, low]) = out.get_mut(start..value.saturating_add(1)) {
        *flags |= Flags::EXTENDED_LENGTH.bits();
        [*high, *low] = length;
    }
}

/// An attribute of its own: header, then value. For MP_REACH_NLRI and MP_UNREACH_NLRI, which hold prefixes.
pub(in crate::wire) fn put_multiprotocol(code: u8, value: &[&[u8]], out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(&[Flags::OPTIONAL.bits(), code, 0]);
    value.iter().for_each(|part| out.put_slice(part));
    set_length(out, start);
}
