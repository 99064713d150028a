//! The frame around every netlink message: 16 octets of header, host byte order, padded to four.

pub(super) const HEADER: usize = 16;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(super) const NLM_F_CAPPED: u16 = 0x100;
pub(super) const NLM_F_ACK_TLVS: u16 = 0x200;

/// One message in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
    /// The header too.
    pub(super) whole: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn payload(&self) -> &'a [u8] {
        self.whole.get(HEADER..).unwrap_or_default()
    }

    /// The error number of an NLMSG_ERROR (0 for an acknowledgement), positive, and the kernel's explanation.
    pub(super) fn error(&self) -> Option<(i32, Option<String>)> {
        let payload = self.payload();
        let errno = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?).wrapping_neg();
        Some((
            errno,
            if self.flags & NLM_F_ACK_TLVS != 0 {
                self.explanation(payload)
            } else {
                None
            },
        ))
    }

    /// NLMSGERR_ATTR_MSG, after the (perhaps shortened) request.
    fn explanation(&self, payload: &[u8]) -> Option<String> {
        const NLMSGERR_ATTR_MSG: u16 = 1;
        let request = payload.get(4..)?;
        let shown = if self.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            read_u32(request, 0)? as usize
        };
        let (_, value) = attributes(request.get(align(shown)..)?)
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
        let text = value.split(|octet| *octet == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The attributes in a buffer, kind and value; what is cut off is left out.
pub(super) fn attributes(mut buffer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const NLA_TYPE_MASK: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(buffer, 0)?);
        let kind = read_u16(buffer, 2)? & NLA_TYPE_MASK;
        let value = buffer.get(4..length)?;
        buffer = buffer.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Starts a message; its length is set by [`finish`].
pub(super) fn start(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> usize {
    let at = buffer.len();
    buffer.extend([0; 4]);
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(flags.to_ne_bytes());
    buffer.extend(sequence.to_ne_bytes());
    buffer.extend([0; 4]);
    at
}

/// Appends an attribute with its padding.
pub(super) fn push_attribute(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    buffer.extend(length.to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(value);
    buffer.resize(align(buffer.len()), 0);
}

/// Ends the message that starts at `at`.
pub(super) fn finish(buffer: &mut [u8], at: usize) {
    let length = u32::try_from(buffer.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = buffer.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_ne_bytes());
    }
}

/// The messages in what one receive gave; what is cut off is left out.
pub(super) fn frames(mut buffer: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let length = read_u32(buffer, 0)? as usize;
        let whole = buffer.get(..length.max(HEADER))?;
        buffer = buffer.get(align(whole.len())..).unwrap_or_default();
        Some(Frame {
            kind: read_u16(whole, 4)?,
            flags: read_u16(whole, 6)?,
            sequence: read_u32(whole, 8)?,
            port: read_u32(whole, 12)?,
            whole,
        })
    })
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn read_u16(buffer: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(buffer.get(at..at + 2)?.try_into().ok()?))
}

fn read_u32(buffer: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(buffer.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_message_ends_the_walk() {
        let mut buffer = Vec::new();
        buffer.extend(20u32.to_ne_bytes());
        buffer.extend(NLMSG_ERROR.to_ne_bytes());
        buffer.extend([0; 2]);
        buffer.extend(7u32.to_ne_bytes());
        buffer.extend([0; 4]);
        buffer.extend((-17i32).to_ne_bytes());
        buffer.extend(500u32.to_ne_bytes());
        let seen: Vec<_> = frames(&buffer)
            .map(|frame| (frame.sequence, frame.error()))
            .collect();
        assert_eq!(seen, [(7, Some((17, None)))]);
        assert_eq!(frames(&[1, 2, 3]).count(), 0);
        assert_eq!(frames(&[0; 15]).count(), 0);
    }
}
