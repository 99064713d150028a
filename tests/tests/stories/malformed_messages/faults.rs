//! Malformed UPDATEs, and what the RFCs say becomes of the route and of the session.

use std::net::{Ipv4Addr, Ipv6Addr};

use tests::byhand::{Table, Update, attribute, kind, message, mp_reach};

/// The address of the host from which all strangers speak.
pub(super) const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x100);

/// What a malformed UPDATE does to a route that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Treat-as-withdraw (RFC 7606 §2): the route is gone, the session stays.
    Withdrawn,
    /// Attribute discard, or nothing wrong at all: the route is taken with its new community.
    Kept,
    /// The UPDATE has no effect: the route stays as it was, the session too.
    Unchanged,
    /// The session ends with this code and one of these subcodes.
    Reset(u8, &'static [u8]),
}

/// Who says it, and about what.
pub(super) struct Given {
    /// The speaker's address.
    pub(super) from: Ipv4Addr,
    /// Its AS; none where it is internal.
    pub(super) path: &'static [u32],
    /// The prefix, as NLRI.
    pub(super) prefix: Vec<u8>,
    /// It is an IPv6 one.
    pub(super) ipv6: bool,
}

impl Given {
    /// A good route with that mark.
    pub(super) fn route(&self, mark: u16) -> Update {
        let update = if self.ipv6 {
            Update::announcing6(self.path, HOST6, &self.prefix)
        } else {
            Update::announcing(self.path, self.from).prefixes(&self.prefix)
        };
        let update = if self.path.is_empty() {
            update.with(&attribute(0x40, 5, &[0, 0, 0, 100]))
        } else {
            update
        };
        update.communities(&[(Table::MARK, mark)])
    }

    /// A good route with one attribute more.
    fn plus(&self, attribute: &[u8]) -> Vec<u8> {
        self.route(2).with(attribute).octets()
    }

    /// An IPv4 route with these attributes and its mark.
    fn made_of(&self, attributes: &[Vec<u8>]) -> Vec<u8> {
        Update::default()
            .with(&attributes.concat())
            .communities(&[(Table::MARK, 2)])
            .prefixes(&self.prefix)
            .octets()
    }

    fn path(&self) -> Vec<u8> {
        Update::as_path(self.path)
    }

    fn next_hop(&self) -> Vec<u8> {
        attribute(0x40, 3, &self.from.octets())
    }

    /// An IPv6 route with that next hop.
    fn reach6(&self, next_hop: &[u8]) -> Vec<u8> {
        Update::default()
            .with(&mp_reach(2, 1, next_hop, &self.prefix))
            .with(&Update::origin())
            .with(&self.path())
            .communities(&[(Table::MARK, 2)])
            .octets()
    }
}

/// One of them.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) internal: bool,
    pub(super) ipv6: bool,
    pub(super) outcome: Outcome,
    pub(super) make: fn(&Given) -> Vec<u8>,
}

const fn external(name: &'static str, outcome: Outcome, make: fn(&Given) -> Vec<u8>) -> Fault {
    Fault {
        name,
        internal: false,
        ipv6: false,
        outcome,
        make,
    }
}

const fn internal(name: &'static str, outcome: Outcome, make: fn(&Given) -> Vec<u8>) -> Fault {
    Fault {
        internal: true,
        ..external(name, outcome, make)
    }
}

const fn six(name: &'static str, outcome: Outcome, make: fn(&Given) -> Vec<u8>) -> Fault {
    Fault {
        ipv6: true,
        ..external(name, outcome, make)
    }
}

