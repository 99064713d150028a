//! What lies between the nodes: directions that go dead and come back, machines that are off.

use std::collections::BTreeSet;

use crate::topology::Node;

/// All ways from one node to another.
#[derive(Debug, Default)]
pub struct Paths {
    /// Directions that carry nothing.
    dead: BTreeSet<(Node, Node)>,
    /// Machines that are off.
    off: BTreeSet<Node>,
}

impl Paths {
    /// Whether packets get from one node to another.
    #[must_use]
    pub fn carry(&self, from: Node, to: Node) -> bool {
        !self.dead.contains(&(from, to)) && !self.off.contains(&from) && !self.off.contains(&to)
    }

    /// Whether they do in both directions.
    #[must_use]
    pub fn are_whole(&self, a: Node, b: Node) -> bool {
        self.carry(a, b) && self.carry(b, a)
    }

    /// Directions that are dead.
    #[must_use]
    pub fn dead(&self) -> Vec<(Node, Node)> {
        self.dead.iter().copied().collect()
    }

    /// From here on nothing gets from one node to another.
    pub fn cut(&mut self, from: Node, to: Node) {
        self.dead.insert((from, to));
    }

    /// From here on it does again.
    pub fn heal(&mut self, from: Node, to: Node) {
        self.dead.remove(&(from, to));
    }

    /// Nothing gets to a machine any more.
    pub fn switch_off(&mut self, node: Node) {
        self.off.insert(node);
    }

    /// It does again.
    pub fn switch_on(&mut self, node: Node) {
        self.off.remove(&node);
    }
}
