//! All that we say in a column, captured session after session, and what an independent dissector makes of it.

use anyhow::Result;

use super::settings::{Feature, Settings, THEIRS};
use crate::capture::{Capture, Captured};
use crate::dissect::{
    self,
    AsNumbers::{self, FourOctets},
    Judgement,
};
use crate::lab::Lab;
use crate::scene::Transport;

/// BGP, and BFD over one hop.
const FILTER: &str = "tcp port 179 or udp port 3784";

/// What was said on our network so far, and what is being said.
pub(super) struct Said {
    numbers: AsNumbers,
    now: Capture,
    before: Vec<(AsNumbers, Captured)>,
}

impl Said {
    /// From now on, in a session such as this.
    pub(super) fn listen(lab: &Lab, settings: &Settings) -> Result<Self> {
        Ok(Self {
            numbers: as_numbers(settings),
            now: capture(lab, 0)?,
            before: Vec::new(),
        })
    }

    /// The next session is such as this.
    pub(super) fn next(&mut self, lab: &Lab, settings: &Settings) -> Result<()> {
        let numbers = as_numbers(settings);
        if numbers != self.numbers {
            let next = capture(lab, self.before.len() + 1)?;
            let done = std::mem::replace(&mut self.now, next).stop()?;
            self.before.push((self.numbers, done));
            self.numbers = numbers;
        }
        Ok(())
    }

    /// The values of a field of tshark's in the messages from this address that were captured of late.
    pub(super) fn values(&self, field: &str, from: &str) -> Result<Vec<String>> {
        let filter = format!("{} && {field}", dissect::from(&[from]));
        dissect::values(self.now.file(), &filter, field)
    }

    /// What the dissector makes of all that we have said.
    pub(super) fn judged(mut self) -> Result<Judgement> {
        self.before.push((self.numbers, self.now.stop()?));
        let addresses = |number| [Transport::IPv4, Transport::IPv6].map(|by| by.address(number));
        let [ours, theirs] = [addresses(1), addresses(THEIRS)];
        let from_us = dissect::from(&ours.each_ref().map(String::as_str));
        let to_them = dissect::to(&theirs.each_ref().map(String::as_str));
        let mut judgement = Judgement::default();
        for (numbers, said) in &self.before {
            let judge = |numbers, filter: &str| dissect::judge(said.file(), numbers, filter);
            if *numbers == FourOctets {
                judgement.add(judge(FourOctets, &from_us)?);
            } else {
                // The sources know four octets all the same.
                judgement.add(judge(*numbers, &format!("{from_us} && {to_them}"))?);
                judgement.add(judge(FourOctets, &format!("{from_us} && !{to_them}"))?);
            }
        }
        Ok(judgement)
    }
}

fn capture(lab: &Lab, number: usize) -> Result<Capture> {
    let file = lab.folder.join(format!("said{number}.pcap"));
    Capture::start(lab.node("node1")?, "eth1", FILTER, &file)
}

/// How long AS numbers are in such a session.
fn as_numbers(settings: &Settings) -> AsNumbers {
    if settings.has(Feature::TwoOctetAs) {
        AsNumbers::TwoOctets
    } else {
        FourOctets
    }
}
