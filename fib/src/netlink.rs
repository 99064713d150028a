//! The real kernel: bulk requests on a thread with a blocking socket, events on the runtime.

mod decode;
mod encode;
mod frame;
mod listener;
mod nexthop;
mod requester;

use std::{io, net::IpAddr, sync::mpsc, thread};

use tokio::sync::mpsc as async_mpsc;

use crate::{
    error::Error,
    kernel::{Batch, Done, Failure, Kernel, Marks, ObjectOp, Op, Signal, Work},
    netlink::{listener::Listener, requester::Requester},
    objects::Object,
    plan::Step,
    route::Mark,
};

/// The kernel of the network namespace it was opened in.
pub(crate) struct Netlink {
    jobs: mpsc::Sender<Job>,
    answers: async_mpsc::UnboundedReceiver<Signal>,
    listener: Listener,
}

/// What the thread is asked to do, in order.
enum Job {
    Write(Batch),
    Read(Marks),
    LookUp(u64, IpAddr),
    Probe(Vec<(u32, IpAddr)>),
}

impl Netlink {
    /// Opens the sockets in the network namespace of the calling thread, and makes sure we may write.
    pub(crate) fn open(mark: Mark) -> Result<Self, Error> {
        let mut requester = Requester::open()?;
        requester.probe(mark)?;
        // Listening starts before the first reading, so that nothing falls between.
        let listener = Listener::open(requester.port())?;
        let (jobs, queue) = mpsc::channel();
        let (signals, answers) = async_mpsc::unbounded_channel();
        thread::Builder::new()
            .name("fib-netlink".to_owned())
            .spawn(move || work(requester, &queue, &signals))
            .map_err(|source| Error::Netlink {
                what: "starting the writer",
                source,
            })?;
        Ok(Self {
            jobs,
            answers,
            listener,
        })
    }

    fn ask(&self, job: Job) {
        // A thread that is gone is told by next().
        let _ = self.jobs.send(job);
    }
}

impl Kernel for Netlink {
    fn submit(&mut self, batch: Batch) {
        self.ask(Job::Write(batch));
    }

    fn read(&mut self, marks: Marks) {
        self.ask(Job::Read(marks));
    }

    fn probe(&mut self, neighbours: Vec<(u32, IpAddr)>) {
        self.ask(Job::Probe(neighbours));
    }

    fn look_up(&mut self, ticket: u64, address: IpAddr) {
        self.ask(Job::LookUp(ticket, address));
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            answer = self.answers.recv() => answer.unwrap_or_else(|| {
                let source = io::Error::other("the writer thread has ended");
                Signal::Gone(Error::Netlink { what: "writing", source })
            }),
            signal = self.listener.next() => signal,
        }
    }
}

/// Ends when nobody asks any more.
fn work(
    mut requester: Requester,
    jobs: &mpsc::Receiver<Job>,
    signals: &async_mpsc::UnboundedSender<Signal>,
) {
    while let Ok(job) = jobs.recv() {
        let signal = match job {
            Job::Write(batch) => {
                let failures = match &batch.work {
                    Work::Routes(ops) | Work::Retire(ops) => requester.write(batch.mark, ops),
                    Work::Objects(ops) => requester.write_objects(batch.mark, ops),
                };
                Signal::Done(Done { batch, failures })
            }
            Job::Read(marks) => Signal::Read(requester.read(&marks).map(Box::new)),
            Job::Probe(neighbours) => Signal::Changed(requester.probe_neighbours(&neighbours)),
            Job::LookUp(ticket, address) => Signal::Found(ticket, requester.look_up(address)),
        };
        if signals.send(signal).is_err() {
            return;
        }
    }
}

/// Removes every route that bears `mark`, and the next-hop objects that bear its protocol; gives how many routes.
pub(crate) async fn cleanup(mark: Mark) -> Result<usize, Error> {
    // Opened here: the thread the work runs on may be in another network namespace.
    let mut requester = Requester::open()?;
    let work = move || {
        requester.probe(mark)?;
        let snapshot = requester.read(&Marks {
            current: mark,
            retiring: Vec::new(),
        })?;
        let mut ops: Vec<Op> = snapshot
            .own
            .into_iter()
            .map(|(key, _)| Op {
                key,
                step: Step::Remove,
            })
            .collect();
        // Descending: the kernel's IPv4 trie is slow in ascending order.
        ops.sort_unstable_by_key(|op| std::cmp::Reverse(op.key.prefix));
        let failures = requester.write(mark, &ops);
        all_gone("removing routes", &failures)?;
        // Groups first: the kernel would tell others of each group that loses a member.
        let mut objects = snapshot.objects.unwrap_or_default();
        objects.retain(|found| found.protocol == mark.protocol);
        objects.sort_by_key(|found| !matches!(found.object, Object::Group(_)));
        let removals: Vec<ObjectOp> = objects
            .into_iter()
            .map(|found| ObjectOp {
                id: found.id,
                step: Step::Remove,
            })
            .collect();
        all_gone(
            "removing next-hop objects",
            &requester.write_objects(mark, &removals),
        )?;
        Ok(ops.len() - failures.len())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Stopped)?
}

/// Already gone is success.
fn all_gone(what: &'static str, failures: &[(usize, Failure)]) -> Result<(), Error> {
    let gone = |failure: &Failure| matches!(failure.errno, Failure::ESRCH | Failure::ENOENT);
    match failures.iter().find(|(_, failure)| !gone(failure)) {
        Some((_, failure)) => Err(Error::Netlink {
            what,
            source: io::Error::from_raw_os_error(failure.errno),
        }),
        None => Ok(()),
    }
}