use Outcome::{Kept, Reset, Unchanged, Withdrawn};

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    external("nothing wrong", Kept, |given| given.route(2).octets()),
    external("an End-of-RIB", Unchanged, |_| Update::default().octets()),
    external("ORIGIN 9", Withdrawn, |given| {
        given.made_of(&[attribute(0x40, 1, &[9]), given.path(), given.next_hop()])
    }),
    external("ORIGIN of 2 octets", Withdrawn, |given| {
        given.made_of(&[attribute(0x40, 1, &[0, 0]), given.path(), given.next_hop()])
    }),
    external(
        "ORIGIN with the flags of an optional one",
        Withdrawn,
        |given| given.made_of(&[attribute(0xc0, 1, &[0]), given.path(), given.next_hop()]),
    ),
    external("ORIGIN twice", Kept, |given| {
        given.plus(&attribute(0x40, 1, &[2]))
    }),
    external("no ORIGIN", Withdrawn, |given| {
        given.made_of(&[given.path(), given.next_hop()])
    }),
    external("no AS_PATH", Withdrawn, |given| {
        given.made_of(&[Update::origin(), given.next_hop()])
    }),
    external("no NEXT_HOP", Withdrawn, |given| {
        given.made_of(&[Update::origin(), given.path()])
    }),
    external(
        "AS_PATH with a segment beyond its end",
        Withdrawn,
        |given| {
            given.made_of(&[
                Update::origin(),
                attribute(0x40, 2, &[2, 9, 0, 0, 0, 1]),
                given.next_hop(),
            ])
        },
    ),
    external("AS_PATH with an empty segment", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            attribute(0x40, 2, &[2, 0]),
            given.next_hop(),
        ])
    }),
    external("AS_PATH with a segment of type 9", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            attribute(0x40, 2, &[9, 1, 0, 0, 0, 1]),
            given.next_hop(),
        ])
    }),
    external("AS_PATH with one octet left over", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xf1, 2]),
            given.next_hop(),
        ])
    }),
    external("AS 0 in AS_PATH (RFC 7607)", Withdrawn, |given| {
        let path = [given.path, &[0]].concat();
        given.made_of(&[Update::origin(), Update::as_path(&path), given.next_hop()])
    }),
    external("our own AS in AS_PATH", Withdrawn, |given| {
        let path = [given.path, &[super::OUR_AS]].concat();
        given.made_of(&[Update::origin(), Update::as_path(&path), given.next_hop()])
    }),
    external("AS_PATH that begins with another AS", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            Update::as_path(&[64_888]),
            given.next_hop(),
        ])
    }),
    external("NEXT_HOP of 5 octets", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            given.path(),
            attribute(0x40, 3, &[1, 2, 3, 4, 5]),
        ])
    }),
    external("NEXT_HOP 0.0.0.0", Withdrawn, |given| {
        given.made_of(&[Update::origin(), given.path(), attribute(0x40, 3, &[0; 4])])
    }),
    external("NEXT_HOP multicast", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            given.path(),
            attribute(0x40, 3, &[224, 0, 0, 1]),
        ])
    }),
    external("NEXT_HOP ourselves", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            given.path(),
            attribute(0x40, 3, &[10, 0, 0, 1]),
        ])
    }),
    external("MULTI_EXIT_DISC of 3 octets", Withdrawn, |given| {
        given.plus(&attribute(0x80, 4, &[0, 0, 1]))
    }),
    external(
        "LOCAL_PREF of 3 octets from an external peer",
        Kept,
        |given| given.plus(&attribute(0x40, 5, &[0, 0, 1])),
    ),
    external("ATOMIC_AGGREGATE of 1 octet", Kept, |given| {
        given.plus(&attribute(0x40, 6, &[0]))
    }),
    external("AGGREGATOR of 5 octets", Kept, |given| {
        given.plus(&attribute(0xc0, 7, &[0; 5]))
    }),
    external("ORIGINATOR_ID from an external peer", Kept, |given| {
        given.plus(&attribute(0x80, 9, &[0]))
    }),
    external("CLUSTER_LIST from an external peer", Kept, |given| {
        given.plus(&attribute(0x80, 10, &[0]))
    }),
    external("COMMUNITIES of 3 octets", Withdrawn, |given| {
        let mut update = Update::announcing(given.path, given.from);
        update = update.with(&attribute(0xc0, 8, &[0; 3]));
        update.prefixes(&given.prefix).octets()
    }),
    external("COMMUNITIES of 0 octets", Withdrawn, |given| {
        let update = Update::announcing(given.path, given.from).with(&attribute(0xc0, 8, &[]));
        update.prefixes(&given.prefix).octets()
    }),
    external("extended communities of 7 octets", Withdrawn, |given| {
        given.plus(&attribute(0xc0, 16, &[0; 7]))
    }),
    external("large communities of 11 octets", Withdrawn, |given| {
        given.plus(&attribute(0xc0, 32, &[0; 11]))
    }),
    external(
        "an attribute beyond the attributes' end",
        Withdrawn,
        |given| given.plus(&[0xc0, 32, 12, 0, 0]),
    ),
    external("one octet after the attributes", Withdrawn, |given| {
        given.plus(&[0xc0])
    }),
    external("an unknown transitive attribute", Kept, |given| {
        given.plus(&attribute(0xc0, 200, b"abc"))
    }),
    external("an unknown non-transitive attribute", Kept, |given| {
        given.plus(&attribute(0x80, 201, b"abc"))
    }),
    external("an unknown attribute of 3,000 octets", Kept, |given| {
        given.plus(&attribute(0xc0, 202, &[7; 3000]))
    }),
    external("announced and withdrawn in one", Kept, |given| {
        given.route(2).withdrawing(&given.prefix).octets()
    }),
    external("a multicast prefix beside it", Kept, |given| {
        given.route(2).prefixes(&[8, 224]).octets()
    }),
    external("a family that nobody agreed on", Kept, |given| {
        given.plus(&mp_reach(25, 65, &[10, 0, 0, 9], &[0, 1]))
    }),
    external("a withdrawal of what was never there", Unchanged, |_| {
        Update::default().withdrawing(&[0]).octets()
    }),
    external("an unknown well-known attribute", Reset(3, &[2]), |given| {
        given.plus(&attribute(0x40, 99, &[0]))
    }),
    external("a prefix of 33 bits", Reset(3, &[10]), |given| {
        given.route(2).prefixes(&[33, 10, 9, 8, 7, 6]).octets()
    }),
    external("a prefix cut short", Reset(3, &[10]), |given| {
        given.route(2).prefixes(&[24, 10]).octets()
    }),
    external("a withdrawn prefix of 33 bits", Reset(3, &[10]), |_| {
        Update::default()
            .withdrawing(&[33, 10, 9, 8, 7, 6])
            .octets()
    }),
    external("withdrawn routes beyond the end", Reset(3, &[1]), |_| {
        message(kind::UPDATE, &[0, 32, 0, 0])
    }),
    external("attributes beyond the end", Reset(3, &[1]), |_| {
        message(kind::UPDATE, &[0, 0, 0, 32])
    }),
    external("an UPDATE of 3 octets", Reset(1, &[2]), |_| {
        message(kind::UPDATE, &[0, 0, 0])
    }),
    external("a KEEPALIVE of 4,097 octets", Reset(1, &[2]), |_| {
        message(kind::KEEPALIVE, &[0; 4078])
    }),
    external("a marker of zeros", Reset(1, &[1]), |given| {
        let mut octets = given.route(2).octets();
        octets.splice(0..16, [0; 16]);
        octets
    }),
    internal("nothing wrong from inside", Kept, |given| {
        given.route(2).octets()
    }),
    internal("LOCAL_PREF of 3 octets from inside", Withdrawn, |given| {
        given.made_of(&[
            Update::origin(),
            given.path(),
            given.next_hop(),
            attribute(0x40, 5, &[0, 0, 1]),
        ])
    }),
    internal("no LOCAL_PREF from inside", Kept, |given| {
        given.made_of(&[Update::origin(), given.path(), given.next_hop()])
    }),
    internal("ORIGIN 9 from inside", Withdrawn, |given| {
        let preference = attribute(0x40, 5, &[0, 0, 0, 100]);
        given.made_of(&[
            attribute(0x40, 1, &[9]),
            given.path(),
            given.next_hop(),
            preference,
        ])
    }),
    internal("ORIGINATOR_ID of 1 octet from inside", Withdrawn, |given| {
        given.plus(&attribute(0x80, 9, &[0]))
    }),
    internal("CLUSTER_LIST of 3 octets from inside", Withdrawn, |given| {
        given.plus(&attribute(0x80, 10, &[0; 3]))
    }),
    internal("our own ORIGINATOR_ID", Withdrawn, |given| {
        given.plus(&attribute(0x80, 9, &[10, 0, 0, 1]))
    }),
    six("nothing wrong with IPv6", Kept, |given| {
        given.reach6(&HOST6.octets())
    }),
    six("a global and a link-local next hop", Kept, |given| {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
        given.reach6(&[HOST6.octets(), link_local.octets()].concat())
    }),
    six("next hop ::1", Withdrawn, |given| {
        given.reach6(&Ipv6Addr::LOCALHOST.octets())
    }),
    six("next hop ::", Withdrawn, |given| given.reach6(&[0; 16])),
    six("next hop of 5 octets", Reset(3, &[1, 9]), |given| {
        given.reach6(&[1; 5])
    }),
    six(
        "an IPv6 prefix of 129 bits",
        Reset(3, &[1, 9, 10]),
        |given| {
            let mut nlri = given.prefix.clone();
            nlri.extend([
                129, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ]);
            let reach = mp_reach(2, 1, &HOST6.octets(), &nlri);
            Update::default()
                .with(&reach)
                .with(&Update::origin())
                .with(&given.path())
                .octets()
        },
    ),
    six("MP_REACH_NLRI twice", Reset(3, &[1]), |given| {
        let reach = mp_reach(2, 1, &HOST6.octets(), &given.prefix);
        given.route(2).with(&reach).octets()
    }),
    six("MP_REACH_NLRI of 2 octets", Reset(3, &[1, 9]), |given| {
        Update::default()
            .with(&attribute(0x80, 14, &[0, 2]))
            .with(&Update::origin())
            .with(&given.path())
            .octets()
    }),
    six("MP_REACH_NLRI without AS_PATH", Withdrawn, |given| {
        Update::default()
            .with(&mp_reach(2, 1, &HOST6.octets(), &given.prefix))
            .with(&Update::origin())
            .octets()
    }),
];
