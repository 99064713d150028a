//! A blocking socket for requests: bulk writes, dumps, look-ups.

use std::{io, net::IpAddr, time::Duration};

use hashbrown::HashMap;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_DUMP},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::AddressMessage,
        link::LinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use socket2::SockRef;
use tracing::{debug, warn};

use crate::{
    error::Error,
    kernel::{
        Failure, Found, FoundObject, KernelEvent, Key, Layer, Marks, ObjectOp, Op, Owner, Snapshot,
    },
    netlink::{
        decode::{self, Decoded},
        encode::{Encoder, acknowledge, request},
        frame::{Frame, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, frames},
        nexthop,
    },
    network::Failure as NeighbourFailure,
    plan::Step,
    reconciler::is_relevant,
    route::Mark,
    target::Target,
};

/// Below the default send buffer, so that one send takes it whole.
const SEND_OCTETS: usize = 60 * 1024;
const SEND_MESSAGES: usize = 1000;
/// Room for the errors of a whole send.
const SOCKET_BUFFER: usize = 8 << 20;
const RECEIVE_OCTETS: usize = 64 * 1024;
/// The kernel answers within the send; this only ends a wait for an answer that was lost.
const ANSWER: Duration = Duration::from_secs(10);
const EINTR: i32 = 4;
const ENOBUFS: i32 = 105;
/// So often a dump is repeated that others' changes ran into.
const DUMP_ATTEMPTS: usize = 4;

