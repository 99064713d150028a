//! The messages of one look at the table: routes that say the same in as few UPDATEs as can be.

use std::time::SystemTime;

use bytes::BytesMut;

use super::{
    super::{
        intern::AttributesId,
        peer::{Live, Peer},
        route::Route,
        seconds,
        task::PeerId,
    },
    Known,
};
use crate::{
    bmp::{self, Statistic, Subject, View},
    prefix::Family,
    wire::{
        Context, Nlri,
        update::{self, Unsendable},
    },
};

/// One route as it is to be told. In the order of its fields: what goes together stands together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) peer: PeerId,
    view: View,
    family: Family,
    /// Its attributes, and since when they stand; `None`: it is withdrawn.
    stands: Option<(AttributesId, u32)>,
    nlri: Nlri,
}

impl Item {
    pub(super) fn withdrawn(peer: PeerId, view: View, nlri: Nlri) -> Self {
        Self {
            peer,
            view,
            family: nlri.prefix.family(),
            stands: None,
            nlri,
        }
    }

    pub(super) fn announced(peer: PeerId, view: View, route: &Route, nlri: Nlri) -> Self {
        let attributes = match view {
            View::PrePolicy => route.received,
            View::PostPolicy => route.effective,
        };
        Self {
            stands: Some((attributes, route.since)),
            ..Self::withdrawn(peer, view, nlri)
        }
    }

    /// Whether both say the same of their prefixes.
    pub(super) fn is_told_with(&self, other: &Self) -> bool {
        let Self {
            peer,
            view,
            family,
            stands,
            nlri: _,
        } = self;
        (*peer, *view, *family, *stands) == (other.peer, other.view, other.family, other.stands)
    }
}

/// Messages on their way to one collector.
pub(super) struct Messages<'a> {
    known: &'a Known<'a>,
    out: BytesMut,
    /// UPDATEs before they are wrapped.
    updates: BytesMut,
}

impl<'a> Messages<'a> {
    pub(super) fn new(known: &'a Known<'a>) -> Self {
        Self {
            known,
            out: BytesMut::new(),
            updates: BytesMut::new(),
        }
    }

    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    pub(super) fn finish(self) -> BytesMut {
        self.out
    }

    pub(super) fn end_of_rib(
        &mut self,
        subject: &Subject,
        view: View,
        family: Family,
        at: SystemTime,
    ) {
        self.updates.clear();
        update::end_of_rib(family, &mut self.updates);
        bmp::route_monitoring(subject, view, at, &self.updates, &mut self.out);
    }

    /// Routes that say the same.
    pub(super) fn routes(&mut self, subject: &Subject, live: &Live, alike: &[Item]) {
        let Some(first) = alike.first() else { return };
        let context = context(live);
        let nlri = alike.iter().map(|item| item.nlri);
        self.updates.clear();
        let since = match first.stands {
            None => {
                update::withdraw(first.family, nlri, &context, &mut self.updates);
                self.known.wall
            }
            Some((id, since)) => {
                let Some(attributes) = self.known.attributes.get(id) else {
                    return;
                };
                let mut announce = |context: &Context| {
                    let nlri = nlri.clone();
                    update::announce(attributes, first.family, nlri, context, &mut self.updates)
                };
                let written = match announce(&context) {
                    Err(Unsendable::TooLong(_)) => announce(&Context {
                        extended_message: true,
                        ..context
                    }),
                    written => written,
                };
                if let Err(error) = written {
                    tracing::debug!(peer = %subject.address, %error, "a route is not told to a collector");
                    return;
                }
                self.known.at(self.known.started + seconds(since))
            }
        };
        bmp::route_monitoring(subject, first.view, since, &self.updates, &mut self.out);
    }

    pub(super) fn statistics(&mut self, subject: &Subject, peer: &Peer, best: [u64; 2]) {
        let received = Family::ALL.map(|family| peer.inbound(family).received as u64);
        let ([in_v4, in_v6], [best_v4, best_v6]) = (received, best);
        let tally = &peer.tally;
        let statistics = [
            Statistic::Rejected(tally.rejected),
            Statistic::DuplicateAdvertisements(tally.duplicate_advertisements),
            Statistic::DuplicateWithdraws(tally.duplicate_withdraws),
            Statistic::ClusterLoops(tally.cluster_loops),
            Statistic::AsPathLoops(tally.as_path_loops),
            Statistic::OriginatorLoops(tally.originator_loops),
            Statistic::AdjRibIn(in_v4 + in_v6),
            Statistic::LocRib(best_v4 + best_v6),
            Statistic::AdjRibInOf(Family::IPv4, in_v4),
            Statistic::AdjRibInOf(Family::IPv6, in_v6),
            Statistic::LocRibOf(Family::IPv4, best_v4),
            Statistic::LocRibOf(Family::IPv6, best_v6),
            Statistic::TreatedAsWithdraw(tally.treated_as_withdraw),
        ];
        bmp::statistics_report(subject, &statistics, self.known.wall, &mut self.out);
    }
}

/// Messages of a size that everybody takes, with all that the peer may have said, and with path identifiers where the OPENs
/// in Peer Up agreed on them.
fn context(live: &Live) -> Context {
    Context {
        families: live.context.families,
        four_octet_as: true,
        add_path_receive: live.context.add_path_receive,
        add_path_send: live.context.add_path_receive,
        extended_message: false,
        extended_next_hop: true,
        internal: true,
    }
}
