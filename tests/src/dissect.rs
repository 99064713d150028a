//! An independent judge of what we send: tshark's dissectors over captures.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::byhand::LONGEST;
use crate::shell;

/// What parts the values of a field that a frame has more than once.
const BETWEEN: char = '~';

/// How long AS numbers are in the sessions of a capture (RFC 6793). Left to itself the dissector guesses, and a path that ends its
/// message guesses wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsNumbers {
    /// One side does not offer more.
    TwoOctets,
    /// Both sides offer them.
    FourOctets,
}

/// Rows of fields of the frames of `capture` that `filter` selects.
fn fields(
    capture: &Path,
    numbers: AsNumbers,
    filter: &str,
    fields: &[&str],
) -> Result<Vec<Vec<String>>> {
    let length = match numbers {
        AsNumbers::TwoOctets => "bgp.asn_len:2 octet",
        AsNumbers::FourOctets => "bgp.asn_len:4 octet",
    };
    let mut command = Command::new("tshark");
    command
        .args(["-n", "-o", length, "-r"])
        .arg(capture)
        .args(["-Y", filter, "-T", "fields", "-E"])
        .arg(format!("aggregator={BETWEEN}"));
    for field in fields {
        command.args(["-e", field]);
    }
    let rows = shell::run(&mut command)?;
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    Ok(rows.lines().map(row).collect())
}

/// Selects frames that come from one of these addresses.
#[must_use]
pub fn from(addresses: &[&str]) -> String {
    of("src", addresses)
}

/// Selects frames that go to one of these addresses.
#[must_use]
pub fn to(addresses: &[&str]) -> String {
    of("dst", addresses)
}

fn of(end: &str, addresses: &[&str]) -> String {
    let one = |address: &&str| {
        let family = if address.contains(':') { "ipv6" } else { "ip" };
        format!("{family}.{end} == {address}")
    };
    let all: Vec<String> = addresses.iter().map(one).collect();
    format!("({})", all.join(" || "))
}

/// What the dissector makes of frames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What is malformed, and errors of an expert's.
    pub faults: Vec<String>,
    /// How many messages of each kind it has looked at: BGP's by their type, and `BFD`.
    pub kinds: BTreeMap<&'static str, usize>,
}

impl Judgement {
    /// Takes up what was made of other frames.
    pub fn add(&mut self, other: Self) {
        self.faults.extend(other.faults);
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
    }
}

/// The severity of an expert's error.
const ERROR: &str = "8388608";

/// Judges the BGP and BFD in the frames that a filter selects.
pub fn judge(capture: &Path, numbers: AsNumbers, filter: &str) -> Result<Judgement> {
    let columns = [
        "frame.number",
        "_ws.expert.severity",
        "_ws.expert.message",
        "_ws.col.Info",
        "frame.protocols",
        "bgp.type",
    ];
    let filter = format!("{filter} && (bgp || bfd)");
    let mut judgement = Judgement::default();
    for row in fields(capture, numbers, &filter, &columns)? {
        let [frame, severities, messages, info, protocols, types] = row.as_slice() else {
            bail!("other fields: {row:?}");
        };
        let errors: Vec<&str> = severities
            .split(BETWEEN)
            .zip(messages.split(BETWEEN))
            .filter(|(severity, message)| *severity == ERROR && !is_only_extended(message))
            .map(|(_, message)| message)
            .collect();
        if !errors.is_empty() {
            let errors = errors.join(", ");
            let fault = format!("frame {frame}: {errors}: {info}");
            judgement.faults.push(fault);
        }
        let bfd = protocols.ends_with(":bfd").then_some("BFD");
        let types = types.split(BETWEEN).filter(|kind| !kind.is_empty());
        for kind in types.map(name_of).chain(bfd) {
            *judgement.kinds.entry(kind).or_default() += 1;
        }
    }
    Ok(judgement)
}

