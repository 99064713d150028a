//! MRT (RFC 6396, RFC 8050): UPDATEs as collectors recorded them, and tables as UPDATEs.

use super::bytes::Bytes;

/// One UPDATE, and how its collector and peer spoke.
pub(crate) struct Recorded {
    pub(crate) message: Vec<u8>,
    pub(crate) four_octet_as: bool,
    pub(crate) add_path: bool,
}

/// What is in a file.
#[derive(Default)]
pub(crate) struct File {
    pub(crate) records: usize,
    pub(crate) state_changes: usize,
    pub(crate) updates: Vec<Recorded>,
    /// Other messages.
    pub(crate) others: Vec<Vec<u8>>,
    /// Octets after the last whole record.
    pub(crate) tail: usize,
}

pub(crate) fn read(octets: &[u8]) -> File {
    let mut file = File::default();
    let mut rest = Bytes(octets);
    loop {
        file.tail = rest.0.len();
        let Some(header) = rest.take(12) else { break };
        let kind = u16::from_be_bytes([header[4], header[5]]);
        let subtype = u16::from_be_bytes([header[6], header[7]]);
        let length = u32::from_be_bytes(header[8..].try_into().unwrap());
        let Some(body) = rest.take(length as usize) else {
            break;
        };
        file.records += 1;
        record(kind, subtype, Bytes(body), &mut file).expect("a whole record");
    }
    file
}

fn record(kind: u16, subtype: u16, mut body: Bytes<'_>, file: &mut File) -> Option<()> {
    match (kind, subtype) {
        (5, 1) => {
            body.take(12)?;
            file.updates.push(Recorded {
                message: framed(body.0),
                four_octet_as: false,
                add_path: false,
            });
        }
        (5, 3) | (16, 0 | 5) => file.state_changes += 1,
        (5, _) | (13, 1) => {}
        (12, 1) => {
            body.take(4)?;
            let address = body.take(4)?;
            let length = body.u8()?;
            body.take(1 + 4 + 4 + 2)?;
            let attributes = sized(&mut body)?;
            let nlri = [&[length][..], &address[..usize::from(length.div_ceil(8))]].concat();
            file.updates
                .push(entry(attributes.to_vec(), &nlri, false, false));
        }
        (13, 2 | 4 | 8) => table_v2(subtype, body, file)?,
        (17, _) => {
            body.take(4)?;
            record(16, subtype, body, file)?;
        }
        (16, 1 | 4 | 8 | 9) => {
            let four_octet_as = subtype == 4 || subtype == 9;
            body.take(if four_octet_as { 8 } else { 4 })?;
            body.take(2)?;
            let addresses = match body.u16()? {
                1 => 8,
                _ => 32,
            };
            body.take(addresses)?;
            let message = body.0.to_vec();
            match message.get(18) {
                Some(2) => file.updates.push(Recorded {
                    message,
                    four_octet_as,
                    add_path: subtype >= 8,
                }),
                _ => file.others.push(message),
            }
        }
        other => panic!("MRT type {other:?}"),
    }
    Some(())
}

/// RIB entries of one prefix (RFC 6396 §4.3.2, RFC 8050 §4.1).
fn table_v2(subtype: u16, mut body: Bytes<'_>, file: &mut File) -> Option<()> {
    body.take(4)?;
    let length = body.u8()?;
    let address = body.take(usize::from(length.div_ceil(8)))?;
    for _ in 0..body.u16()? {
        body.take(2 + 4)?;
        let mut nlri = Vec::new();
        if subtype == 8 {
            nlri.extend(body.take(4)?);
        }
        nlri.push(length);
        nlri.extend(address);
        let attributes = sized(&mut body)?;
        let (attributes, classic) = match subtype {
            4 => (with_prefix(attributes, &nlri)?, &[][..]),
            _ => (attributes.to_vec(), &*nlri),
        };
        file.updates
            .push(entry(attributes, classic, true, subtype == 8));
    }
    Some(())
}

/// MP_REACH_NLRI holds only the next hop in a table (RFC 6396 §4.3.4); here it is made whole again.
fn with_prefix(attributes: &[u8], nlri: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Bytes(attributes);
    let mut whole = Vec::new();
    while let Some(flags) = rest.u8() {
        let code = rest.u8()?;
        let length = match flags & 0x10 {
            0 => u16::from(rest.u8()?),
            _ => rest.u16()?,
        };
        let mut value = rest.take(usize::from(length))?.to_vec();
        if code == 14 {
            // Some collectors write it whole all the same.
            let next_hop = value.strip_prefix(&[0, 2, 1]).unwrap_or(&value);
            let end = 1 + usize::from(*next_hop.first()?);
            value = [&[0, 2, 1], next_hop.get(..end)?, &[0], nlri].concat();
        }
        whole.extend([flags | 0x10, code]);
        whole.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        whole.extend(value);
    }
    Some(whole)
}

fn entry(attributes: Vec<u8>, nlri: &[u8], four_octet_as: bool, add_path: bool) -> Recorded {
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    Recorded {
        message: framed(&[&[0, 0], &length[..], &attributes, nlri].concat()),
        four_octet_as,
        add_path,
    }
}

fn sized<'a>(body: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let length = body.u16()?;
    body.take(length.into())
}

/// An UPDATE with this body.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap().to_be_bytes();
    [&[0xff; 16], &length[..], &[2], body].concat()
}
