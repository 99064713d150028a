//! Which of two connections between the same speakers survives (RFC 4271 §6.8, RFC 6286 §2.3).

use std::net::Ipv4Addr;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We dialled.
    Dialled,
    /// They dialled.
    Accepted,
}

/// A speaker as collision detection compares it: by BGP Identifier, then (RFC 6286) by AS number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// BGP Identifier, compared as an unsigned number in host order.
    pub id: Ipv4Addr,
    /// AS number.
    pub asn: u32,
}

/// What becomes of two connections that both got this far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivor {
    /// The one that was there first.
    Older,
    /// The one whose OPEN just came.
    Newer,
}

/// Decides between an `older` and a `newer` connection, neither of them Established. The connection opened by the higher
/// speaker survives. Two connections opened by the same side cannot both be alive to it: the newer survives.
#[must_use]
pub fn survivor(ours: Rank, theirs: Rank, older: Origin, newer: Origin) -> Survivor {
    let keep = if ours >= theirs {
        Origin::Dialled
    } else {
        Origin::Accepted
    };
    if older == newer || newer == keep {
        Survivor::Newer
    } else {
        Survivor::Older
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: Rank = Rank {
        id: Ipv4Addr::new(10, 0, 0, 1),
        asn: 65001,
    };
    const HIGH: Rank = Rank {
        id: Ipv4Addr::new(10, 0, 0, 2),
        asn: 64512,
    };

    #[test]
    fn the_connection_of_the_higher_identifier_survives_whichever_came_first() {
        use {Origin::*, Survivor::*};
        assert_eq!(survivor(HIGH, LOW, Dialled, Accepted), Older);
        assert_eq!(survivor(HIGH, LOW, Accepted, Dialled), Newer);
        assert_eq!(survivor(LOW, HIGH, Dialled, Accepted), Newer);
        assert_eq!(survivor(LOW, HIGH, Accepted, Dialled), Older);
    }

    #[test]
    fn identifiers_are_compared_as_numbers_in_host_order() {
        let (nine, ten) = (Ipv4Addr::new(9, 255, 255, 255), Ipv4Addr::new(10, 0, 0, 0));
        let rank = |id| Rank { id, asn: 1 };
        assert_eq!(
            survivor(rank(ten), rank(nine), Origin::Dialled, Origin::Accepted),
            Survivor::Older
        );
    }

    #[test]
    fn equal_identifiers_are_told_apart_by_as_number() {
        let other = Rank { asn: 65002, ..LOW };
        assert_eq!(
            survivor(other, LOW, Origin::Dialled, Origin::Accepted),
            Survivor::Older
        );
        assert_eq!(
            survivor(LOW, other, Origin::Dialled, Origin::Accepted),
            Survivor::Newer
        );
    }

    #[test]
    fn both_sides_keep_the_same_connection() {
        use {Origin::*, Survivor::*};
        // Connection 1 was dialled by HIGH, connection 2 by LOW; each side may see either first.
        let at_high = survivor(HIGH, LOW, Dialled, Accepted);
        let at_low = survivor(LOW, HIGH, Accepted, Dialled);
        assert_eq!((at_high, at_low), (Older, Older));
    }

    #[test]
    fn of_two_connections_from_one_side_the_newer_survives() {
        for origin in [Origin::Dialled, Origin::Accepted] {
            assert_eq!(survivor(HIGH, LOW, origin, origin), Survivor::Newer);
        }
    }
}
