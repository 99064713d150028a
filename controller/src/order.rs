//! An order of nodes that all of them agree on without a word: who of many does what one has to do.

/// The same number for a text in every version of this program, and no pattern in those of like names.
pub(crate) fn hash(text: &str) -> u64 {
    // FNV-1a, mixed: names that differ in their last digit only should not differ in one bit only.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}

/// How many of `nodes` come before `node` where `what` has to be done by one of them: another order for each thing.
pub(crate) fn rank<'a>(what: &str, node: &str, nodes: impl Iterator<Item = &'a str>) -> usize {
    let place = |node: &'a str| (hash(&format!("{what}/{node}")), node);
    let own = (hash(&format!("{what}/{node}")), node);
    nodes.filter(|other| place(other) < own).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_place_of_its_own_and_another_one_for_each_thing() {
        let nodes: Vec<String> = (0..100).map(|number| format!("node{number}")).collect();
        let order = |what: &str| -> Vec<usize> {
            let all = || nodes.iter().map(String::as_str);
            all().map(|node| rank(what, node, all())).collect()
        };
        let (tor, spine) = (order("tor"), order("spine"));
        assert_ne!(tor, spine);
        let mut sorted = tor;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }
}