/// See the top of the file.
pub(super) struct Requester {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requester {
    /// Opens the socket in the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self, Error> {
        let failed = |what| move |source| Error::Netlink { what, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("opening a socket"))?;
        let address = socket.bind_auto().map_err(failed("binding a socket"))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connecting to the kernel"))?;
        // All of these only make answers shorter, clearer or safer; old kernels go without.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        widen(&socket, SOCKET_BUFFER);
        SockRef::from(&socket)
            .set_read_timeout(Some(ANSWER))
            .map_err(failed("setting a timeout"))?;
        Ok(Self {
            socket,
            port: address.port_number(),
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// The netlink port our changes are told under.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Whether we may write at all, asked by removing what can't be there: a reserved address under our mark.
    pub(super) fn probe(&mut self, mark: Mark) -> Result<(), Error> {
        let prefix = IpAddr::from([255, 255, 255, 255]).into();
        let op = Op {
            key: Key {
                layer: Layer::Blackhole,
                prefix,
            },
            step: Step::Remove,
        };
        match self.write(mark, &[op]).first() {
            Some((
                _,
                Failure {
                    errno: Failure::EPERM,
                    ..
                },
            )) => Err(Error::Permission),
            _ => Ok(()),
        }
    }

    /// Carries out operations in order; gives those that failed, by position.
    pub(super) fn write(&mut self, mark: Mark, ops: &[Op]) -> Vec<(usize, Failure)> {
        let mut encoder = Encoder::new(mark);
        self.send_all(ops, |buffer, op, sequence| {
            encoder.append(buffer, op, sequence);
        })
    }

    /// The same for next-hop objects.
    pub(super) fn write_objects(&mut self, mark: Mark, ops: &[ObjectOp]) -> Vec<(usize, Failure)> {
        self.send_all(ops, |buffer, op, sequence| {
            nexthop::append(buffer, mark.protocol, op, sequence);
        })
    }

    fn send_all<T>(
        &mut self,
        ops: &[T],
        mut append: impl FnMut(&mut Vec<u8>, &T, u32),
    ) -> Vec<(usize, Failure)> {
        let mut failures = Vec::new();
        let mut from = 0;
        while from < ops.len() {
            let first = self.sequence.wrapping_add(1);
            self.buffer.clear();
            let mut last = 0;
            let mut count = 0;
            for op in ops.iter().skip(from).take(SEND_MESSAGES) {
                let start = self.buffer.len();
                self.sequence = self.sequence.wrapping_add(1);
                append(&mut self.buffer, op, self.sequence);
                // The first is sent however long it is.
                if count > 0 && self.buffer.len() > SEND_OCTETS {
                    self.buffer.truncate(start);
                    self.sequence = self.sequence.wrapping_sub(1);
                    break;
                }
                (last, count) = (start, count + 1);
            }
            acknowledge(&mut self.buffer, last);
            self.exchange(first, from, count, &mut failures);
            from += count;
        }
        failures.sort_unstable_by_key(|(position, _)| *position);
        failures
    }

    /// Sends the buffer and collects the errors of its `count` requests, the first of which is `ops[from]`.
    fn exchange(
        &mut self,
        first: u32,
        from: usize,
        count: usize,
        failures: &mut Vec<(usize, Failure)>,
    ) {
        let all_failed = |error: &io::Error, failures: &mut Vec<(usize, Failure)>| {
            let errno = error.raw_os_error().unwrap_or(ENOBUFS);
            let known: Vec<usize> = failures.iter().map(|(position, _)| *position).collect();
            let unknown = (from..from + count).filter(|position| !known.contains(position));
            failures.extend(unknown.map(|position| (position, Failure { errno, text: None })));
        };
        if let Err(error) = retry(|| self.socket.send(&self.buffer, 0)) {
            return all_failed(&error, failures);
        }
        let mut received = Vec::with_capacity(RECEIVE_OCTETS);
        loop {
            received.clear();
            if let Err(error) = retry(|| self.socket.recv(&mut received, 0)) {
                warn!(%error, "answers of the kernel were lost; asking again");
                return all_failed(&error, failures);
            }
            for frame in frames(&received).filter(|frame| frame.kind == NLMSG_ERROR) {
                let position = frame.sequence.wrapping_sub(first) as usize;
                let Some((errno, text)) = frame.error().filter(|_| position < count) else {
                    continue;
                };
                if errno != 0 {
                    failures.push((from + position, Failure { errno, text }));
                }
                if position + 1 == count {
                    return;
                }
            }
        }
    }

    /// Reads links, addresses and the routes that matter.
    pub(super) fn read(&mut self, marks: &Marks) -> Result<Snapshot, Error> {
        let mut snapshot = Snapshot {
            marks: marks.clone(),
            ..Snapshot::default()
        };
        let reading = |source| Error::Netlink {
            what: "reading links and addresses",
            source,
        };
        self.dump(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            |decoded| {
                if let Decoded::Link { link, .. } = decoded {
                    snapshot.links.push(link);
                }
            },
        )
        .map_err(reading)?;
        self.dump(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            |decoded| {
                if let Decoded::Address { address, .. } = decoded {
                    snapshot.addresses.push(address);
                }
            },
        )
        .map_err(reading)?;
        snapshot.objects = self.read_objects()?;
        let mut tables = vec![u32::from(RouteHeader::RT_TABLE_MAIN), marks.current.table];
        tables.extend(marks.retiring.iter().map(|mark| mark.table));
        tables.sort_unstable();
        tables.dedup();
        let mut sorter = Sorter {
            marks,
            snapshot: &mut snapshot,
            targets: HashMap::new(),
        };
        for table in tables {
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                self.read_routes(family, table, &mut sorter)?;
            }
        }
        Ok(snapshot)
    }

    /// The next-hop objects in our range; `None`: this kernel has none.
    pub(super) fn read_objects(&mut self) -> Result<Option<Vec<FoundObject>>, Error> {
        let mut found = Vec::new();
        let ask = |sequence| nexthop::ask_for_all(sequence);
        let read = self.dump_with(ask, |decoded| {
            if let Decoded::Object(event) = decoded {
                found.extend(event.found);
            }
        });
        match read {
            Ok(()) => Ok(Some(found)),
            Err(error) if error.raw_os_error() == Some(Failure::EOPNOTSUPP) => Ok(None),
            Err(source) => Err(Error::Netlink {
                what: "reading next-hop objects",
                source,
            }),
        }
    }

    fn read_routes(
        &mut self,
        family: AddressFamily,
        table: u32,
        into: &mut Sorter<'_>,
    ) -> Result<(), Error> {
        let mut route = RouteMessage::default();
        route.header.address_family = family;
        route.header.kind = RouteType::Unspec;
        route.attributes.push(RouteAttribute::Table(table));
        let request = RouteNetlinkMessage::GetRoute(route);
        let read = self.dump_routes(&request, table, into);
        match read {
            // No such table yet, or no such family in this kernel.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 95 | 97)) => Ok(()),
            other => other.map_err(|source| Error::Netlink {
                what: "reading routes",
                source,
            }),
        }
    }

    /// Sorted as they come: a million of them are not held twice.
    fn dump_routes(
        &mut self,
        request: &RouteNetlinkMessage,
        table: u32,
        into: &mut Sorter<'_>,
    ) -> io::Result<()> {
        let before = into.lengths();
        for attempt in 1..=DUMP_ATTEMPTS {
            into.truncate(before);
            let ask = |sequence| self::request(request.clone(), NLM_F_DUMP, sequence);
            let sequence = self.ask_for_all(ask)?;
            let consistent = self.receive_dump(sequence, |decoded| match decoded {
                // Kernels without strict checking give every table.
                Decoded::Route(event) if event.route.table == table => {
                    into.take(event.prefix, event.route);
                }
                _ => {}
            })?;
            if consistent || attempt == DUMP_ATTEMPTS {
                break;
            }
        }
        Ok(())
    }

    /// Asks for everything of one kind.
    fn dump(&mut self, message: RouteNetlinkMessage, each: impl FnMut(Decoded)) -> io::Result<()> {
        self.dump_with(
            |sequence| request(message.clone(), NLM_F_DUMP, sequence),
            each,
        )
    }

    fn dump_with(
        &mut self,
        request: impl Fn(u32) -> Vec<u8>,
        mut each: impl FnMut(Decoded),
    ) -> io::Result<()> {
        for attempt in 1..=DUMP_ATTEMPTS {
            let sequence = self.ask_for_all(&request)?;
            // Collected first: a dump that others' changes ran into is thrown away.
            let mut found = Vec::new();
            let consistent = self.receive_dump(sequence, |decoded| found.push(decoded))?;
            if consistent || attempt == DUMP_ATTEMPTS {
                found.into_iter().for_each(&mut each);
                break;
            }
        }
        Ok(())
    }

    /// The sequence number of the answers.
    fn ask_for_all(&mut self, request: impl Fn(u32) -> Vec<u8>) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer = request(self.sequence);
        retry(|| self.socket.send(&self.buffer, 0))?;
        Ok(self.sequence)
    }