/// A type of message by its name.
fn name_of(kind: &str) -> &'static str {
    match kind {
        "1" => "OPEN",
        "2" => "UPDATE",
        "3" => "NOTIFICATION",
        "4" => "KEEPALIVE",
        "5" => "ROUTE-REFRESH",
        _ => "something else",
    }
}

/// The dissector of Debian 12 finds fault with every message of more than 4,096 octets (and reads it): it does not know RFC 8654.
fn is_only_extended(message: &str) -> bool {
    let length = message.strip_prefix("Length is invalid ");
    let length = length.and_then(|length| length.parse::<u16>().ok());
    length.is_some_and(|length| usize::from(length) > LONGEST)
}

/// The values of a field in the frames that a filter selects.
pub fn values(capture: &Path, filter: &str, field: &str) -> Result<Vec<String>> {
    let rows = fields(capture, AsNumbers::FourOctets, filter, &[field])?;
    let values = rows
        .iter()
        .flatten()
        .flat_map(|values| values.split(BETWEEN));
    Ok(values
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{AsNumbers::FourOctets, Judgement, from, judge};
    use crate::byhand::{Update, attribute, keepalive, nlri};

    /// A capture of one TCP segment from 10.0.0.1 to port 179 of 10.0.0.2 with these octets.
    fn capture(name: &str, octets: &[u8]) -> PathBuf {
        let total = u16::try_from(40 + octets.len()).expect("short");
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(50_000_u16.to_be_bytes());
        packet.extend(179_u16.to_be_bytes());
        packet.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(octets);
        let length = u32::try_from(packet.len()).expect("short");
        // pcap 2.4 of raw IP packets.
        let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend(65_535_u32.to_le_bytes());
        file.extend(101_u32.to_le_bytes());
        file.extend([0; 8]);
        file.extend(length.to_le_bytes());
        file.extend(length.to_le_bytes());
        file.extend(packet);
        let path = std::env::temp_dir().join(format!("dissect-{}-{name}.pcap", std::process::id()));
        std::fs::write(&path, file).expect("written");
        path
    }

    /// What is wrong with these octets.
    fn judged(name: &str, octets: &[u8]) -> Option<Vec<String>> {
        if !std::path::Path::new("/usr/bin/tshark").exists() {
            println!("skipped: there is no tshark here (tests/run installs it)");
            return None;
        }
        let path = capture(name, octets);
        let [it, other] = ["10.0.0.1", "10.0.0.2"]
            .map(|address| judge(&path, FourOctets, &from(&[address])).expect("judged"));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(other, Judgement::default(), "it sent nothing");
        assert!(it.kinds.values().sum::<usize>() > 0, "{it:?}");
        Some(it.faults)
    }

    #[test]
    fn what_is_right_is_found_right() {
        let update = Update::announcing(&[65_001], [10, 0, 0, 1].into())
            .prefixes(&nlri("10.244.1.0".parse().expect("address"), 24));
        let octets = [keepalive(), update.octets()].concat();
        assert_eq!(
            judged("right", &octets).unwrap_or_default(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_attribute_that_runs_over_its_list_is_found() {
        let mut update = Update::announcing(&[65_001], [10, 0, 0, 1].into());
        // It says four octets and has one.
        update.attributes.extend([0x80, 4, 4, 0]);
        if let Some(found) = judged("overrun", &update.octets()) {
            assert!(!found.is_empty());
        }
    }

    #[test]
    fn a_prefix_of_thirty_three_bits_is_found() {
        let update =
            Update::announcing(&[65_001], [10, 0, 0, 1].into()).prefixes(&[33, 10, 244, 1, 0, 0]);
        if let Some(found) = judged("prefix", &update.octets()) {
            assert!(!found.is_empty());
        }
    }

    #[test]
    fn an_origin_of_two_octets_is_found() {
        let update = Update {
            attributes: attribute(0x40, 1, &[0, 0]),
            ..Update::default()
        };
        if let Some(found) = judged("origin", &update.octets()) {
            assert!(!found.is_empty());
        }
    }
}
