//! The codec alone: messages and prefixes a second on one core, and what an attribute set costs in memory.
//!
//! `cargo bench -p bgp --bench codec`. Items are messages where a name says messages, prefixes where it says prefixes.

#![allow(clippy::unwrap_used, reason = "a benchmark may")]

use std::net::IpAddr;

use bgp::{
    prefix::{Families, Family, Prefix},
    wire::{
        AsPath, Attributes, Community, Context, Limit, Message, Nlri, frame,
        update::{announce, withdraw},
    },
};
use bytes::BytesMut;
use divan::{Bencher, black_box, counter::ItemsCount};

const MESSAGES: u32 = 50_000;
const CONTEXT: Context = Context {
    families: Families::all(),
    four_octet_as: true,
    add_path_receive: Families::empty(),
    add_path_send: Families::empty(),
    extended_message: false,
    extended_next_hop: false,
    internal: false,
};

fn main() {
    memory();
    divan::main();
}

/// What the attribute sets of a table take, as they lie in the heap.
fn memory() {
    let mut numbers = Numbers(1);
    let octets: usize = (0..MESSAGES)
        .map(|_| attributes(Family::IPv4, &mut numbers))
        .map(|set| {
            let path = set.as_path.segments().map(|part| 2 + 4 * part.len());
            2 * size_of::<usize>()
                + size_of::<Attributes>()
                + path.sum::<usize>()
                + size_of_val(&*set.communities)
        })
        .sum();
    let each = octets / MESSAGES as usize;
    let itself = size_of::<Attributes>();
    println!("an attribute set: {each} octets in the heap, {itself} of them Attributes itself");
}

/// A small generator: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(((self.0 >> 32) * u64::from(limit)) >> 32).unwrap()
    }
}

/// Attributes as in an Internet table: 2–7 ASes, MED in a fifth, communities in two thirds.
fn attributes(family: Family, numbers: &mut Numbers) -> Attributes {
    let asns: Vec<u32> = (0..2 + numbers.below(6))
        .map(|_| 1 + numbers.below(400_000))
        .collect();
    let communities = match numbers.below(3) {
        0 => 0,
        _ => 1 + numbers.below(6),
    };
    let next_hop: IpAddr = match family {
        Family::IPv4 => [192, 0, 2, 1].into(),
        Family::IPv6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    Attributes {
        as_path: AsPath::sequence(&asns),
        next_hop: Some(next_hop.into()),
        med: (numbers.below(5) == 0).then(|| numbers.below(1000)),
        communities: (0..communities)
            .map(|_| Community(numbers.below(u32::MAX)))
            .collect(),
        ..Attributes::default()
    }
}

fn nlri(family: Family, count: u32, numbers: &mut Numbers) -> Vec<Nlri> {
    (0..count)
        .map(|_| {
            let length = 16 + u8::try_from(numbers.below(9)).unwrap();
            let high = numbers.below(0x1000_0000);
            let prefix = match family {
                Family::IPv4 => Prefix::v4((0x0100_0000 + high).into(), length),
                Family::IPv6 => {
                    Prefix::v6((u128::from(0x2000_0000 + high) << 96).into(), length + 16)
                }
            };
            prefix.unwrap().into()
        })
        .collect()
}

/// A stream of UPDATEs with 1 to `most` prefixes each.
fn updates(family: Family, most: u32) -> BytesMut {
    let mut numbers = Numbers(1);
    let mut out = BytesMut::new();
    for _ in 0..MESSAGES {
        let attributes = attributes(family, &mut numbers);
        let count = 1 + numbers.below(most);
        let nlri = nlri(family, count, &mut numbers);
        announce(&attributes, family, nlri, &CONTEXT, &mut out).unwrap();
    }
    out
}

fn read_all(mut octets: &[u8]) -> usize {
    let mut prefixes = 0;
    while let Some(found) = frame(octets, Limit::Standard).unwrap() {
        if let Some(Message::Update(update)) = black_box(found.message(&CONTEXT).unwrap()) {
            prefixes += update
                .announced
                .iter()
                .map(|set| set.nlri.len())
                .sum::<usize>();
        }
        octets = octets.split_at(found.octets().len()).1;
    }
    prefixes
}

/// P15: owned attributes and prefixes of every message.
#[divan::bench(args = [Family::IPv4, Family::IPv6])]
fn read_messages_of_1_to_7_prefixes(bencher: Bencher<'_, '_>, family: &Family) {
    let octets = updates(*family, 7);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .bench_local(|| read_all(black_box(&octets)));
}

#[divan::bench]
fn read_messages_of_1_prefix(bencher: Bencher<'_, '_>) {
    let octets = updates(Family::IPv4, 1);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .bench_local(|| read_all(black_box(&octets)));
}

#[divan::bench(args = [Family::IPv4, Family::IPv6])]
fn read_prefixes_of_long_messages(bencher: Bencher<'_, '_>, family: &Family) {
    let octets = updates(*family, 400);
    let prefixes = read_all(&octets);
    bencher
        .counter(ItemsCount::new(prefixes))
        .bench_local(|| read_all(black_box(&octets)));
}

#[divan::bench(args = [Family::IPv4, Family::IPv6])]
fn write_messages_of_5_prefixes(bencher: Bencher<'_, '_>, family: &Family) {
    let mut numbers = Numbers(2);
    let sets: Vec<_> = (0..1000)
        .map(|_| {
            (
                attributes(*family, &mut numbers),
                nlri(*family, 5, &mut numbers),
            )
        })
        .collect();
    let mut out = BytesMut::with_capacity(1 << 20);
    bencher
        .counter(ItemsCount::new(sets.len()))
        .bench_local(|| {
            out.clear();
            for (attributes, nlri) in &sets {
                let nlri = nlri.iter().copied();
                announce(attributes, *family, nlri, &CONTEXT, &mut out).unwrap();
            }
            out.len()
        });
}

#[divan::bench(args = [Family::IPv4, Family::IPv6])]
fn withdraw_prefixes(bencher: Bencher<'_, '_>, family: &Family) {
    let nlri = nlri(*family, 100_000, &mut Numbers(3));
    let mut out = BytesMut::with_capacity(1 << 22);
    bencher
        .counter(ItemsCount::new(nlri.len()))
        .bench_local(|| {
            out.clear();
            withdraw(*family, nlri.iter().copied(), &CONTEXT, &mut out)
        });
}