    /// True if it is whole and consistent.
    fn receive_dump(&mut self, sequence: u32, mut each: impl FnMut(Decoded)) -> io::Result<bool> {
        let mut consistent = true;
        let mut received = Vec::with_capacity(RECEIVE_OCTETS);
        loop {
            received.clear();
            retry(|| self.socket.recv(&mut received, 0))?;
            for frame in frames(&received).filter(|frame| frame.sequence == sequence) {
                consistent &= frame.flags & NLM_F_DUMP_INTR == 0;
                match frame.kind {
                    NLMSG_DONE => return check_done(&frame).map(|()| consistent),
                    NLMSG_ERROR => return check_done(&frame).map(|()| consistent),
                    _ => {
                        if let Some(decoded) = decode::message(&frame) {
                            each(decoded);
                        }
                    }
                }
            }
        }
    }

    /// Has neighbours that failed asked for again, so that they are found once they are back even if nothing is
    /// sent to them; tells those that answer by now.
    pub(super) fn probe_neighbours(&mut self, neighbours: &[(u32, IpAddr)]) -> Vec<KernelEvent> {
        let mut answering: Vec<(u32, IpAddr)> = Vec::new();
        let all = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let read = self.dump(all, |decoded| match decoded {
            Decoded::Neighbour {
                interface,
                address,
                failure: NeighbourFailure::Answers,
            } if neighbours.contains(&(interface, address)) => {
                answering.push((interface, address));
            }
            _ => {}
        });
        if let Err(error) = read {
            debug!(%error, "the neighbours could not be read");
        }
        let silent = neighbours
            .iter()
            .filter(|neighbour| !answering.contains(neighbour));
        for (interface, address) in silent {
            self.sequence = self.sequence.wrapping_add(1);
            let request = ask_for_neighbour(*interface, *address, self.sequence);
            // A neighbour that can't be asked for stays failed; errors come without being asked for.
            let _ = retry(|| self.socket.send(&request, 0));
        }
        let failure = NeighbourFailure::Answers;
        let answers = |(interface, address)| KernelEvent::Neighbour {
            interface,
            address,
            failure,
        };
        answering.into_iter().map(answers).collect()
    }

