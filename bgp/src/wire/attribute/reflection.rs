//! ORIGINATOR_ID and CLUSTER_LIST: what keeps reflected routes from going round (RFC 4456 §8).

use std::net::Ipv4Addr;

use bytes::BufMut;

use super::{
    Partial,
    communities::list_of,
    table::{Flags, Malformed, Row, Scope},
};
use crate::wire::{
    read::{octets, only},
    update::Treatment,
};

pub(super) const ORIGINATOR_ID: Row = Row {
    code: 9,
    name: "ORIGINATOR_ID",
    flags: Flags::OPTIONAL,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.9",
    subcode: 9,
    scope: Scope::Internal,
    partial: Partial::empty(),
    read: |value, draft| {
        let id = only(octets::<4>(value)).map_err(|_| Malformed::Length("4"))?;
        draft.attributes.originator_id = Some(Ipv4Addr::from(id));
        Ok(())
    },
    write: |attributes, _, out| {
        attributes
            .originator_id
            .map(|id| out.put_slice(&id.octets()))
            .is_some()
    },
};

pub(super) const CLUSTER_LIST: Row = Row {
    code: 10,
    name: "CLUSTER_LIST",
    flags: Flags::OPTIONAL,
    if_malformed: Treatment::Withdraw,
    rule: "RFC 7606 §7.10",
    subcode: 9,
    scope: Scope::Internal,
    partial: Partial::empty(),
    read: |value, draft| {
        draft.attributes.cluster_list =
            list_of(value, Ipv4Addr::from).ok_or(Malformed::Length("a multiple of 4 and not 0"))?;
        Ok(())
    },
    write: |attributes, _, out| {
        for id in &attributes.cluster_list {
            out.put_slice(&id.octets());
        }
        !attributes.cluster_list.is_empty()
    },
};
