//! What other tools found in the files.

/// What there is in a collector's file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) records: usize,
    pub(crate) state_changes: usize,
    /// Table entries too. With `treated_as_withdrawn`, what bgpdump counts.
    pub(crate) announced: usize,
    pub(crate) withdrawn: usize,
    /// Of UPDATEs that RFC 7606 makes withdrawals of: a next hop of ::, entries without any attribute.
    pub(crate) treated_as_withdrawn: usize,
    /// Messages that would end a session.
    pub(crate) refused: usize,
    /// Distinct prefixes announced.
    pub(crate) prefixes: usize,
}

const fn found(counts: [usize; 7]) -> Found {
    let [
        records,
        state_changes,
        announced,
        withdrawn,
        treated_as_withdrawn,
        refused,
        prefixes,
    ] = counts;
    Found {
        records,
        state_changes,
        announced,
        withdrawn,
        treated_as_withdrawn,
        refused,
        prefixes,
    }
}

pub(crate) const COLLECTED: [(&str, Found); 14] = [
    (
        "bgpdump-bview.20020722.2337.gz",
        found([115_521, 0, 115_521, 0, 0, 0, 112_988]),
    ),
    (
        "bgpdump-bview.64k_stream_overflow.gz",
        found([2, 0, 23, 0, 0, 0, 1]),
    ),
    (
        "bgpdump-bview.ipv4_unicast_add_path.gz",
        found([32, 0, 60, 0, 2, 0, 31]),
    ),
    (
        "bgpdump-updates.20020722.2238.gz",
        found([1121, 93, 825, 2419, 0, 0, 598]),
    ),
    (
        "bgpdump-updates.20071015.1505.gz",
        found([4297, 0, 10_090, 385, 21, 0, 1821]),
    ),
    (
        "bgpdump-updates.20160811.1600.gz",
        found([17_406, 22, 39_256, 1956, 0, 0, 1712]),
    ),
    // Its last prefix is cut short: bgpdump shows the one before it.
    (
        "bgpdump-updates.nlri_mask_trailing_bits.gz",
        found([1, 0, 0, 0, 0, 1, 0]),
    ),
    ("bgpkit-updates.bz2", found([85, 0, 159, 109, 0, 0, 29])),
    ("bird-mrtdump_bgp", found([27, 12, 12, 0, 0, 0, 3])),
    ("bird-mrtdump_rib", found([14, 0, 12, 0, 6, 0, 3])),
    (
        "ripe-rrc00-updates.19990903.1041.gz",
        found([24_242, 4, 65_286, 25, 0, 0, 64_075]),
    ),
    (
        "ripe-rrc00-updates.20000102.2014.gz",
        found([3957, 16, 5668, 675, 0, 0, 473]),
    ),
    (
        "ripe-rrc15-updates.20100227.1610.gz",
        found([1953, 16, 5920, 1549, 0, 0, 2212]),
    ),
    (
        "ris.rrc06.updates.1427846400.gz",
        found([795, 4, 1435, 122, 0, 0, 492]),
    ),
];

/// OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH as tshark counts them; then how many of them are refused, and how
/// many UPDATEs have faults that cost their routes.
pub(crate) type Seen = [usize; 7];

pub(crate) const CAPTURED: [(&str, Seen); 20] = [
    (
        "bmp/pmacct-200-BMP-HUAWEI-locrib_instance-traffic-00.pcap",
        [36, 84, 0, 0, 0, 0, 0],
    ),
    // A collector hears of routes without a usable next hop, and of peers of AS 0.
    (
        "bmp/pmacct-204-BMP-CISCO-peer_down-traffic-00.pcap",
        [20, 301, 0, 0, 0, 0, 3],
    ),
    (
        "bmp/pmacct-205-BMP-6wind-FRR-peer_down-traffic-00.pcap",
        [14, 451, 2, 0, 0, 2, 142],
    ),
    ("pcap/bgp-4byte-asn.pcap", [8, 10, 1, 16, 0, 0, 0]),
    // Made by hand: it has MP_REACH_NLRI three times.
    ("pcap/bgp-addpath.pcap", [0, 1, 0, 0, 0, 1, 0]),
    ("pcap/bgp-cease-hard-reset.pcap", [2, 0, 1, 0, 0, 0, 0]),
    (
        "pcap/bgp-enhanced-route-refresh-subtype.pcapng",
        [0, 5, 0, 0, 3, 0, 0],
    ),
    (
        "pcap/bgp-enhanced-route-refresh.pcapng",
        [1, 0, 0, 0, 0, 0, 0],
    ),
    ("pcap/bgp-extended-msg.pcapng", [1, 0, 0, 0, 0, 0, 0]),
    ("pcap/bgp-large-community.pcap", [0, 5, 0, 0, 0, 0, 0]),
    (
        "pcap/bgp-link-bw-extcommunity.pcapng",
        [0, 6, 0, 0, 0, 0, 0],
    ),
    ("pcap/bgp-orf.pcapng", [0, 0, 0, 0, 2, 0, 0]),
    ("pcap/bgp-role.pcapng", [1, 9, 0, 2, 0, 0, 0]),
    (
        "pcap/bgp-shutdown-communication.pcapng",
        [0, 0, 1, 0, 0, 0, 0],
    ),
    ("pcap/mpbgp-linklocal-nexthop.pcap", [0, 1, 0, 0, 0, 0, 0]),
    (
        "pcap/pmacct-300-BGP-IPv6-CISCO-extNH_enc-traffic-00.pcap",
        [1, 45, 0, 1, 0, 0, 0],
    ),
    (
        "pcap/pmacct-301-BGP-CISCO-pretag-traffic-00.pcap",
        [1, 20, 0, 1, 0, 0, 0],
    ),
    (
        "pcap/pmacct-302-BGP-IPv6-multiple-sources-traffic-00.pcap",
        [1, 24, 0, 1, 0, 0, 0],
    ),
    (
        "pcap/pmacct-302-BGP-IPv6-multiple-sources-traffic-01.pcap",
        [1, 26, 0, 1, 0, 0, 0],
    ),
    ("pcap/scapy-bgp_fragmented.pcap.gz", [0, 1, 0, 0, 0, 0, 0]),
];

/// Made to do harm.
pub(crate) const HOSTILE: [&str; 4] = [
    "pcap/bgp-as-path-oobr.pcap",
    "pcap/bgp-bgp_capabilities_print-oobr-1.pcap",
    "pcap/bgp-infinite-loop.pcap",
    "pcap/bgp_mp_reach_nlri-oobr.pcap",
];
