//! As much of pcap, pcapng, Ethernet, IP and TCP as it takes to get at the streams in a capture.

use std::collections::BTreeMap;

use super::bytes::Bytes;

/// What one side of a TCP connection sent, in order.
pub(crate) struct Stream {
    /// Octets without gaps; a gap (or the end of the capture) begins the next run.
    pub(crate) runs: Vec<Vec<u8>>,
}

/// One direction of a connection: its addresses and ports, its segments by place, the number of the first.
type Flow = (Vec<u8>, BTreeMap<u64, Vec<u8>>, u32);

/// The streams of a capture, in the order of their first segment.
pub(crate) fn streams(capture: &[u8]) -> Vec<Stream> {
    let mut flows: Vec<Flow> = Vec::new();
    for (link, frame) in frames(capture) {
        let Some((flow, sequence, payload)) = segment(link, frame) else {
            continue;
        };
        if payload.is_empty() {
            continue;
        }
        let found = flows.iter().position(|(other, ..)| *other == flow);
        let at = found.unwrap_or_else(|| {
            flows.push((flow, BTreeMap::new(), sequence));
            flows.len() - 1
        });
        let (_, segments, first) = &mut flows[at];
        // Numbers relative to the first one, and it in the middle, so that earlier ones fit too.
        let place = (1 << 32) + i64::from(sequence.wrapping_sub(*first) as i32);
        let kept = segments.entry(u64::try_from(place).unwrap()).or_default();
        if payload.len() > kept.len() {
            *kept = payload.to_vec();
        }
    }
    flows
        .into_iter()
        .map(|(_, segments, _)| joined(segments))
        .collect()
}

fn joined(segments: BTreeMap<u64, Vec<u8>>) -> Stream {
    let mut runs: Vec<Vec<u8>> = Vec::new();
    let mut next = None;
    for (place, payload) in segments {
        let seen = next.map_or(0, |next: u64| next.saturating_sub(place));
        if next.is_none_or(|next| place > next) {
            runs.push(Vec::new());
        }
        let new = payload
            .get(usize::try_from(seen).unwrap()..)
            .unwrap_or_default();
        runs.last_mut().unwrap().extend(new);
        next = Some(next.unwrap_or(0).max(place + payload.len() as u64));
    }
    Stream { runs }
}

/// Frames with their link type.
fn frames(capture: &[u8]) -> Vec<(u32, &[u8])> {
    let mut frames = Vec::new();
    let mut rest = Bytes(capture);
    if capture.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        let mut links = Vec::new();
        // Every file at hand was written by little-endian machines.
        while let (Some(kind), Some(length)) = (rest.u32_le(), rest.u32_le()) {
            let Some(body) = rest.take(length as usize - 12) else {
                break;
            };
            rest.take(4);
            let mut body = Bytes(body);
            match kind {
                1 => links.push(u32::from(body.u16_le().unwrap())),
                6 => {
                    let interface = body.u32_le().unwrap() as usize;
                    body.take(8);
                    let length = body.u32_le().unwrap() as usize;
                    body.take(4);
                    frames.push((links[interface], body.take(length).unwrap()));
                }
                _ => {}
            }
        }
    } else {
        rest.take(20);
        let link = rest.u32_le().unwrap();
        while rest.take(8).is_some() {
            let length = rest.u32_le().unwrap() as usize;
            rest.take(4);
            let Some(frame) = rest.take(length) else {
                break;
            };
            frames.push((link, frame));
        }
    }
    frames
}

/// Who talks to whom, the sequence number, and what was said; `None`: not TCP.
fn segment(link: u32, frame: &[u8]) -> Option<(Vec<u8>, u32, &[u8])> {
    let mut rest = Bytes(frame);
    let mut kind = match link {
        1 => {
            rest.take(12)?;
            rest.u16()?
        }
        113 => {
            rest.take(14)?;
            rest.u16()?
        }
        101 => match frame.first()? >> 4 {
            4 => 0x0800,
            _ => 0x86dd,
        },
        other => panic!("link type {other}"),
    };
    while kind == 0x8100 {
        rest.take(2)?;
        kind = rest.u16()?;
    }
    let (mut flow, tcp) = match kind {
        0x0800 => {
            let header = rest.0;
            let length = usize::from(u16::from_be_bytes([*header.get(2)?, *header.get(3)?]));
            let size = usize::from(header.first()? & 15) * 4;
            let tcp = header.get(size..length.min(header.len()))?;
            (*header.get(9)? == 6).then(|| (header[12..20].to_vec(), tcp))?
        }
        0x86dd => {
            let header = rest.0;
            let length = 40 + usize::from(u16::from_be_bytes([*header.get(4)?, *header.get(5)?]));
            let tcp = header.get(40..length.min(header.len()))?;
            (*header.get(6)? == 6).then(|| (header[8..40].to_vec(), tcp))?
        }
        _ => return None,
    };
    flow.extend(tcp.get(..4)?);
    let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    Some((flow, sequence, payload))
}
