//! The thread that writes MRT files, and the task that has the table written. A disk that is full or slow costs records, and
//! nobody else anything.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    file::{Contents, Writing, recover},
    record::{Load, Recorder},
};
use crate::{config::MrtConfig, rib::task::RibHandle, status::MrtStatus};

/// The longest sleep: a clock that was set makes the next file late by no more.
const NAP: Duration = Duration::from_secs(5);

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Job {
    /// What peers said, whole records.
    Updates(Bytes),
    /// The next part of the table, or `None`: that was all. The answer says whether it was written.
    Table(Option<Bytes>, oneshot::Sender<bool>),
}

/// Files are written until this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    config: MrtConfig,
    recorder: Option<Recorder>,
    load: Arc<Load>,
    status: Arc<Mutex<MrtStatus>>,
    thread: Option<thread::JoinHandle<()>>,
    tables: Option<JoinHandle<()>>,
}

impl Writer {
    /// Writes once the thread `before`, which it takes the place of, has written all. Must be called inside a tokio runtime.
    pub(crate) fn start(
        config: MrtConfig,
        rib: RibHandle,
        before: Option<thread::JoinHandle<()>>,
    ) -> Self {
        let (jobs, todo) = mpsc::channel();
        let load = Arc::new(Load::default());
        let status = Arc::new(Mutex::new(MrtStatus {
            directory: config.directory.clone(),
            ..MrtStatus::default()
        }));
        let work = Work {
            config: config.clone(),
            jobs: todo,
            load: Arc::clone(&load),
            status: Arc::clone(&status),
            updates: None,
            table: None,
        };
        let thread = thread::Builder::new().name("mrt".into()).spawn(move || {
            // A panic was said when it happened.
            let _ = before.map(thread::JoinHandle::join);
            work.run();
        });
        if let Err(error) = &thread {
            tracing::error!(%error, "no thread for MRT files: none are written");
        }
        let tables = config
            .table
            .map(|interval| tokio::spawn(write_tables(interval, rib, jobs.clone())));
        Self {
            recorder: config
                .updates
                .map(|_| Recorder::new(jobs, Arc::clone(&load))),
            config,
            load,
            status,
            thread: thread.ok(),
            tables,
        }
    }

    pub(crate) fn config(&self) -> &MrtConfig {
        &self.config
    }

    /// Where what peers say goes, if it is to be recorded.
    pub(crate) fn recorder(&self) -> Option<Recorder> {
        self.recorder.clone()
    }

    pub(crate) fn status(&self) -> MrtStatus {
        MrtStatus {
            lost: self.load.lost(),
            ..locked(&self.status).clone()
        }
    }

    /// The thread, which ends once the last file is complete and nobody has a [`Recorder`] any more.
    pub(crate) fn retire(mut self) -> Option<thread::JoinHandle<()>> {
        self.thread.take()
    }

    /// Returns once that is so.
    pub(crate) async fn stop(self) {
        if let Some(thread) = self.retire() {
            // A panic was said when it happened.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(tables) = &self.tables {
            tables.abort();
        }
    }
}

