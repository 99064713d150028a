//! The least BGP speaker that a session takes: one that counts what it is told, or one that stops reading.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wait::now;

const HOLD: u16 = 9;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

/// Whether it listens to what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Reads everything, and prints `have N` (IPv4 prefixes) whenever that has changed.
    Counts,
    /// Reads nothing once the session is up, but keeps saying that it is alive.
    StopsReading,
}

/// Dials `peer` as `asn`, prints `established`, and goes on until the session ends; prints why, and after how many seconds.
pub fn speak(peer: IpAddr, asn: u16, manners: Manners) -> Result<()> {
    let mut stream =
        TcpStream::connect(SocketAddr::new(peer, 179)).with_context(|| format!("{peer}"))?;
    stream.write_all(&message(OPEN, &open(asn)))?;
    let mut session = stream.try_clone()?;
    loop {
        let (kind, _) = read(&mut session)?;
        match kind {
            OPEN => stream.write_all(&message(KEEPALIVE, &[]))?,
            KEEPALIVE => break,
            other => bail!("message {other} before the session was up"),
        }
    }
    println!("established");
    let start = now();
    let (ended, end) = mpsc::channel();
    if manners == Manners::Counts {
        std::thread::spawn(move || {
            let why = count(&mut session);
            let _ = ended.send(why);
        });
    } else {
        // Kept, or the receiver would see the channel closed.
        std::mem::forget(ended);
    }
    loop {
        match end.recv_timeout(Duration::from_secs(2)) {
            Ok(why) => {
                println!(
                    "ended after {} s: {:#}",
                    start.elapsed().as_secs(),
                    why.err().context("no reason")?
                );
                return Ok(());
            }
            Err(_) => {
                if let Err(error) = stream.write_all(&message(KEEPALIVE, &[])) {
                    println!("ended after {} s: {error}", start.elapsed().as_secs());
                    return Ok(());
                }
            }
        }
    }
}

fn count(session: &mut TcpStream) -> Result<()> {
    let mut have = HashSet::new();
    let mut shown = 0;
    loop {
        let (kind, body) = read(session)?;
        match kind {
            UPDATE => update(&body, &mut have).context("an UPDATE that cannot be read")?,
            NOTIFICATION => bail!("NOTIFICATION {body:?}"),
            _ => {}
        }
        if have.len() != shown {
            shown = have.len();
            println!("have {shown}");
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// Version 4, no capabilities but multiprotocol IPv4.
fn open(asn: u16) -> Vec<u8> {
    let capabilities = [2, 6, 1, 4, 0, 1, 0, 1];
    [
        &[4][..],
        &asn.to_be_bytes(),
        &HOLD.to_be_bytes(),
        &[192, 0, 2, 77],
        &[8],
        &capabilities,
    ]
    .concat()
}

fn read(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut header = [0; 19];
    stream
        .read_exact(&mut header)
        .context("the connection was closed")?;
    let [.., high, low, kind] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    ensure!(length >= 19, "a message of {length} octets");
    let mut body = vec![0; length - 19];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

fn update(body: &[u8], have: &mut HashSet<Vec<u8>>) -> Option<()> {
    let (withdrawn, rest) = counted(body)?;
    let (_, announced) = counted(rest)?;
    for prefix in prefixes(withdrawn) {
        have.remove(prefix);
    }
    have.extend(prefixes(announced).into_iter().map(<[u8]>::to_vec));
    Some(())
}

/// Two octets of length, and what they count.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn prefixes(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(bits) = bytes.first() {
        let Some((prefix, rest)) = bytes.split_at_checked(1 + usize::from(*bits).div_ceil(8))
        else {
            break;
        };
        all.push(prefix);
        bytes = rest;
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn announced_prefixes_are_counted_and_withdrawn_ones_are_not() {
        let mut have = HashSet::new();
        super::update(&[0, 0, 0, 0, 24, 10, 1, 2, 16, 10, 3], &mut have).unwrap();
        assert_eq!(have.len(), 2);
        super::update(&[0, 4, 24, 10, 1, 2, 0, 0], &mut have).unwrap();
        assert_eq!(have.len(), 1);
    }
}
