//! Messages written by hand from the RFCs, and what they mean: read as that, and written as those octets again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

use bgp::{
    prefix::Families,
    wire::{Context, Limit, frame},
};
use bytes::BytesMut;

/// A block of lines: `context:`, `hex:` (lines that begin with a space go on), `means:`.
fn check(text: &str) {
    let mut checked = 0;
    for block in text.split("\n\n") {
        let (mut context, mut hex, mut means) = (String::new(), String::new(), "");
        for line in block.lines() {
            match line.split_once(": ") {
                _ if line.starts_with('#') => {}
                _ if line.starts_with(' ') => hex.push_str(line),
                Some(("context", words)) => context = words.to_owned(),
                Some(("hex", octets)) => hex.push_str(octets),
                Some(("means", words)) => means = words,
                _ => panic!("{line}"),
            }
        }
        let context = context_of(&context);
        let octets = octets(&hex);
        let found = frame(&octets, Limit::Standard)
            .unwrap_or_else(|error| panic!("{means}: {error}"))
            .unwrap_or_else(|| panic!("{means}: {} octets are not all", octets.len()));
        assert_eq!(found.octets().len(), octets.len(), "{means}");
        let message = found.message(&context).unwrap().expect(means);
        assert_eq!(message.to_string(), means);
        let mut written = BytesMut::new();
        assert_eq!(message.write(&context, &mut written), Ok(1));
        assert_eq!(written, octets, "{means}");
        checked += 1;
    }
    assert!(checked > 4);
}

fn context_of(words: &str) -> Context {
    let has = |word: &str| words.split(' ').any(|other| other == word);
    let add_path = if has("add-path") {
        Families::all()
    } else {
        Families::empty()
    };
    Context {
        families: Families::all(),
        four_octet_as: has("four-octet"),
        add_path_receive: add_path,
        add_path_send: add_path,
        extended_message: false,
        extended_next_hop: has("extended-next-hop"),
        internal: has("internal"),
    }
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: String = hex
        .replace("marker", &"ff".repeat(16))
        .split_whitespace()
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect(hex))
        .collect()
}

#[test]
fn opens_are_read_and_written_as_in_the_rfcs() {
    check(include_str!("golden/open.txt"));
}

#[test]
fn updates_are_read_and_written_as_in_the_rfcs() {
    check(include_str!("golden/update.txt"));
}

#[test]
fn other_messages_are_read_and_written_as_in_the_rfcs() {
    check(include_str!("golden/others.txt"));
}
