//! ATOMIC_AGGREGATE and AGGREGATOR: that routes were joined, and by whom (RFC 4271 §5.1.6, §5.1.7, RFC 6793 §4.2).

use std::net::Ipv4Addr;

use bytes::BufMut;
use nom::{
    Parser,
    combinator::map,
    number::complete::{be_u16, be_u32},
};

use super::{
    Partial,
    table::{Flags, Malformed, Row, Scope},
};
use crate::wire::{AS_TRANS, read::only, update::Treatment};

/// AGGREGATOR: who formed the aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// Its AS number.
    pub asn: u32,
    /// Its router ID.
    pub id: Ipv4Addr,
}

/// Eight octets, of which the AS takes four.
pub(super) fn four_octet(value: &[u8]) -> Result<Aggregator, Malformed> {
    let (asn, id) = only((be_u32, be_u32).parse(value)).map_err(|_| Malformed::Length("8"))?;
    not_zero(asn, id)
}

fn two_octet(value: &[u8]) -> Result<Aggregator, Malformed> {
    let (asn, id) =
        only((map(be_u16, u32::from), be_u32).parse(value)).map_err(|_| Malformed::Length("6"))?;
    not_zero(asn, id)
}

fn not_zero(asn: u32, id: u32) -> Result<Aggregator, Malformed> {
    if asn == 0 {
        return Err(Malformed::Value("holds AS 0, RFC 7607 §2"));
    }
    Ok(Aggregator { asn, id: id.into() })
}

pub(super) const ATOMIC_AGGREGATE: Row = Row {
    code: 6,
    name: "ATOMIC_AGGREGATE",
    flags: Flags::WELL_KNOWN,
    if_malformed: Treatment::Discard,
    rule: "RFC 7606 §7.6",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::empty(),
    read: |value, draft| match value {
        [] => {
            draft.attributes.atomic_aggregate = true;
            Ok(())
        }
        _ => Err(Malformed::Length("0")),
    },
    write: |attributes, _, _| attributes.atomic_aggregate,
};

pub(super) const AGGREGATOR: Row = Row {
    code: 7,
    name: "AGGREGATOR",
    flags: Flags::OPTIONAL_TRANSITIVE,
    if_malformed: Treatment::Discard,
    rule: "RFC 7606 §7.7",
    subcode: 9,
    scope: Scope::Any,
    partial: Partial::AGGREGATOR,
    read: |value, draft| {
        draft.attributes.aggregator = Some(if draft.context.four_octet_as {
            four_octet(value)?
        } else {
            two_octet(value)?
        });
        Ok(())
    },
    write: |attributes, to, out| {
        let Some(aggregator) = attributes.aggregator else {
            return false;
        };
        if to.context.four_octet_as {
            out.put_u32(aggregator.asn);
        } else {
            out.put_u16(u16::try_from(aggregator.asn).unwrap_or(AS_TRANS));
        }
        out.put_slice(&aggregator.id.octets());
        true
    },
};
