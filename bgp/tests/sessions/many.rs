//! A node with many peers.

use bgp::{config::*, speaker::Speaker};

use crate::harness::*;

/// Sessions of the node in the middle; each takes two descriptors of this process.
const PEERS: u8 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_peers_that_dial_at_once_are_all_up() {
    let test = 60;
    let middle = address(test, 1);
    let mut config = speaker(middle, 65001);
    let mut others = Vec::new();
    for last in 2..=PEERS {
        let other = address(test, last);
        let mut to_other = peer(middle, other, 65001, 65001);
        to_other.connect = Connect::After(seconds(10));
        config.peers.insert(format!("node{last}"), to_other);
        let mut of_other = speaker(other, 65001);
        of_other.listen.clear();
        let mut to_middle = peer(other, middle, 65001, 65001);
        to_middle.connect = Connect::Dial;
        of_other.peers.insert("middle".into(), to_middle);
        others.push(of_other);
    }
    let begun = now();
    let node = Speaker::start(config);
    let mut events = node.events();
    let others: Vec<_> = others.into_iter().map(Speaker::start).collect();
    for _ in &others {
        until_up(&mut events).await;
    }
    let took = begun.elapsed();
    println!("{} sessions up after {took:?}", others.len());
}
