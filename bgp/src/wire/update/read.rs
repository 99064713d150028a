//! From octets to routes and faults: the rules of RFC 7606 that concern the message as a whole.

use std::{mem, sync::Arc};

use smallvec::SmallVec;

use super::{Announced, Fault, Treatment, Update};
use crate::{
    prefix::Family,
    wire::{
        Context, Nlri, WireError,
        attribute::{AttributeFault, Draft},
        nlri::{self, PathIds},
        read::{Short, sized_by_u16},
    },
};

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MP_UNREACH_NLRI: u8 = 15;

/// Prefixes of one message by where they stand.
#[derive(Debug, Default)]
struct Prefixes {
    withdrawn: Vec<Nlri>,
    /// In the NLRI field.
    classic: Vec<Nlri>,
    /// In MP_REACH_NLRI.
    multiprotocol: Vec<Nlri>,
    /// There are reachable ones, of whatever family.
    reachable: bool,
}

impl Update {
    /// Reads the body of a message.
    pub(in crate::wire) fn read(body: &[u8], context: &Context) -> Result<Self, WireError> {
        let too_long = |_: nom::Err<Short>| WireError::MalformedAttributeList;
        let (rest, withdrawn) = sized_by_u16(body).map_err(too_long)?;
        let (nlri, block) = sized_by_u16(rest).map_err(too_long)?;
        let mut draft = Draft::new(context);
        draft.read(block)?;
        let mut prefixes = Prefixes::read(withdrawn, nlri, &mut draft)?;
        require(&prefixes, &mut draft);

        let worst = draft.faults.iter().map(|fault| fault.fault.treatment).max();
        if worst >= Some(Treatment::Withdraw) {
            return prefixes.all_withdrawn(&mut draft);
        }
        let end_of_rib = end_of_rib(body, &draft);
        prefixes.drop_what_is_not_unicast(&mut draft);
        Ok(prefixes.update(&mut draft, end_of_rib))
    }
}

/// RFC 4724 §2: an UPDATE with no content at all, or with nothing but an empty MP_UNREACH_NLRI.
fn end_of_rib(body: &[u8], draft: &Draft<'_>) -> Option<Family> {
    let families = draft.context.families;
    if body == [0; 4] {
        return Some(Family::IPv4).filter(|family| families.has(*family));
    }
    // Lengths of both lists of prefixes, then flags, code, length, AFI, SAFI. One more octet if the length is extended.
    let nothing_else = matches!(body.len(), 10 | 11) && draft.seen.nothing_but(MP_UNREACH_NLRI);
    draft
        .unreach
        .filter(|unreach| nothing_else && unreach.nlri.is_empty())
        .and_then(|unreach| unreach.family)
}

/// What must be there where prefixes are announced (RFC 7606 §3 d), and a next hop that can be one (RFC 4271 §6.3).
fn require(prefixes: &Prefixes, draft: &mut Draft<'_>) {
    if !prefixes.reachable {
        return;
    }
    let next_hop = (!prefixes.classic.is_empty()).then_some((NEXT_HOP, "NEXT_HOP"));
    for (code, name) in [(ORIGIN, "ORIGIN"), (AS_PATH, "AS_PATH")]
        .into_iter()
        .chain(next_hop)
    {
        if !draft.seen.has(code) {
            let reason = format!("{name} is missing (RFC 7606 §3 d)");
            draft.fault(Treatment::Withdraw, reason, 3, &[code]);
        }
    }
    let bad_classic = draft.bad_next_hop && !prefixes.classic.is_empty();
    let bad_multiprotocol = draft
        .reach
        .is_some_and(|reach| reach.family.is_some() && reach.next_hop.is_none());
    for (bad, name) in [
        (bad_classic, "NEXT_HOP"),
        (bad_multiprotocol, "MP_REACH_NLRI"),
    ] {
        if bad {
            let reason = format!("{name} has a next hop no host can have (RFC 4271 §6.3)");
            draft.fault(Treatment::Withdraw, reason, 8, &[]);
        }
    }
}

