//! Whose prefixes are whose, where that is known from elsewhere: a route for one counts only if it leads to its owner.

use std::{collections::HashMap, fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use prefix_trie::joint::JointPrefixMap;

use crate::prefix::Prefix;

/// Who owns which prefixes. Empty: nothing is known, and nothing is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    owners: Vec<Owner>,
    claims: JointPrefixMap<IpNetwork, Held>,
    /// Who has an address; one that several have is the first one's.
    by_address: HashMap<IpAddr, usize>,
}

/// One owner: a node, as the words of a refusal call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Where packets for it may be sent: a next hop of this list leads to it.
    pub addresses: Vec<IpAddr>,
    /// It forwards for other owners on purpose: what it says itself may lead to it, whosever it is.
    pub forwards: bool,
}

/// Who has a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    /// By this owner.
    By(usize),
    /// By nobody, and why.
    ByNobody(String),
}

/// What is known of a prefix: the longest one claimed that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed<'a> {
    /// It lies in `prefix`, which is `owner`'s.
    By {
        /// The prefix claimed.
        prefix: Prefix,
        /// Whose it is.
        owner: &'a Owner,
    },
    /// It lies in `prefix`, which is nobody's.
    ByNobody {
        /// The prefix claimed.
        prefix: Prefix,
        /// Why.
        why: &'a str,
    },
}

impl Owners {
    /// `owners` with their prefixes, and those that are nobody's with the reason. Of two claims to one prefix the first counts.
    pub fn new(
        owners: impl IntoIterator<Item = (Owner, Vec<Prefix>)>,
        nobodys: impl IntoIterator<Item = (Prefix, String)>,
    ) -> Self {
        let mut all = Self::default();
        for (owner, prefixes) in owners {
            let number = all.owners.len();
            for prefix in prefixes {
                let claim = all.claims.entry(prefix.network());
                claim.or_insert(Held::By(number));
            }
            for address in &owner.addresses {
                all.by_address.entry(*address).or_insert(number);
            }
            all.owners.push(owner);
        }
        for (prefix, why) in nobodys {
            let claim = all.claims.entry(prefix.network());
            claim.or_insert(Held::ByNobody(why));
        }
        all
    }

    /// What is known of all of `prefix`, by the longest claim that holds it.
    #[must_use]
    pub fn claimed(&self, prefix: &Prefix) -> Option<Claimed<'_>> {
        if self.claims.is_empty() {
            return None;
        }
        let (network, held) = self.claims.get_lpm(&prefix.network())?;
        self.claim(network.into(), held)
    }

    fn claim<'a>(&'a self, prefix: Prefix, held: &'a Held) -> Option<Claimed<'a>> {
        Some(match held {
            Held::By(owner) => Claimed::By {
                prefix,
                owner: self.owners.get(*owner)?,
            },
            Held::ByNobody(why) => Claimed::ByNobody { prefix, why },
        })
    }

    /// Whose address it is.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<&Owner> {
        self.owners.get(*self.by_address.get(&address)?)
    }

    /// Every claim.
    pub fn claims(&self) -> impl Iterator<Item = Claimed<'_>> {
        let claims = self.claims.iter();
        claims.filter_map(|(network, held)| self.claim(network.into(), held))
    }

    /// Every prefix that is somebody's, with its owner.
    pub fn each(&self) -> impl Iterator<Item = (Prefix, &Owner)> {
        self.claims().filter_map(|claimed| match claimed {
            Claimed::By { prefix, owner } => Some((prefix, owner)),
            Claimed::ByNobody { .. } => None,
        })
    }
}

impl Owner {
    /// Whether packets sent to this address reach it.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        match addresses.as_slice() {
            [] => write!(f, "{} (without an address)", self.name),
            addresses => write!(f, "{} ({})", self.name, addresses.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a prefix")
    }

    fn owner(name: &str, addresses: &[&str]) -> Owner {
        Owner {
            name: name.into(),
            addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            forwards: false,
        }
    }

    #[test]
    fn the_longest_claim_that_holds_all_of_a_prefix_counts() {
        let owners = Owners::new(
            [
                (owner("wide", &[]), vec![prefix("10.0.0.0/8")]),
                (owner("narrow", &[]), vec![prefix("10.1.0.0/16")]),
            ],
            [(prefix("10.1.2.0/24"), "disputed".into())],
        );
        let name = |text| match owners.claimed(&prefix(text)) {
            Some(Claimed::By { owner, .. }) => owner.name.clone(),
            Some(Claimed::ByNobody { why, .. }) => why.to_owned(),
            None => "unknown".into(),
        };
        assert_eq!(name("10.0.0.0/8"), "wide");
        assert_eq!(name("10.1.0.0/15"), "wide");
        assert_eq!(name("10.1.0.0/16"), "narrow");
        assert_eq!(name("10.1.2.0/25"), "disputed");
        assert_eq!(name("10.1.3.0/24"), "narrow");
        assert_eq!(name("10.200.0.0/24"), "wide");
        assert_eq!(name("0.0.0.0/0"), "unknown");
        assert_eq!(name("fd00::/64"), "unknown");
    }

    #[test]
    fn an_address_that_two_have_is_the_first_ones() {
        let first = owner("first", &["10.0.0.1"]);
        let owners = Owners::new(
            [
                (first.clone(), vec![]),
                (owner("second", &["10.0.0.1"]), vec![]),
            ],
            [],
        );
        assert_eq!(owners.at([10, 0, 0, 1].into()), Some(&first));
        assert_eq!(owners.at([10, 0, 0, 2].into()), None);
    }

    /// Few bits, so that claims meet.
    fn any_prefix() -> impl Strategy<Value = Prefix> {
        let v4 = (0_u32..16, 0_u8..=6).prop_map(|(bits, length)| {
            Prefix::v4((bits << 28 | bits << 26).into(), length).expect("a short prefix")
        });
        let v6 = (0_u128..16, 0_u8..=6).prop_map(|(bits, length)| {
            Prefix::v6((bits << 124 | bits << 122).into(), length).expect("a short prefix")
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_look_at_every_claim_finds(
            claims in proptest::collection::btree_map(any_prefix(), 0_u8..4, 0..24),
            asked in any_prefix(),
        ) {
            let owners = Owners::new(
                (0..4_u8).map(|number| {
                    let of = claims.iter().filter(|(_, owner)| **owner == number);
                    (owner(&number.to_string(), &[]), of.map(|(prefix, _)| *prefix).collect())
                }),
                [],
            );
            let naive = claims
                .iter()
                .filter(|(prefix, _)| prefix.contains(&asked))
                .max_by_key(|(prefix, _)| prefix.length())
                .map(|(prefix, owner)| (*prefix, owner.to_string()));
            let found = owners.claimed(&asked).map(|claimed| match claimed {
                Claimed::By { prefix, owner } => (prefix, owner.name.clone()),
                Claimed::ByNobody { prefix, .. } => (prefix, "nobody".into()),
            });
            prop_assert_eq!(found, naive);
        }
    }
}
