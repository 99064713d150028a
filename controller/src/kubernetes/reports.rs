//! What the daemons report in the status of our objects, as far as other daemons need it.
//!
//! Every daemon watches all `BGPNode`s and `BGPPeer`s for their spec, so their status comes with it and costs the API server
//! nothing. From the former anybody can count the sessions of a `BGPPeer` over all nodes; the latter says what is written already.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::crd::status::{BGPPeerStatus, RuleCounts};

/// What is reported in the status of one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// Of a `BGPNode`: its sessions by `BGPPeer`.
    Node(Vec<RuleCounts>),
    /// Of a `BGPPeer`.
    Peer(Written),
}

/// The status of a `BGPPeer` as it stands there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Written {
    /// The generation of the object.
    pub(crate) generation: Option<i64>,
    /// Its status.
    pub(crate) status: BGPPeerStatus,
}

impl Report {
    /// From an object of ours; what is not to be understood is as good as not there.
    pub(crate) fn of(kind: &str, generation: Option<i64>, mut status: Value) -> Option<Self> {
        match kind {
            "BGPNode" => {
                let counts = status.get_mut("bgpPeers").map(Value::take)?;
                serde_json::from_value(counts).ok().map(Self::Node)
            }
            "BGPPeer" => Some(Self::Peer(Written {
                generation,
                status: serde_json::from_value(status).unwrap_or_default(),
            })),
            _ => None,
        }
    }
}

/// All reports by the name of the object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    /// Of `BGPNode`s.
    pub(crate) nodes: BTreeMap<String, Vec<RuleCounts>>,
    /// Of `BGPPeer`s.
    pub(crate) peers: BTreeMap<String, Written>,
}

impl Reports {
    /// Takes one in.
    pub(crate) fn take(&mut self, name: &str, report: Report) {
        match report {
            Report::Node(counts) => {
                self.nodes.insert(name.to_owned(), counts);
            }
            Report::Peer(written) => {
                self.peers.insert(name.to_owned(), written);
            }
        }
    }

    /// Forgets those of a kind that are not among `names`.
    pub(crate) fn keep(&mut self, kind: &str, names: &BTreeSet<String>) {
        match kind {
            "BGPNode" => self.nodes.retain(|name, _| names.contains(name)),
            "BGPPeer" => self.peers.retain(|name, _| names.contains(name)),
            _ => {}
        }
    }
}