fn locked(status: &Mutex<MrtStatus>) -> MutexGuard<'_, MrtStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Since 1970.
fn age(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Which stretch of this length a time lies in, and how long it still lasts. Stretches begin with the hour, as far as they
/// divide it.
fn stretch(at: SystemTime, length: Duration) -> (u64, Duration) {
    let (age, length) = (age(at), length.as_secs().max(1));
    let number = age.as_secs() / length;
    let end = Duration::from_secs(number.saturating_add(1).saturating_mul(length));
    (number, end.saturating_sub(age))
}

struct Work {
    config: MrtConfig,
    jobs: mpsc::Receiver<Job>,
    load: Arc<Load>,
    status: Arc<Mutex<MrtStatus>>,
    /// The file of updates, and the stretch of time it is of.
    updates: Option<(u64, Writing)>,
    table: Option<Writing>,
}

impl Work {
    fn run(mut self) {
        let directory = self.config.directory.clone();
        let ready = std::fs::create_dir_all(&directory).and_then(|()| recover(&directory));
        self.report(ready);
        loop {
            let wait = match (&self.updates, self.config.updates) {
                (Some(_), Some(length)) => stretch(SystemTime::now(), length).1.min(NAP),
                _ => NAP,
            };
            match self.jobs.recv_timeout(wait) {
                Ok(Job::Updates(records)) => self.record(&records),
                Ok(Job::Table(part, reply)) => {
                    let written = self.write_table(part);
                    let said = written.is_ok();
                    self.report(written);
                    // Who dumps the table may have been stopped.
                    let _ = reply.send(said);
                }
                Err(RecvTimeoutError::Timeout) => self.rotate(SystemTime::now()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.finish_updates();
        if let Some(table) = self.table.take() {
            table.discard();
        }
    }

    fn record(&mut self, records: &Bytes) {
        let now = SystemTime::now();
        self.load.taken(records.len());
        self.rotate(now);
        let written = self.write_updates(records, now);
        if written.is_err() {
            self.load.lose(records);
        }
        self.report(written);
    }

    fn write_updates(&mut self, records: &Bytes, now: SystemTime) -> io::Result<()> {
        let length = self.config.updates.unwrap_or(NAP);
        if self.updates.is_none() {
            let file = Writing::begin(&self.config.directory, Contents::Updates, now)?;
            self.updates = Some((stretch(now, length).0, file));
        }
        if let Some((_, file)) = &mut self.updates {
            file.write(records)?;
            self.wrote(records.len());
        }
        Ok(())
    }

    /// Finishes the file of updates once its time is over.
    fn rotate(&mut self, now: SystemTime) {
        let length = self.config.updates.unwrap_or(NAP);
        let (current, _) = stretch(now, length);
        if self
            .updates
            .as_ref()
            .is_some_and(|(number, _)| *number != current)
        {
            self.finish_updates();
        }
    }

    fn finish_updates(&mut self) {
        if let Some((_, file)) = self.updates.take() {
            let finished = file.finish();
            self.finished(&finished);
            self.report(finished);
        }
    }

    fn write_table(&mut self, part: Option<Bytes>) -> io::Result<()> {
        let Some(part) = part else {
            let Some(file) = self.table.take() else {
                return Ok(());
            };
            let finished = file.finish();
            self.finished(&finished);
            return finished;
        };
        if self.table.is_none() {
            let now = SystemTime::now();
            self.table = Some(Writing::begin(
                &self.config.directory,
                Contents::Table,
                now,
            )?);
        }
        let Some(file) = &mut self.table else {
            return Ok(());
        };
        if let Err(error) = file.write(&part) {
            if let Some(file) = self.table.take() {
                file.discard();
            }
            return Err(error);
        }
        self.wrote(part.len());
        Ok(())
    }

    fn wrote(&self, octets: usize) {
        let mut status = locked(&self.status);
        status.octets = status.octets.saturating_add(octets as u64);
    }

    fn finished(&self, finished: &io::Result<()>) {
        if finished.is_ok() {
            let mut status = locked(&self.status);
            status.files = status.files.saturating_add(1);
        }
    }

    /// Says what goes wrong once, and that it goes well again.
    fn report(&self, done: io::Result<()>) {
        let problem = done.err().map(|error| {
            let directory = self.config.directory.display();
            format!("MRT files in {directory} cannot be written: {error}")
        });
        let mut status = locked(&self.status);
        if status.problem != problem {
            match &problem {
                Some(problem) => tracing::warn!("{problem}"),
                None => tracing::info!("MRT files are written again"),
            }
            status.problem = problem;
        }
    }
}

/// Has the table written at the begin of each stretch of time.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing but the clock says when the table is to be written"
)]
async fn write_tables(interval: Duration, rib: RibHandle, jobs: mpsc::Sender<Job>) {
    loop {
        tokio::time::sleep(stretch(SystemTime::now(), interval).1).await;
        let mut place = None;
        loop {
            let Some((records, next)) = rib.dump(place).await else {
                return;
            };
            if !hand_over(&jobs, Some(records)).await {
                break;
            }
            place = match next {
                None => {
                    hand_over(&jobs, None).await;
                    break;
                }
                next => next,
            };
        }
    }
}

/// Whether it was written.
async fn hand_over(jobs: &mpsc::Sender<Job>, part: Option<Bytes>) -> bool {
    let (reply, written) = oneshot::channel();
    jobs.send(Job::Table(part, reply)).is_ok() && written.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_with_the_hour() {
        let quarter = Duration::from_secs(900);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(stretch(at(3600), quarter), (4, quarter));
        assert_eq!(stretch(at(3601), quarter), (4, Duration::from_secs(899)));
        assert_eq!(stretch(at(4500), quarter), (5, quarter));
    }
}
