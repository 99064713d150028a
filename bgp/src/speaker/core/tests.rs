//! What a fault in the task of one peer costs the others: nothing.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::*;
use crate::{
    config::{Connect, Multipath, NextHopAddresses, PeerAsn},
    prefix::{Families, Family},
    rib::fixture,
    wire::{
        self, AsPath, Attributes, Capability, Limit, Message, Nlri, Open, Update, update::Announced,
    },
};

const OURS: Ipv4Addr = Ipv4Addr::new(127, 78, 1, 1);
const FAULTY: Ipv4Addr = Ipv4Addr::new(127, 78, 1, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 78, 1, 3);
const PORT: u16 = 11790;

fn config() -> SpeakerConfig {
    let peer = |address: Ipv4Addr| PeerConfig {
        address: address.into(),
        asn: PeerAsn::Number(65001),
        connect: Connect::Passive,
        ttl: crate::config::Ttl::Send(64),
        next_hop_addresses: NextHopAddresses::default(),
        ..fixture::peer_config()
    };
    SpeakerConfig {
        asn: 64512,
        router_id: OURS,
        cluster_id: OURS,
        listen: vec![SocketAddr::new(OURS.into(), PORT)],
        peers: [
            ("faulty".into(), peer(FAULTY)),
            ("other".into(), peer(OTHER)),
        ]
        .into(),
        ranges: [].into(),
        originate: [].into(),
        owners: Arc::default(),
        multipath: Multipath {
            max_paths: 1,
            as_path_relax: false,
        },
        deferral: Duration::from_secs(1),
        draining: false,
        collectors: [].into(),
        mrt: None,
    }
}

fn context() -> wire::Context {
    wire::Context {
        families: Families::IPV4,
        four_octet_as: true,
        ..wire::Context::default()
    }
}

async fn say(stream: &mut TcpStream, message: &Message) {
    let mut octets = BytesMut::new();
    message
        .write(&context(), &mut octets)
        .expect("it can be written");
    stream.write_all(&octets).await.expect("it is taken");
}

/// A session from this address, which tells one route.
async fn session(from: Ipv4Addr, prefix: Prefix) -> TcpStream {
    let mut stream = loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::new(from.into(), 0))
            .expect("an address of this machine");
        match socket.connect(SocketAddr::new(OURS.into(), PORT)).await {
            Ok(mut stream) => {
                say(
                    &mut stream,
                    &Message::Open(Open {
                        asn: 65001,
                        hold_time: 90,
                        id: from,
                        capabilities: vec![
                            Capability::Multiprotocol(Family::IPv4),
                            Capability::FourOctetAs(65001),
                        ],
                    }),
                )
                .await;
                say(&mut stream, &Message::Keepalive).await;
                if is_up(&mut stream).await {
                    break stream;
                }
            }
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let attributes = Attributes {
        as_path: AsPath::sequence(&[65001]),
        next_hop: Some(IpAddr::from([192, 0, 2, 1]).into()),
        ..Attributes::default()
    };
    let announced = Announced {
        attributes: Arc::new(attributes),
        nlri: vec![Nlri::from(prefix)],
    };
    let update = Update {
        announced: [announced].into_iter().collect(),
        ..Update::default()
    };
    say(&mut stream, &Message::Update(update)).await;
    stream
}

/// Whether a KEEPALIVE comes before the end.
async fn is_up(stream: &mut TcpStream) -> bool {
    let mut buffer = BytesMut::new();
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        while let Some(message) =
            Message::take(&mut buffer, Limit::Standard, &context()).expect("a good message")
        {
            match message {
                Message::Keepalive => return true,
                Message::Notification(_) => return false,
                _ => {}
            }
        }
    }
}

/// All that a running core does by itself.
async fn go_on(core: &mut Core) {
    loop {
        tokio::select! {
            Some(notice) = core.notices.1.recv() => core.noticed(notice).await,
            Some(ended) = core.tasks.join_next_with_id() => core.ended(ended).await,
        }
    }
}

/// `future`, while the core runs.
async fn beside<T>(core: &mut Core, future: impl Future<Output = T>) -> T {
    let both = async {
        tokio::select! {
            value = future => value,
            () = go_on(core) => unreachable!("it goes on for ever"),
        }
    };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("it comes to that")
}

#[tokio::test]
async fn a_fault_in_the_task_of_a_peer_costs_its_session_alone_and_it_begins_anew() {
    let (events, mut heard) = broadcast::channel(64);
    let rib = RibHandle::start(Settings::from(&config()), None, events.clone());
    let mut core = Core::new(config(), rib.clone(), events);
    core.go_over(config()).await;
    let [one, two]: [Prefix; 2] =
        ["10.1.0.0/16", "10.2.0.0/16"].map(|text| text.parse().expect("a prefix"));
    let known = async |prefix, wanted| {
        while rib.explain(prefix).await.is_some() != wanted {
            tokio::task::yield_now().await;
        }
    };
    let mut faulty = beside(&mut core, session(FAULTY, one)).await;
    let other = beside(&mut core, session(OTHER, two)).await;
    beside(&mut core, known(one, true)).await;
    beside(&mut core, known(two, true)).await;

    let peer = core.peers.get("faulty").expect("it is configured");
    peer.tell(driver::Command::Fail);
    let mut rest = Vec::new();
    let end = beside(&mut core, faulty.read_to_end(&mut rest)).await;
    drop(end); // an end or a reset, as the kernel likes
    beside(&mut core, known(one, false)).await;
    let told = async {
        loop {
            if let Ok(Event::Problem {
                peer: Some(peer),
                text,
            }) = heard.recv().await
                && text.contains("internal error")
            {
                return peer;
            }
        }
    };
    assert_eq!(beside(&mut core, told).await, "faulty");

    let again = beside(&mut core, session(FAULTY, one)).await;
    beside(&mut core, known(one, true)).await;
    assert!(
        rib.explain(two).await.is_some(),
        "the other noticed nothing"
    );
    let mut octet = [0; 4096];
    let end_of_other = matches!(other.try_read(&mut octet), Ok(0));
    assert!(!end_of_other);
    drop(again);
}
