//! Requests that nobody meant, to the control socket: none harms the daemon, occupies it, or makes it grow.
//!
//! `FUZZ_SECONDS=300 cargo test -p controller --test requests` goes on for longer; it prints its seed, and `FUZZ_SEED` tells one again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

mod support;

use fastrand::Rng;
use support::{Place, text};

/// So many where nobody asks for more.
const REQUESTS: u64 = 400;
/// A daemon may have grown by so many octets: what answers and connections needed at once.
const ROOM: u64 = 32 << 20;
/// What nobody waits longer for.
const ANSWER: Duration = Duration::from_millis(25);

const MEANT: &[&str] = &[
    "GET /v1/status HTTP/1.1\r\nHost: routelet\r\n\r\n",
    "GET /v1/peers?peer=n2 HTTP/1.1\r\nHost: routelet\r\nAccept: text/plain\r\n\r\n",
    "GET /v1/routes?direction=received&peer=n2&family=IPv4&prefix=10.0.0.0/8&limit=10 HTTP/1.1\r\nHost: routelet\r\n\r\n",
    "GET /v1/fib?within=10.0.0.0/8&problems=true&limit=3 HTTP/1.1\r\nHost: routelet\r\n\r\n",
    "GET /v1/explain?query=10.2.0.7 HTTP/1.1\r\nHost: routelet\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: routelet\r\nConnection: close\r\n\r\n",
    "GET /v1/dump HTTP/1.1\r\nHost: routelet\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: routelet\r\n\r\n",
    "GET /readyz?verbose HTTP/1.0\r\n\r\n",
    "POST /v1/refresh?peer=n2&direction=advertised&family=IPv4 HTTP/1.1\r\nHost: routelet\r\n\r\n",
    "POST /v1/reload HTTP/1.1\r\nHost: routelet\r\nContent-Length: 4\r\n\r\nbody",
    "POST /v1/reload HTTP/1.1\r\nHost: routelet\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

const PIECES: &[&str] = &[
    "%",
    "%00",
    "%2f",
    "%ff%fe",
    "?",
    "&",
    "=",
    "+",
    "#",
    "..",
    "/",
    "//",
    "\0",
    "\r\n",
    "\n",
    ": ",
    " ",
    "\u{e9}",
    "18446744073709551616",
    "-1",
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/33",
    "fe80::1%eth0",
    "Content-Length: 99999999999\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
];

fn mutated(rng: &mut Rng) -> Vec<u8> {
    let mut octets = MEANT[rng.usize(0..MEANT.len())].as_bytes().to_vec();
    if rng.u8(0..8) == 0 {
        octets.extend(MEANT[rng.usize(0..MEANT.len())].as_bytes());
    }
    for _ in 0..rng.usize(0..6) {
        let at = rng.usize(0..octets.len());
        match rng.u8(0..6) {
            0 => octets.truncate(at.max(1)),
            1 => octets[at] = rng.u8(..),
            2 => drop(octets.splice(at..at, vec![b'a'; rng.usize(1..3000)])),
            3 => {
                let header = format!("X-{}: {}\r\n", rng.u16(..), "b".repeat(rng.usize(0..200)));
                octets.splice(at..at, header.repeat(rng.usize(1..120)).bytes());
            }
            _ => {
                let piece = PIECES[rng.usize(0..PIECES.len())];
                octets.splice(at..at, piece.bytes());
            }
        }
    }
    octets
}

/// Says it, and takes what comes at once; whoever answers speaks HTTP.
fn say(socket: &Path, octets: &[u8], then: Option<Shutdown>) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.set_write_timeout(Some(ANSWER)).unwrap();
    // It may close before it has heard all.
    drop(stream.write_all(octets));
    if let Some(how) = then {
        drop(stream.shutdown(how));
    }
    let mut answer = [0; 9];
    if stream.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer[..7], b"HTTP/1.", "{answer:?}");
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it goes on is the caller's to say"
)]
fn requests_that_nobody_meant_do_no_harm() {
    let place = Place::new();
    place.write("n1.yaml", &place.node("n1", 1, &[("n2", 2)]));
    let one = place.start("n1");
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let time = number("FUZZ_SECONDS").map(Duration::from_secs);
    let first = number("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("from FUZZ_SEED={first}");
    let (before, start, mut count) = (resident(one.child.id()), Instant::now(), 0);
    while time.map_or(count < REQUESTS, |time| start.elapsed() < time) {
        let mut rng = Rng::with_seed(first + count);
        let octets = mutated(&mut rng);
        let then = [None, Some(Shutdown::Write), Some(Shutdown::Both)];
        say(&one.socket, &octets, then[rng.usize(0..then.len())]);
        count += 1;
    }
    // Who has begun a request and says no more is in nobody's way.
    let idle: Vec<UnixStream> = (0..200)
        .map(|_| {
            let mut stream = UnixStream::connect(&one.socket).unwrap();
            stream.write_all(b"GET /v1/st").unwrap();
            stream
        })
        .collect();
    let status = one.ask(&["status"]);
    assert_ne!(status.status.code(), Some(2), "{}", text(&status.stderr));
    drop(idle);
    assert!(!one.log().contains("panicked"), "{}", one.log());
    let after = resident(one.child.id());
    assert!(
        after < before + ROOM,
        "{before} octets before, {after} after {count} requests"
    );
    println!("{count} requests; {before} octets before, {after} after");
    assert_eq!(one.stop(), Some(0));
}
