//! UPDATE: routes that come, routes that go (RFC 4271 §4.3, RFC 4760, RFC 7606).

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Attributes, Nlri};
use crate::prefix::Family;

mod read;
pub(in crate::wire) mod write;

pub(crate) use write::table_attributes;
pub use write::{Unsendable, announce, end_of_rib, withdraw};

/// What an UPDATE says once every rule of RFC 7606 is applied: a prefix stands in at most one of the two lists (announced
/// wins over withdrawn, RFC 4271 §4.3), and what must be treated as withdrawn stands in `withdrawn`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Routes that are no longer feasible, of any family.
    pub withdrawn: Vec<Nlri>,
    /// Routes by attribute set: none or one, and two where NLRI and MP_REACH_NLRI stand in one message.
    pub announced: SmallVec<[Announced; 1]>,
    /// The message is the End-of-RIB marker of this family (RFC 4724 §2) and nothing else.
    pub end_of_rib: Option<Family>,
    /// What was wrong with it and was survived (RFC 7606), in the order of the message.
    pub faults: Vec<Fault>,
}

impl Update {
    /// The family of its prefixes, those withdrawn first; `None`: it has none.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        let announced = self.announced.iter().flat_map(|announced| &announced.nlri);
        let mut nlri = self.withdrawn.iter().chain(announced);
        let first = nlri.next().map(|nlri| nlri.prefix.family());
        first.or(self.end_of_rib)
    }
}

/// Prefixes that share one set of attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The attributes, with the next hop of these prefixes. Shared where a reader has just seen the same octets.
    pub attributes: Arc<Attributes>,
    /// The prefixes, all of one family.
    pub nlri: Vec<Nlri>,
}

/// A fault in an UPDATE that did not end the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was done about it.
    pub treatment: Treatment,
    /// In words, naming the attribute and the rule: `MULTI_EXIT_DISC has 3 octets, not 4 (RFC 7606 §7.4)`.
    pub reason: String,
}

/// What RFC 7606 §2 says to do about a fault, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// Attribute discard.
    Discard,
    /// Treat-as-withdraw.
    Withdraw,
    /// Session reset.
    Reset,
}
