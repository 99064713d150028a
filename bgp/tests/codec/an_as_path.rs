//! AS_PATH (RFC 4271 §5.1.2, §9.1.2.2).

use super::*;

#[test]
fn counts_a_set_once_and_a_confederation_not() {
    let path: AsPath = "(65010) 65001 65002 {65003,65004}".parse().unwrap();
    assert_eq!(path.hops(), 3);
    assert_eq!(path.neighbor_as(), Some(65001));
    assert_eq!(path.origin_as(), None);
    assert!(path.contains(65004) && path.contains(65010) && !path.contains(1));
    assert_eq!("65001 2 65001".parse::<AsPath>().unwrap().count(65001), 2);
    assert_eq!("{65001}".parse::<AsPath>().unwrap().neighbor_as(), None);
    assert_eq!(AsPath::empty().neighbor_as(), None);
}

#[test]
fn grows_in_front() {
    let path: AsPath = "65001 {2}".parse().unwrap();
    assert_eq!(path.prepend(65000, 2).to_string(), "65000 65000 65001 {2}");
    assert_eq!(path.prepend(65000, 0), path);
    assert_eq!(AsPath::empty().prepend(65000, 1).to_string(), "65000");
    assert_eq!(
        "{2}".parse::<AsPath>().unwrap().prepend(1, 1).to_string(),
        "1 {2}"
    );
    assert_eq!(
        "(2)".parse::<AsPath>().unwrap().prepend(1, 1).to_string(),
        "1 (2)"
    );
}

#[test]
fn begins_another_segment_beyond_255() {
    let path = AsPath::sequence(&[7; 255]).prepend(8, 3);
    let lengths: Vec<_> = path
        .segments()
        .map(|segment| (segment.kind, segment.len()))
        .collect();
    assert_eq!(
        lengths,
        [(SegmentKind::Sequence, 3), (SegmentKind::Sequence, 255)]
    );
    assert_eq!(path.hops(), 258);
    assert_eq!(path.neighbor_as(), Some(8));
    assert_eq!(path.prepend(9, 252).segments().count(), 2);
    assert_eq!(AsPath::empty().prepend(9, 600).hops(), 600);
    let long: Vec<u32> = (1..=600).collect();
    assert_eq!(AsPath::sequence(&long).asns().collect::<Vec<_>>(), long);
}
