//! Router advertisements and solicitations (RFC 4861 §4.1, §4.2), as far as they say "here is a router" and "who is one?".

use std::net::Ipv6Addr;

/// All nodes on a link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on a link.
pub(crate) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What has come from another link has less (§6.1.1).
pub(crate) const HOP_LIMIT: u8 = 255;
/// The type of a solicitation.
pub(crate) const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;

/// An advertisement of a router that is there and wants to be nobody's default (Router Lifetime 0), and leaves all else to
/// others. The kernel fills in the checksum.
pub(crate) fn advertisement(link_layer: &[u8]) -> Vec<u8> {
    // Type, code, checksum; hop limit, flags, lifetime; reachable and retransmission times: unspecified by this router.
    let mut octets = vec![ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0];
    octets.extend_from_slice(&[0; 8]);
    octets.extend(source(link_layer));
    octets
}

/// A solicitation.
pub(crate) fn solicitation(link_layer: &[u8]) -> Vec<u8> {
    let mut octets = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    octets.extend(source(link_layer));
    octets
}

/// An echo request (RFC 4443 §4.1): a router that says nothing by itself answers it, and asks for us on the way, from which the
/// kernel learns that it is there.
pub(crate) fn echo_request() -> Vec<u8> {
    vec![128, 0, 0, 0, 0, 179, 0, 1]
}

/// The option that says who on the link the sender is (§4.6.1); none where the link has no such addresses.
fn source(link_layer: &[u8]) -> Vec<u8> {
    let units = link_layer.len().saturating_add(2).div_ceil(8);
    let Some(length) = u8::try_from(units).ok().filter(|_| !link_layer.is_empty()) else {
        return Vec::new();
    };
    let mut option = vec![SOURCE_LINK_LAYER_ADDRESS, length];
    option.extend_from_slice(link_layer);
    option.resize(units.saturating_mul(8), 0);
    option
}

/// Whether this is a solicitation that counts (§6.1.1); its hop limit and checksum are the socket's affair.
pub(crate) fn is_solicitation(octets: &[u8], from: Ipv6Addr) -> bool {
    let [SOLICITATION, 0, _, _, _, _, _, _, options @ ..] = octets else {
        return false;
    };
    let mut options = options;
    loop {
        options = match options {
            [] => return true,
            [SOURCE_LINK_LAYER_ADDRESS, ..] if from.is_unspecified() => return false,
            [_] | [_, 0, ..] => return false,
            [_, length, ..] => match options.get(usize::from(*length).saturating_mul(8)..) {
                Some(rest) => rest,
                None => return false,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0, 1];
    const SOMEBODY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    #[test]
    fn an_advertisement_says_who_we_are_and_that_we_are_no_default_router() {
        let expected = [
            &[134, 0, 0, 0][..], // type, code, checksum
            &[0, 0, 0, 0],       // hop limit unspecified, no flags, lifetime 0
            &[0; 8],             // times unspecified
            &[1, 1, 2, 0, 0x5e, 0x10, 0, 1],
        ];
        assert_eq!(advertisement(&MAC), expected.concat());
    }

    #[test]
    fn a_link_without_link_layer_addresses_has_no_such_option() {
        assert_eq!(advertisement(&[]).len(), 16);
        assert_eq!(solicitation(&[]).len(), 8);
    }

    #[test]
    fn a_long_link_layer_address_is_padded_to_whole_units() {
        // InfiniBand: 20 octets.
        let octets = solicitation(&[7; 20]);
        assert_eq!(octets.get(8..10), Some(&[1, 3][..]));
        assert_eq!(octets.len(), 8 + 24);
        assert!(octets.ends_with(&[7, 0, 0]));
    }

    #[test]
    fn what_we_send_is_a_solicitation() {
        assert!(is_solicitation(&solicitation(&MAC), SOMEBODY));
        assert!(is_solicitation(&solicitation(&[]), Ipv6Addr::UNSPECIFIED));
    }

    #[test]
    fn a_malformed_solicitation_does_not_count() {
        let good = solicitation(&MAC);
        let changed = |at: usize, octet: u8| {
            let mut octets = good.clone();
            octets[at] = octet;
            octets
        };
        for (why, octets) in [
            ("another type", advertisement(&MAC)),
            ("a code", changed(1, 1)),
            ("an option without a length", changed(9, 0)),
            ("an option that is cut short", changed(9, 2)),
            ("cut short", good[..7].to_vec()),
            ("half an option", good[..9].to_vec()),
        ] {
            assert!(!is_solicitation(&octets, SOMEBODY), "{why}");
        }
        assert!(
            !is_solicitation(&good, Ipv6Addr::UNSPECIFIED),
            "nobody's link-layer address"
        );
    }
}
