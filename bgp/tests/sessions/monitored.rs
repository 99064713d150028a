//! Speakers that are looked on: a collector and files, over real sockets and on a real disk.

use std::{net::SocketAddr, path::PathBuf};

use bgp::{
    bmp::Views,
    config::{CollectorConfig, MrtConfig},
    speaker::{Speaker, Stop},
    wire::Message,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::*;

/// A BMP message: its type and what follows the common header.
async fn hear(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let heard = async {
        let mut header = [0; 6];
        stream.read_exact(&mut header).await.expect("a header");
        let [3, a, b, c, d, kind] = header else {
            unreachable!("version 3");
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let mut body = vec![0; length - 6];
        stream.read_exact(&mut body).await.expect("a body");
        (kind, body)
    };
    tokio::time::timeout(PATIENCE, heard)
        .await
        .expect("something comes")
}

/// The next message of this type; others are passed over.
async fn await_kind(stream: &mut TcpStream, wanted: u8) -> Vec<u8> {
    loop {
        let (kind, body) = hear(stream).await;
        if kind == wanted {
            return body;
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    accepted.expect("it dials").expect("a connection").0
}

const PEER_DOWN: u8 = 2;
const PEER_UP: u8 = 3;
const INITIATION: u8 = 4;
const TERMINATION: u8 = 5;

#[tokio::test]
async fn a_collector_hears_how_sessions_begin_and_end_and_is_dialled_again() {
    let station = SocketAddr::new(address(80, 9).into(), PORT);
    let listener = TcpListener::bind(station).await.expect("a free port");
    let (mut one, two) = couple(80);
    let collector = CollectorConfig {
        address: station,
        system: "one".into(),
        description: "a speaker".into(),
        views: Views::PRE_POLICY,
        statistics: None,
    };
    one.collectors.insert("station".into(), collector);
    let two = Speaker::start(two);
    let one = Speaker::start(one);

    let mut stream = accept(&listener).await;
    let (kind, body) = hear(&mut stream).await;
    assert_eq!(kind, INITIATION);
    assert!(String::from_utf8_lossy(&body).contains("a speaker"));
    let up = await_kind(&mut stream, PEER_UP).await;
    // Behind the per-peer header and our address: ours is the port that dialled, theirs the one that is listened on.
    let ports = up.get(58..62).expect("ports");
    assert_eq!(ports.get(2..), Some(&PORT.to_be_bytes()[..]));
    let mut opens = bytes::BytesMut::from(up.get(62..).expect("OPENs"));
    for asn in [65001, 65002] {
        let message = Message::take(&mut opens, Default::default(), &Default::default());
        let Ok(Some(Message::Open(open))) = message else {
            unreachable!("an OPEN");
        };
        assert_eq!(open.asn, asn, "ours, then theirs");
    }
    assert!(opens.is_empty());

    // What it says does not matter.
    stream.write_all(&[0xff; 4096]).await.expect("it is taken");
    let message = "it is time".to_owned();
    two.stop(Stop::Shutdown { message }).await;
    let down = await_kind(&mut stream, PEER_DOWN).await;
    assert_eq!(down.get(42), Some(&3), "they said why");
    assert!(String::from_utf8_lossy(&down).contains("it is time"));

    drop(stream);
    let mut stream = accept(&listener).await;
    assert_eq!(hear(&mut stream).await.0, INITIATION);
    let known = status(&one).await.collectors;
    let known = known.get("station").expect("it is configured");
    assert!(known.connected && known.connections == 2, "{known:?}");
    one.stop(Stop::Restart).await;
    await_kind(&mut stream, TERMINATION).await;
}

#[tokio::test]
async fn updates_are_recorded_octet_by_octet() {
    let directory = std::env::temp_dir().join(format!("mrt-sessions-{}", std::process::id()));
    let mut config = waiting(81);
    config.mrt = Some(MrtConfig {
        directory: directory.clone(),
        updates: Some(seconds(86_400)),
        table: None,
    });
    let speaker = Speaker::start(config);
    let mut events = speaker.events();
    let mut hand = Hand::dial(address(81, 1), address(81, 2)).await;
    hand.establish(open(81)).await;
    until_up(&mut events).await;
    // It announces 10.1.0.0/16 with an ORIGIN that there is not: treated as withdrawn, and recorded as it is.
    let attributes = [
        &[0x40, 1, 1, 9][..],
        &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9],
        &[0x40, 3, 4, 127, 77, 81, 1],
    ]
    .concat();
    let body = [&[0, 0, 0, 20][..], &attributes, &[16, 10, 1]].concat();
    let update = [&[0xff; 16][..], &[0, 46, 2], &body].concat();
    assert_eq!(update.len(), 46);
    hand.say_octets(&update).await;
    problem(&mut events, "RFC 7606").await;
    speaker.stop(Stop::Restart).await;
    let files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let [file] = files.as_slice() else {
        unreachable!("one file: {files:?}");
    };
    assert!(file.extension().is_some_and(|extension| extension == "mrt"));
    let octets = std::fs::read(file).expect("a file");
    std::fs::remove_dir_all(&directory).expect("it is removed");
    let found = octets.windows(update.len()).filter(|part| *part == update);
    assert_eq!(found.count(), 1);
}
