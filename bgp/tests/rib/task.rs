//! The task around the Rib: channels in and out, nobody waited for.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bgp::{
    bmp::Down,
    prefix::{Families, Prefix},
    rib::task::{
        Ended, Ending, Install, LongLived, Order, Outbound, PeerChange, PeerId, PeerMessage,
        Refreshing, RibHandle, Room, Session,
    },
    speaker::RouteQuery,
    status::PeerKind::External,
    wire::{Context, Update, update::Announced},
};
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};

use crate::world::{address, attributes, config, prefix, settings};

struct Ends {
    messages: mpsc::UnboundedReceiver<Bytes>,
    orders: mpsc::UnboundedReceiver<Box<Order>>,
    room: Arc<Room>,
}

fn session(number: u32) -> (Session, Ends) {
    let (messages, inbox) = mpsc::unbounded_channel();
    let (orders, ordered) = mpsc::unbounded_channel();
    let room = Arc::new(Room::default());
    let session = Session {
        config: Arc::new(config(number, External)),
        context: Context {
            families: Families::IPV4,
            four_octet_as: true,
            ..Context::default()
        },
        kind: External,
        asn: 65000 + number,
        router_id: Ipv4Addr::from(number),
        address: address(number),
        local_address: Ipv4Addr::new(10, 0, 1, 254).into(),
        local_link_local: None,
        interface: None,
        refresh: Refreshing::No,
        expects_end_of_rib: Families::IPV4,
        preserved: Families::empty(),
        knows_long_stale: false,
        opening: Arc::default(),
        outbound: Outbound {
            messages,
            room: room.clone(),
            orders,
        },
    };
    let ends = Ends {
        messages: inbox,
        orders: ordered,
        room,
    };
    (session, ends)
}

fn set(number: u32) -> PeerChange {
    PeerChange::Set {
        peer: PeerId(number),
        name: format!("peer{number}").into(),
        config: Arc::new(config(number, External)),
    }
}

fn announcing(number: u32, prefixes: impl IntoIterator<Item = Prefix>) -> PeerMessage {
    PeerMessage::Updates(vec![Update {
        announced: [Announced {
            attributes: attributes(number, External, 1).into(),
            nlri: prefixes.into_iter().map(Into::into).collect(),
        }]
        .into_iter()
        .collect(),
        ..Update::default()
    }])
}

fn end_of_rib() -> PeerMessage {
    PeerMessage::Updates(vec![Update {
        end_of_rib: Some(bgp::prefix::Family::IPv4),
        ..Update::default()
    }])
}

async fn establish(rib: &RibHandle, number: u32) -> Ends {
    let (session, ends) = session(number);
    rib.send(PeerId(number), PeerMessage::Established(Box::new(session)))
        .await
        .expect("the task runs");
    ends
}

fn start(installs: Option<mpsc::Sender<Vec<Install>>>) -> RibHandle {
    RibHandle::start(settings(), installs, broadcast::channel(16).0)
}

#[tokio::test]
async fn it_is_complete_once_every_route_is_with_the_installer() {
    let (installs, mut installer) = mpsc::channel(1);
    let rib = start(Some(installs));
    rib.configure(settings(), vec![set(1)])
        .await
        .expect("the task runs");
    let _ends = establish(&rib, 1).await;
    let wanted: BTreeSet<Prefix> = (0..20_000_u32)
        .map(|number| Prefix::v4((0x0b00_0000 + (number << 8)).into(), 24).expect("a prefix"))
        .collect();
    let announced = announcing(1, wanted.clone());
    rib.send(PeerId(1), announced).await.expect("the task runs");
    rib.send(PeerId(1), end_of_rib())
        .await
        .expect("the task runs");
    let counts = rib.counts().await.expect("the task runs");
    assert!(counts.complete);
    let mut complete = rib.complete();
    assert!(
        !*complete.borrow(),
        "the installer has only the first batch"
    );
    let mut installed = BTreeSet::new();
    while installed.len() < wanted.len() {
        let batch = installer.recv().await.expect("the task runs");
        installed.extend(batch.into_iter().map(|install| install.prefix));
    }
    assert_eq!(installed, wanted);
    complete
        .wait_for(|complete| *complete)
        .await
        .expect("the task runs");
}

