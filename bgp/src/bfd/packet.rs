//! The BFD Control packet (RFC 5880 §4.1), and what makes one worth nothing (§6.8.6).

use nom::{
    Parser,
    number::complete::{be_u8, be_u32},
};
use serde::Serialize;

use crate::wire::read::Parsed;

/// A BFD Control packet. Intervals are in microseconds, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's session last left Up.
    pub diagnostic: Diagnostic,
    /// The state of the sender's session.
    pub state: State,
    /// What else it says.
    pub flags: Flags,
    /// Packets that may be missed before it counts as silent (Detect Mult).
    pub multiplier: u8,
    /// The sender's name for the session.
    pub my_discriminator: u32,
    /// The receiver's name for it; 0: not known yet.
    pub your_discriminator: u32,
    /// Desired Min TX Interval.
    pub desired_min_tx: u32,
    /// Required Min RX Interval; 0: it wants no periodic packets.
    pub required_min_rx: u32,
    /// Required Min Echo RX Interval; 0: it takes no echo.
    pub required_min_echo_rx: u32,
}

bitflags::bitflags! {
    /// The bits behind the state.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// P: answer at once.
        const POLL = 0x20;
        /// F: the answer to a poll.
        const FINAL = 0x10;
        /// C: BFD goes on where the control plane fails.
        const INDEPENDENT = 0x08;
        /// A: an authentication section follows.
        const AUTHENTICATED = 0x04;
        /// D: no periodic packets, please, while all is well.
        const DEMAND = 0x02;
        /// M: reserved for point to multipoint.
        const MULTIPOINT = 0x01;
    }
}

/// The state of a session (RFC 5880 §6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum State {
    /// Held down by an operator.
    AdminDown,
    /// Nothing heard, or the path failed.
    #[default]
    Down,
    /// The other side is heard; whether it hears us is not known.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

/// Why a session is not Up (RFC 5880 §4.1, Diag).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing to say.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: Self = Self(1);
    /// The other side said so.
    pub const NEIGHBOR: Self = Self(3);
    /// An operator did it.
    pub const ADMIN: Self = Self(7);
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// Why a packet was thrown away, in the order of RFC 5880 §6.8.6; what RFC 5881 and 5883 ask of the packet around it is
/// asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Discard {
    /// RFC 5881 §5: it may have come from further away.
    #[error("TTL or hop limit too low")]
    TtlTooLow,
    /// Not version 1.
    #[error("unknown version")]
    Version,
    /// Shorter than its sections are.
    #[error("length too short")]
    TooShort,
    /// Longer than what came.
    #[error("length beyond the packet")]
    Truncated,
    /// Detect Mult 0.
    #[error("multiplier 0")]
    NoMultiplier,
    /// M is set.
    #[error("multipoint bit set")]
    Multipoint,
    /// My Discriminator 0.
    #[error("no discriminator")]
    NoDiscriminator,
    /// Your Discriminator names no session of ours.
    #[error("unknown discriminator")]
    UnknownDiscriminator,
    /// Your Discriminator 0 from a session that must know ours.
    #[error("Init or Up without our discriminator")]
    StateWithoutDiscriminator,
    /// Nobody we expect.
    #[error("from a stranger")]
    Stranger,
    /// It names a session with another address or over another interface.
    #[error("from another address than its session's")]
    WrongAddress,
    /// A is set; we use no authentication.
    #[error("authenticated")]
    Authenticated,
    /// Our side is held down.
    #[error("we are administratively down")]
    AdminDown,
}

/// Octets of a packet without authentication.
pub const LENGTH: usize = 24;
/// … and of the shortest one with it.
const AUTHENTICATED_LENGTH: usize = 26;
const VERSION: u8 = 1;

impl Packet {
    /// Reads what came in a datagram, with the checks of §6.8.6 that need no session.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn read(octets: &[u8]) -> Result<Self, Discard> {
        let first = octets.first().ok_or(Discard::Truncated)?;
        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let (_, (packet, length)) = fields(octets).map_err(|_| Discard::Truncated)?;
        let authenticated = packet.flags.contains(Flags::AUTHENTICATED);
        if length < LENGTH || (authenticated && length < AUTHENTICATED_LENGTH) {
            return Err(Discard::TooShort);
        }
        if length > octets.len() {
            return Err(Discard::Truncated);
        }
        if packet.multiplier == 0 {
            return Err(Discard::NoMultiplier);
        }
        if packet.flags.contains(Flags::MULTIPOINT) {
            return Err(Discard::Multipoint);
        }
        if packet.my_discriminator == 0 {
            return Err(Discard::NoDiscriminator);
        }
        if packet.your_discriminator == 0 && matches!(packet.state, State::Init | State::Up) {
            return Err(Discard::StateWithoutDiscriminator);
        }
        Ok(packet)
    }

    /// As it goes out.
    #[must_use]
    pub fn write(&self) -> [u8; LENGTH] {
        let head = [
            (VERSION << 5) | (self.diagnostic.0 & 0x1f),
            ((self.state as u8) << 6) | self.flags.bits(),
            self.multiplier,
            LENGTH as u8,
        ];
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        let mut octets = [0; LENGTH];
        let all = head
            .into_iter()
            .chain(words.into_iter().flat_map(u32::to_be_bytes));
        for (octet, value) in octets.iter_mut().zip(all) {
            *octet = value;
        }
        octets
    }
}

