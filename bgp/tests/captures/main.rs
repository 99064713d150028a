//! What routers really sent: captures and collectors' files in `shared/data` beside the repository, whose README says what
//! other tools found in them. `ROUTELET_DATA` names another place. Without the data these tests say that they are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

use std::{
    collections::HashSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use bgp::{
    prefix::{Families, Prefix},
    wire::{
        Context, Kind, Limit, Message, Update, WireError, frame,
        update::{Fault, Treatment},
    },
};

mod bytes;
mod mrt;
mod pcap;
mod tables;

use tables::{CAPTURED, COLLECTED, Found, HOSTILE, Seen};

/// The directory of the data, or `None` after saying that `test` is skipped.
fn data(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("ROUTELET_DATA").map_or(beside, PathBuf::from);
    if data.is_dir() {
        return Some(data);
    }
    println!(
        "skipped: {test}: there is no shared/data beside the repository, and no ROUTELET_DATA"
    );
    None
}

fn unpacked(path: &Path) -> Vec<u8> {
    let octets = fs::read(path).unwrap();
    let mut plain = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            flate2::read::MultiGzDecoder::new(&*octets)
                .read_to_end(&mut plain)
                .unwrap();
        }
        Some("bz2") => {
            bzip2::read::MultiBzDecoder::new(&*octets)
                .read_to_end(&mut plain)
                .unwrap();
        }
        _ => plain = octets,
    }
    plain
}

fn context(four_octet_as: bool, add_path: bool) -> Context {
    let add_path = if add_path {
        Families::all()
    } else {
        Families::empty()
    };
    Context {
        families: Families::all(),
        four_octet_as,
        add_path_receive: add_path,
        add_path_send: add_path,
        extended_message: true,
        extended_next_hop: true,
        internal: true,
    }
}

fn update(message: &[u8], context: &Context) -> Result<Update, WireError> {
    let found = frame(message, Limit::Extended)?.expect("a whole message");
    match found.message(context)? {
        Some(Message::Update(update)) => Ok(update),
        other => panic!("{other:?}"),
    }
}

#[test]
fn collectors_files_hold_what_bgpdump_finds_in_them() {
    let Some(data) = data("collectors_files_hold_what_bgpdump_finds_in_them") else {
        return;
    };
    for (name, expected) in COLLECTED {
        let file = mrt::read(&unpacked(&data.join("mrt").join(name)));
        let mut found = Found {
            records: file.records,
            state_changes: file.state_changes,
            ..Found::default()
        };
        let mut distinct = HashSet::<Prefix>::new();
        for recorded in &file.updates {
            let context = context(recorded.four_octet_as, recorded.add_path);
            let Ok(update) = update(&recorded.message, &context) else {
                found.refused += 1;
                continue;
            };
            for announced in &update.announced {
                found.announced += announced.nlri.len();
                distinct.extend(announced.nlri.iter().map(|nlri| nlri.prefix));
            }
            let worst = update.faults.iter().map(|fault| fault.treatment).max();
            if worst >= Some(Treatment::Withdraw) {
                found.treated_as_withdrawn += update.withdrawn.len();
            } else {
                found.withdrawn += update.withdrawn.len();
            }
        }
        found.prefixes = distinct.len();
        assert_eq!((found, file.tail), (expected, 0), "{name}");
    }
}

/// The whole BGP messages in a run of a stream, those that BMP carries in its own (RFC 7854 §4) among them.
fn messages(run: &[u8], is_bmp: bool) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = run;
    if is_bmp {
        while let [3, a, b, c, d, kind, body @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some(body) = body.get(..length - 6) else {
                break;
            };
            let inside = match kind {
                0 => body.get(42..),
                3 => body.get(42 + 20..),
                2 if matches!(body[42], 1 | 3) => body.get(43..),
                _ => None,
            };
            messages.extend(self::messages(inside.unwrap_or_default(), false));
            rest = &rest[length..];
        }
        return messages;
    }
    while rest.len() >= 19 {
        // A capture may begin in the middle of a message.
        if rest[..16] != [0xff; 16] {
            rest = &rest[1..];
            continue;
        }
        // One that the capture cuts off is not there; one that claims less than a header is all header.
        let length = usize::from(u16::from_be_bytes([rest[16], rest[17]])).max(19);
        let Some((message, after)) = rest.split_at_checked(length) else {
            break;
        };
        messages.push(message.to_vec());
        rest = after;
    }
    messages
}

/// How a capture's messages read in the context that suits each best: what was agreed is often not in the capture.
fn seen(captured: &[Vec<u8>]) -> Seen {
    let mut seen = Seen::default();
    for message in captured {
        let Some(kind) = message.get(18).and_then(|kind| Kind::from_octet(*kind)) else {
            continue;
        };
        seen[kind as usize - 1] += 1;
        let faults = [(true, false), (false, false), (true, true), (false, true)]
            .map(|(four, add_path)| context(four, add_path))
            .map(|context| {
                match frame(message, Limit::Extended)?.map(|found| found.message(&context)) {
                    Some(Ok(Some(Message::Update(update)))) => Ok(update.faults),
                    Some(Err(error)) => Err(error),
                    // What is cut short waits for more.
                    _ => Ok(Vec::new()),
                }
            });
        // What the best of them has to say: no error, and no fault that costs a route.
        let worst = |faults: &Vec<Fault>| faults.iter().map(|fault| fault.treatment).max();
        match faults.iter().flatten().map(worst).min() {
            None => seen[5] += 1,
            Some(worst) => seen[6] += usize::from(worst >= Some(Treatment::Withdraw)),
        }
    }
    seen
}

fn captured(path: &Path) -> Vec<Vec<u8>> {
    let is_bmp = path
        .parent()
        .is_some_and(|directory| directory.ends_with("bmp"));
    pcap::streams(&unpacked(path))
        .iter()
        .flat_map(|stream| &stream.runs)
        .flat_map(|run| messages(run, is_bmp))
        .collect()
}

#[test]
fn captures_hold_what_tshark_finds_in_them() {
    let Some(data) = data("captures_hold_what_tshark_finds_in_them") else {
        return;
    };
    for (name, expected) in CAPTURED {
        assert_eq!(seen(&captured(&data.join(name))), expected, "{name}");
    }
}

#[test]
fn hostile_captures_do_no_harm() {
    let Some(data) = data("hostile_captures_do_no_harm") else {
        return;
    };
    for name in HOSTILE {
        let messages = captured(&data.join(name));
        assert!(!messages.is_empty(), "{name}");
        assert!(seen(&messages)[5] > 0, "{name}: something is refused");
    }
}