#[tokio::test]
async fn an_installer_that_takes_nothing_holds_up_nobody() {
    let (installs, _installer) = mpsc::channel(1);
    let rib = start(Some(installs));
    rib.configure(settings(), vec![set(1), set(2)])
        .await
        .expect("the task runs");
    let _source = establish(&rib, 1).await;
    let mut sink = establish(&rib, 2).await;
    for number in 0..20_000_u32 {
        let prefix = Prefix::v4((0x0b00_0000 + (number << 8)).into(), 24).expect("a prefix");
        rib.send(PeerId(1), announcing(1, [prefix]))
            .await
            .expect("the task runs");
    }
    let counts = rib.counts().await.expect("the task runs");
    assert_eq!(counts.prefixes.values().sum::<usize>(), 20_000);
    assert!(sink.messages.recv().await.is_some());
}

#[tokio::test]
async fn an_installer_that_is_gone_is_forgotten() {
    let (installs, installer) = mpsc::channel(1);
    drop(installer);
    let rib = start(Some(installs));
    rib.configure(settings(), vec![set(1)])
        .await
        .expect("the task runs");
    let _ends = establish(&rib, 1).await;
    rib.send(PeerId(1), announcing(1, [prefix("10.9.0.0/16")]))
        .await
        .expect("the task runs");
    rib.send(PeerId(1), end_of_rib())
        .await
        .expect("the task runs");
    rib.complete()
        .wait_for(|complete| *complete)
        .await
        .expect("the task runs");
}

#[tokio::test]
async fn who_drains_its_queue_is_written_to_again() {
    let rib = start(None);
    rib.configure(settings(), vec![set(1), set(2)])
        .await
        .expect("the task runs");
    let _source = establish(&rib, 1).await;
    let mut sink = establish(&rib, 2).await;
    let wanted = 200_000_u32;
    for chunk in 0..20 {
        let prefixes = (0..wanted / 20).map(|number| {
            let number = chunk * (wanted / 20) + number;
            Prefix::v4((0x0b00_0000 + (number << 8)).into(), 24).expect("a prefix")
        });
        rib.send(PeerId(1), announcing(1, prefixes))
            .await
            .expect("the task runs");
    }
    let (mut octets, mut most) = (0, 0);
    // Four octets each, and a few for the messages around them.
    while octets < 4 * wanted as usize {
        most = most.max(sink.room.queued.load(Ordering::SeqCst));
        let piece = sink.messages.recv().await.expect("the task runs");
        octets += piece.len();
        let before = sink.room.queued.fetch_sub(piece.len(), Ordering::SeqCst);
        if before - piece.len() <= Room::LIMIT / 2
            && sink.room.awaited.swap(false, Ordering::SeqCst)
        {
            rib.send(PeerId(2), PeerMessage::Writable)
                .await
                .expect("the task runs");
        }
    }
    assert!(most < Room::LIMIT + 128 * 1024, "{most}");
}

#[tokio::test]
async fn a_session_of_a_peer_that_was_removed_is_closed() {
    let rib = start(None);
    rib.configure(settings(), vec![set(1)])
        .await
        .expect("the task runs");
    rib.configure(settings(), vec![PeerChange::Remove(PeerId(1))])
        .await
        .expect("the task runs");
    let mut ends = establish(&rib, 1).await;
    let order = ends.orders.recv().await.expect("an order");
    let Order::Close { notification, .. } = *order;
    assert_eq!((notification.code, notification.subcode), (6, 3));
}

#[tokio::test]
async fn a_stale_route_leaves_when_its_time_is_over_without_any_message() {
    let (installs, mut installer) = mpsc::channel(16);
    let rib = start(Some(installs));
    rib.configure(settings(), vec![set(1)])
        .await
        .expect("the task runs");
    let _ends = establish(&rib, 1).await;
    rib.send(PeerId(1), announcing(1, [prefix("10.9.0.0/16")]))
        .await
        .expect("the task runs");
    assert_eq!(installer.recv().await.expect("a batch").len(), 1);
    let restarting = Ending::Restarting {
        families: Families::IPV4,
        restart_time: Duration::from_millis(50),
        long_lived: LongLived::NONE,
        yields: false,
    };
    rib.send(PeerId(1), PeerMessage::Down(restarting, Down::TheyLeft))
        .await
        .expect("the task runs");
    let gone = installer.recv().await.expect("a batch");
    assert!(gone.iter().all(|install| install.next_hops.is_empty()));
}

#[tokio::test]
async fn the_task_ends_with_its_last_handle() {
    let (installs, mut installer) = mpsc::channel(1);
    let rib = start(Some(installs));
    let other = rib.clone();
    drop(rib);
    assert!(other.routes(RouteQuery::default()).await.is_empty());
    drop(other);
    assert!(installer.recv().await.is_none());
}

#[test]
fn ended_says_so() {
    assert_eq!(Ended.to_string(), "the task that owns the Rib has ended");
}
