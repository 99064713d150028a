//! The codec at its edges: headers, OPENs that are refused, notifications, two-octet AS numbers, packing, text.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

use std::net::IpAddr;

use bgp::{
    prefix::{Families, Family, Prefix},
    status::SessionState,
    wire::{
        AsPath, Attributes, Cease, Community, Context, ExtendedCommunity, HEADER, Kind,
        LargeCommunity, Limit, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, Message, Nlri, Notification,
        SegmentKind, Update, WireError, frame,
        update::{Unsendable, announce, withdraw},
    },
};
use bytes::{Bytes, BytesMut};

mod a_header;
mod a_notification;
mod a_refresh;
mod an_as_path;
mod an_open;
mod packing;
mod text;
mod two_octet_as_numbers;

const CONTEXT: Context = Context {
    families: Families::all(),
    four_octet_as: true,
    add_path_receive: Families::empty(),
    add_path_send: Families::empty(),
    extended_message: false,
    extended_next_hop: false,
    internal: false,
};

fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + HEADER).unwrap().to_be_bytes();
    [&[0xff; 16], &length[..], &[kind], body].concat()
}

fn header(length: u16, kind: u8) -> Vec<u8> {
    [&[0xff; 16], &length.to_be_bytes()[..], &[kind]].concat()
}

#[track_caller]
fn refused(octets: &[u8], limit: Limit, words: &str, data: &[u8]) {
    let error = match frame(octets, limit) {
        Ok(Some(found)) => found.message(&CONTEXT).unwrap_err(),
        Ok(None) => panic!("waits for more"),
        Err(error) => error,
    };
    let notification = error.notification();
    assert_eq!(notification.to_string(), words);
    assert_eq!(*notification.data, *data);
}
