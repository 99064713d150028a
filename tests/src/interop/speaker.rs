//! What every other speaker must be able to do for the matrix.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::away::Ended;
use super::settings::{Feature, SOURCES, Settings, THEIRS};
use crate::byhand::{Open, Peer, Update, nlri};
use crate::container::Container;
use crate::lab::Lab;
use crate::scene::Transport;

/// The station of the other speaker.
pub(super) const PEER: &str = "peer";
/// The station of the speakers by hand.
pub(super) const HANDS: &str = "hands";

/// The next hops of each prefix, in order.
pub type Learned = BTreeMap<String, Vec<String>>;

/// What an announced route carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// Nothing special.
    None,
    /// A community, an extended and a large one: 65051:7, rt:65051:7, 65051:1:2.
    Communities,
}

/// A speaker in its lab, and the session that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Site<'lab> {
    /// The lab.
    pub lab: &'lab Lab,
    /// The session.
    pub settings: &'lab Settings,
}

impl<'lab> Site<'lab> {
    /// Where the speaker runs.
    pub fn container(&self) -> Result<&'lab Container> {
        self.lab.node(PEER)
    }

    /// Writes a file of its configuration.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        std::fs::write(self.container()?.path(path), text).with_context(|| path.to_owned())
    }

    /// Reads one of its files; empty if there is none.
    pub(super) fn read(&self, path: &str) -> Result<String> {
        Ok(std::fs::read_to_string(self.container()?.path(path)).unwrap_or_default())
    }

    /// Starts its daemon.
    pub(super) fn spawn(&self, words: &[&str]) -> Result<()> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.lab.spawn(PEER, &words)
    }

    /// What its daemon has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.lab.said(PEER)
    }
}

/// The speaker's own address of a prefix's family: the next hop of what it announces.
pub(super) fn own_next_hop(prefix: &str) -> String {
    if is_ipv6(prefix) {
        Transport::IPv6.address(THEIRS)
    } else {
        Transport::IPv4.address(THEIRS)
    }
}

pub(super) fn is_ipv6(prefix: &str) -> bool {
    prefix.contains(':')
}

/// The prefixes of either family.
pub(super) fn by_family(prefixes: &[String]) -> [Vec<&str>; 2] {
    let (six, four) = prefixes
        .iter()
        .map(String::as_str)
        .partition(|prefix| is_ipv6(prefix));
    [four, six]
}

/// One other speaker.
pub trait Speaker: Sync {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// The command that has it say its version.
    fn version(&self) -> [&'static str; 2];

    /// Why it cannot do this, if it cannot.
    fn lacks(&self, feature: Feature) -> Option<&'static str>;

    /// What is wrong with the routes it tells of the family that a session does not run over, if anything.
    fn other_family(&self) -> Option<&'static str> {
        None
    }

    /// What it says when it cannot read a shutdown communication, and why it cannot, if so.
    fn misreads_words(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Why the routes of who ends in this way do not stay, if they do not.
    fn forgets(&self, _ended: Ended) -> Option<&'static str> {
        None
    }

    /// Why its End-of-RIB may come before its routes when it is back, so that these are gone for a moment or are not, as it happens.
    fn tells_late(&self) -> Option<&'static str> {
        None
    }

    /// Starts it with that session and these prefixes to originate, and returns once it answers.
    fn start(&self, site: &Site<'_>, prefixes: &[&str]) -> Result<()>;

    /// Has it originate more prefixes.
    fn originate(&self, site: &Site<'_>, prefixes: &[String], marks: Marks) -> Result<()>;

    /// How many prefixes of a family it can be made to originate in a reasonable time; and why no more, where they are few.
    fn many(&self) -> (u16, Option<&'static str>) {
        (500, None)
    }

    /// Has it originate these no more.
    fn withdraw(&self, site: &Site<'_>, prefixes: &[String]) -> Result<()>;

    /// What it has learned from us.
    fn learned(&self, site: &Site<'_>) -> Result<Learned>;

    /// A route in its own words, with everything it knows of it.
    fn shown(&self, site: &Site<'_>, prefix: &str) -> Result<String>;

    /// Is the session with us up, as it sees it?
    fn established(&self, site: &Site<'_>) -> Result<bool>;

    /// Why it never asks us for all routes again, if it does not.
    fn never_asks(&self) -> Option<&'static str> {
        None
    }

    /// What it says instead of telling us its routes again, and why that is, if it does not.
    fn never_tells_again(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Has it ask us for all routes again.
    fn ask_refresh(&self, site: &Site<'_>) -> Result<()>;

    /// Has it end the session for good, with these words.
    fn shut_down(&self, site: &Site<'_>, words: &str) -> Result<()>;

    /// What it has written down about its sessions.
    fn log(&self, site: &Site<'_>) -> Result<String> {
        Ok(site.said())
    }

    /// Has it know two paths of a prefix and tell us both. What is handed back keeps them alive.
    fn two_paths(&self, site: &Site<'_>, prefix: (&str, u8)) -> Result<Vec<Peer>> {
        two_paths(site.lab, &Transport::IPv4.address(THEIRS), 0, prefix)
    }
}

/// The speakers by hand tell whoever has the address `to` of a prefix, in sessions of this hold time.
pub fn two_paths(
    lab: &Lab,
    to: &str,
    hold: u16,
    (address, length): (&str, u8),
) -> Result<Vec<Peer>> {
    SOURCES
        .into_iter()
        .map(|(from, asn)| {
            let own = from.parse()?;
            let mut peer = Peer::dial(lab.node(HANDS)?, from.parse()?, to.parse()?)?;
            peer.establish(&Open {
                hold,
                ..Open::of(asn, own)
            })?;
            let update = Update::announcing(&[asn], own).prefixes(&nlri(address.parse()?, length));
            peer.send(&update.octets())?;
            Ok(peer)
        })
        .collect()
}
