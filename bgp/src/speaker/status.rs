//! The status of the whole: what each peer's task tells, joined with what the Rib counts.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::sync::oneshot;

use crate::{
    bfd::Bfd,
    config::SpeakerConfig,
    peer::driver::PeerReport,
    rib::task::{PeerId, RibCounts, RibHandle},
    status::{PeerStatus, SpeakerStatus},
};

/// What is asked at once and answered one by one.
pub(super) struct Inquiry {
    /// Without peers and counts.
    pub(super) speaker: SpeakerStatus,
    /// By name: who answers for it.
    pub(super) peers: Vec<(PeerId, oneshot::Receiver<PeerReport>)>,
}

impl Inquiry {
    pub(super) fn new(
        config: &SpeakerConfig,
        listening: &BTreeMap<SocketAddr, Result<(), String>>,
        mut problems: Vec<String>,
    ) -> Self {
        let states = listening.values();
        problems.extend(states.filter_map(|state| state.as_ref().err().cloned()));
        Self {
            speaker: SpeakerStatus {
                asn: config.asn,
                router_id: config.router_id,
                listen: listening
                    .iter()
                    .filter(|(_, state)| state.is_ok())
                    .map(|(address, _)| *address)
                    .collect(),
                complete: false,
                prefixes: BTreeMap::new(),
                attribute_sets: 0,
                bfd_discarded: BTreeMap::new(),
                collectors: BTreeMap::new(),
                mrt: None,
                peers: BTreeMap::new(),
                problems,
            },
            peers: Vec::new(),
        }
    }

    /// Waits for all answers.
    pub(super) async fn answered(self, rib: RibHandle, bfd: Bfd) -> SpeakerStatus {
        let mut speaker = self.speaker;
        speaker.bfd_discarded = bfd.discarded().await.into_iter().collect();
        let counts = rib.counts().await.unwrap_or_default();
        speaker.complete = counts.complete;
        speaker.prefixes = counts
            .prefixes
            .iter()
            .map(|(family, count)| (family.to_string(), *count))
            .collect();
        speaker.attribute_sets = counts.attribute_sets;
        for (id, answer) in self.peers {
            if let Ok(report) = answer.await {
                let mut peer = joined(report.status, id, &counts);
                if let Some(bfd) = report.bfd {
                    peer.bfd = bfd.await.ok();
                }
                speaker.peers.insert(peer.name.clone(), peer);
            }
        }
        speaker
    }
}

fn joined(mut peer: PeerStatus, id: PeerId, counts: &RibCounts) -> PeerStatus {
    if let Some(counted) = counts.peers.get(&id) {
        peer.families.clone_from(&counted.families);
        peer.messages.updates_out = counted.updates_out;
        peer.messages.messages_out = peer
            .messages
            .messages_out
            .saturating_add(counted.updates_out);
    }
    peer
}