impl Prefixes {
    /// Every list of the message. One that cannot be told apart ends the session (RFC 7606 §3 j).
    fn read(withdrawn: &[u8], nlri: &[u8], draft: &mut Draft<'_>) -> Result<Self, WireError> {
        let context = draft.context;
        let list = |octets: &[u8], family: Family| {
            let ids = PathIds::from(context.add_path_receive.has(family));
            nlri::read(octets, family, ids)
        };
        let mut prefixes = Self {
            reachable: !nlri.is_empty(),
            ..Self::default()
        };
        if !withdrawn.is_empty() {
            prefixes.withdrawn = list(withdrawn, Family::IPv4)
                .map_err(|_| WireError::InvalidNetworkField("withdrawn routes"))?;
        }
        if !nlri.is_empty() {
            prefixes.classic =
                list(nlri, Family::IPv4).map_err(|_| WireError::InvalidNetworkField("prefixes"))?;
        }
        if !context.families.has(Family::IPv4) {
            let ignored = prefixes
                .withdrawn
                .len()
                .saturating_add(prefixes.classic.len());
            if ignored > 0 {
                let reason = format!(
                    "{ignored} IPv4 prefixes, which were not agreed on, ignored (RFC 4760 §7)"
                );
                draft.fault(Treatment::Discard, reason, 9, &[]);
            }
            prefixes.withdrawn.clear();
            prefixes.classic.clear();
        }
        if let Some(unreach) = draft.unreach
            && let Some(family) = unreach.family
        {
            let list = list(unreach.nlri, family)
                .map_err(|_| malformed("MP_UNREACH_NLRI", unreach.whole))?;
            if prefixes.withdrawn.is_empty() {
                prefixes.withdrawn = list;
            } else {
                prefixes.withdrawn.extend(list);
            }
        }
        if let Some(reach) = draft.reach {
            prefixes.reachable |= !reach.nlri.is_empty();
            if let Some(family) = reach.family {
                prefixes.multiprotocol = list(reach.nlri, family)
                    .map_err(|_| malformed("MP_REACH_NLRI", reach.whole))?;
            }
        }
        Ok(prefixes)
    }

    /// Treat-as-withdraw; without a reachable prefix it cannot be trusted that all were found (RFC 7606 §5.2).
    fn all_withdrawn(mut self, draft: &mut Draft<'_>) -> Result<Update, WireError> {
        if !self.reachable && !draft.seen.nothing_but(MP_UNREACH_NLRI) {
            let worst = draft
                .faults
                .drain(..)
                .max_by_key(|fault| fault.fault.treatment);
            return Err(worst.map_or(WireError::MalformedAttributeList, |fault| {
                WireError::MalformedWithoutNlri {
                    reason: fault.fault.reason,
                    subcode: fault.subcode,
                    data: fault.data,
                }
            }));
        }
        self.withdrawn.append(&mut self.classic);
        self.withdrawn.append(&mut self.multiprotocol);
        Ok(Update {
            withdrawn: self.withdrawn,
            faults: said(&mut draft.faults),
            ..Update::default()
        })
    }

    fn drop_what_is_not_unicast(&mut self, draft: &mut Draft<'_>) {
        let lists = [&mut self.classic, &mut self.multiprotocol];
        let mut ignored = lists
            .into_iter()
            .flat_map(|list| {
                // Nearly always there is nothing to take out.
                let any = list.iter().any(|nlri| nlri::is_not_unicast(&nlri.prefix));
                any.then(|| list.extract_if(.., |nlri| nlri::is_not_unicast(&nlri.prefix)))
            })
            .flatten();
        if let Some(first) = ignored.next() {
            let count = ignored.count().saturating_add(1);
            let reason = format!(
                "{count} prefixes that are not unicast, the first of them {}, ignored (RFC 4271 §6.3)",
                first.prefix
            );
            draft.fault(Treatment::Discard, reason, 10, &[]);
        }
    }

    fn update(mut self, draft: &mut Draft<'_>, end_of_rib: Option<Family>) -> Update {
        self.announced_wins();
        let mut announced = SmallVec::new();
        if !self.multiprotocol.is_empty() {
            let mut attributes = if self.classic.is_empty() {
                mem::take(&mut draft.attributes)
            } else {
                draft.attributes.clone()
            };
            attributes.next_hop = draft.reach.and_then(|reach| reach.next_hop);
            announced.push(Announced {
                attributes: Arc::new(attributes),
                nlri: self.multiprotocol,
            });
        }
        if !self.classic.is_empty() {
            announced.push(Announced {
                attributes: Arc::new(mem::take(&mut draft.attributes)),
                nlri: self.classic,
            });
        }
        Update {
            withdrawn: self.withdrawn,
            announced,
            end_of_rib,
            faults: said(&mut draft.faults),
        }
    }

    /// RFC 4271 §4.3: an UPDATE with a prefix in both lists is treated as if it were not among the withdrawn.
    fn announced_wins(&mut self) {
        let announced = || self.classic.iter().chain(&self.multiprotocol);
        if self.withdrawn.is_empty() || announced().next().is_none() {
            return;
        }
        let announced: hashbrown::HashSet<Nlri> = announced().copied().collect();
        self.withdrawn.retain(|nlri| !announced.contains(nlri));
    }
}

fn said(faults: &mut Vec<AttributeFault>) -> Vec<Fault> {
    if faults.is_empty() {
        return Vec::new();
    }
    faults.drain(..).map(|fault| fault.fault).collect()
}

/// Prefixes of a multiprotocol attribute that cannot be told apart.
fn malformed(name: &'static str, whole: &[u8]) -> WireError {
    WireError::MalformedMultiprotocol {
        name,
        why: "a prefix is too long or cut short",
        section: "5.3",
        attribute: bytes::Bytes::copy_from_slice(whole),
    }
}
