//! MULTI_EXIT_DISC and LOCAL_PREF: which way a neighbour, and which way we, prefer (RFC 4271 §5.1.4, §5.1.5).

use bytes::BufMut;
use nom::number::complete::be_u32;

use super::{
    Partial,
    table::{Flags, Malformed, Row, Scope},
};
use crate::wire::{read::only, update::Treatment};

fn four_octets(value: &[u8]) -> Result<u32, Malformed> {
    only(be_u32(value)).map_err(|_| Malformed::Length("4"))
}

pub(super) const MED: Row = Row {
    code: 4,
    name: "MULTI_EXIT_DISC",
    flags: Flags::OPTIONAL,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.4",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::empty(),
    read: |value, draft| {
        draft.attributes.med = Some(four_octets(value)?);
        Ok(())
    },
    write: |attributes, _, out| attributes.med.map(|med| out.put_u32(med)).is_some(),
};

pub(super) const LOCAL_PREF: Row = Row {
    code: 5,
    name: "LOCAL_PREF",
    flags: Flags::WELL_KNOWN,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.5",
    subcode: 9,
    scope: Scope::Internal,
    partial: Partial::empty(),
    read: |value, draft| {
        draft.attributes.local_pref = Some(four_octets(value)?);
        Ok(())
    },
    write: |attributes, _, out| {
        attributes
            .local_pref
            .map(|preference| out.put_u32(preference))
            .is_some()
    },
};