/// Every field as it stands, and the length.
fn fields(octets: &[u8]) -> Parsed<'_, (Packet, usize)> {
    let (rest, (first, second, multiplier, length)) = (be_u8, be_u8, be_u8, be_u8).parse(octets)?;
    let (rest, (my, your, tx, rx, echo)) = (be_u32, be_u32, be_u32, be_u32, be_u32).parse(rest)?;
    let packet = Packet {
        diagnostic: Diagnostic(first & 0x1f),
        state: State::from_bits(second >> 6),
        flags: Flags::from_bits_truncate(second & 0x3f),
        multiplier,
        my_discriminator: my,
        your_discriminator: your,
        desired_min_tx: tx,
        required_min_rx: rx,
        required_min_echo_rx: echo,
    };
    Ok((rest, (packet, length.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Packet {
        Packet {
            diagnostic: Diagnostic::EXPIRED,
            state: State::Up,
            flags: Flags::POLL | Flags::INDEPENDENT,
            multiplier: 3,
            my_discriminator: 0x0102_0304,
            your_discriminator: 0x0506_0708,
            desired_min_tx: 100_000,
            required_min_rx: 300_000,
            required_min_echo_rx: 50_000,
        }
    }

    /// The packet with one octet changed.
    fn with(at: usize, octet: u8) -> Vec<u8> {
        let mut octets = packet().write().to_vec();
        octets[at] = octet;
        octets
    }

    #[test]
    fn a_packet_is_laid_out_as_the_rfc_draws_it() {
        let octets = [
            0x21, 0xe8, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0x00, 0x01, 0x86, 0xa0, 0x00, 0x04, 0x93,
            0xe0, 0x00, 0x00, 0xc3, 0x50,
        ];
        assert_eq!(packet().write(), octets);
        assert_eq!(Packet::read(&octets), Ok(packet()));
    }

    #[test]
    fn what_follows_a_packet_in_its_datagram_is_not_read() {
        let mut octets = packet().write().to_vec();
        octets.extend([0xff; 10]);
        assert_eq!(Packet::read(&octets), Ok(packet()));
    }

    #[test]
    fn every_state_and_every_pair_of_flags_comes_back() {
        for state in [State::AdminDown, State::Down, State::Init, State::Up] {
            for bits in (0..0x40).filter(|bits| bits & 0x05 == 0) {
                let flags = Flags::from_bits_retain(bits);
                let packet = Packet {
                    state,
                    flags,
                    ..packet()
                };
                assert_eq!(Packet::read(&packet.write()), Ok(packet));
            }
        }
    }

    #[test]
    fn each_check_of_the_rfc_throws_away_what_it_is_for() {
        for (octets, why) in [
            (with(0, 0x01), Discard::Version),
            (with(0, 0x41), Discard::Version),
            (with(3, 23), Discard::TooShort),
            (with(3, 0), Discard::TooShort),
            (with(3, 25), Discard::Truncated),
            (with(2, 0), Discard::NoMultiplier),
            (with(1, 0xc1), Discard::Multipoint),
        ] {
            assert_eq!(Packet::read(&octets), Err(why), "{octets:02x?}");
        }
        let nameless = Packet {
            my_discriminator: 0,
            ..packet()
        };
        assert_eq!(
            Packet::read(&nameless.write()),
            Err(Discard::NoDiscriminator)
        );
    }

    #[test]
    fn only_down_and_admin_down_may_not_know_our_discriminator() {
        for (state, read) in [
            (State::Up, Err(Discard::StateWithoutDiscriminator)),
            (State::Init, Err(Discard::StateWithoutDiscriminator)),
            (State::Down, Ok(())),
            (State::AdminDown, Ok(())),
        ] {
            let packet = Packet {
                state,
                your_discriminator: 0,
                ..packet()
            };
            assert_eq!(Packet::read(&packet.write()).map(drop), read);
        }
    }

    #[test]
    fn an_authentication_section_needs_its_own_room() {
        let mut octets = with(1, 0xc4);
        assert_eq!(Packet::read(&octets), Err(Discard::TooShort));
        octets[3] = 26;
        assert_eq!(Packet::read(&octets), Err(Discard::Truncated));
        octets.extend([1, 2]);
        let read = Packet::read(&octets).expect("a session may look at it");
        assert!(read.flags.contains(Flags::AUTHENTICATED));
    }

    #[test]
    fn checks_are_made_in_the_order_of_the_rfc() {
        let mut octets = [0; LENGTH];
        let mut found = Vec::new();
        // All is wrong; what is found wrong is put right, until nothing is.
        octets[1] = 0x81; // Init, multipoint
        while let Err(why) = Packet::read(&octets) {
            found.push(why);
            match why {
                Discard::Version => octets[0] = 0x20,
                Discard::TooShort => octets[3] = 30,
                Discard::Truncated => octets[3] = 24,
                Discard::NoMultiplier => octets[2] = 1,
                Discard::Multipoint => octets[1] = 0x80,
                Discard::NoDiscriminator => octets[7] = 1,
                _ => octets[11] = 1,
            }
        }
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(found, sorted);
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn a_packet_cut_anywhere_is_refused() {
        let octets = packet().write();
        for end in 0..octets.len() {
            assert_eq!(Packet::read(&octets[..end]), Err(Discard::Truncated));
        }
    }
}