    /// Which way a packet to `address` would go; the kernel's refusal in words.
    pub(super) fn look_up(&mut self, address: IpAddr) -> Result<Found, String> {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unspec;
        route.header.flags = RouteFlags::FibMatch;
        match address {
            IpAddr::V4(address) => {
                route.header.address_family = AddressFamily::Inet;
                route.header.destination_prefix_length = 32;
                route
                    .attributes
                    .push(RouteAttribute::Destination(RouteAddress::Inet(address)));
            }
            IpAddr::V6(address) => {
                route.header.address_family = AddressFamily::Inet6;
                route.header.destination_prefix_length = 128;
                route
                    .attributes
                    .push(RouteAttribute::Destination(RouteAddress::Inet6(address)));
            }
        }
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.buffer = request(RouteNetlinkMessage::GetRoute(route), 0, sequence);
        retry(|| self.socket.send(&self.buffer, 0)).map_err(|error| error.to_string())?;
        let mut received = Vec::with_capacity(RECEIVE_OCTETS);
        loop {
            received.clear();
            retry(|| self.socket.recv(&mut received, 0)).map_err(|error| error.to_string())?;
            let Some(frame) = frames(&received).find(|frame| frame.sequence == sequence) else {
                continue;
            };
            if frame.kind == NLMSG_ERROR {
                let (errno, text) = frame.error().unwrap_or((0, None));
                return Err(text.unwrap_or_else(|| io::Error::from_raw_os_error(errno).to_string()));
            }
            return match decode::message(&frame) {
                Some(Decoded::Route(event)) => Ok(Found {
                    route: event.route,
                    prefix: Some(event.prefix),
                }),
                _ => Err("this address is the node's own, or no unicast address".to_owned()),
            };
        }
    }
}

/// `ip neigh add … use`: as if a packet were to be sent there.
fn ask_for_neighbour(interface: u32, address: IpAddr, sequence: u32) -> Vec<u8> {
    let mut neighbour = NeighbourMessage::default();
    neighbour.header.ifindex = interface;
    neighbour.header.flags = NeighbourFlags::Use;
    let (family, address) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    neighbour.header.family = family;
    neighbour
        .attributes
        .push(NeighbourAttribute::Destination(address));
    request(
        RouteNetlinkMessage::NewNeighbour(neighbour),
        NLM_F_CREATE,
        sequence,
    )
}

/// Sorts the routes of a dump by owner.
struct Sorter<'a> {
    marks: &'a Marks,
    snapshot: &'a mut Snapshot,
    targets: HashMap<Target, u32>,
}

impl Sorter<'_> {
    fn lengths(&self) -> [usize; 3] {
        let Snapshot {
            own,
            foreign,
            retiring,
            ..
        } = &*self.snapshot;
        [own.len(), foreign.len(), retiring.len()]
    }

    fn truncate(&mut self, [own, foreign, retiring]: [usize; 3]) {
        self.snapshot.own.truncate(own);
        self.snapshot.foreign.truncate(foreign);
        self.snapshot.retiring.truncate(retiring);
    }

    fn take(&mut self, prefix: ipnetwork::IpNetwork, route: crate::network::Foreign) {
        let owner = if route.tos == 0 {
            self.marks.owner(route.protocol, route.table, route.metric)
        } else {
            Owner::Foreign
        };
        match owner {
            Owner::Ours(layer) => {
                let targets = &mut self.snapshot.targets;
                let number = *self
                    .targets
                    .entry(route.target())
                    .or_insert_with_key(|target| {
                        targets.push(target.clone());
                        u32::try_from(targets.len() - 1).unwrap_or(u32::MAX)
                    });
                self.snapshot.own.push((Key { layer, prefix }, number));
            }
            Owner::Retiring(mark, layer) => {
                self.snapshot.retiring.push((mark, Key { layer, prefix }))
            }
            Owner::Foreign => {
                if is_relevant(self.marks, route.protocol, route.table, route.metric) {
                    self.snapshot.foreign.push((prefix, route));
                }
            }
        }
    }
}

/// NLMSG_DONE and NLMSG_ERROR both start with an error number; 0 is success.
fn check_done(frame: &Frame<'_>) -> io::Result<()> {
    match frame.error() {
        Some((errno, _)) if errno > 0 => Err(io::Error::from_raw_os_error(errno)),
        _ => Ok(()),
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(EINTR) => {}
            other => return other,
        }
    }
}

/// Asks for a receive buffer of so many octets, beyond the system's limit where we may.
pub(super) fn widen(socket: &Socket, octets: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &octets).is_err() {
        // Smaller is slower under a flood, not wrong.
        let _ = SockRef::from(socket).set_recv_buffer_size(octets);
    }
}
