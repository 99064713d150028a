//! The way of what peers say into files: nobody waits for the disk, so what it does not take in time is lost, and counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
    mpsc,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{HEADER, writer::Job};

/// Octets that may wait for the disk.
const LIMIT: usize = 16 * 1024 * 1024;

/// Who records, if anybody does.
pub(crate) type Tap = watch::Receiver<Option<Recorder>>;

/// Takes records. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    jobs: mpsc::Sender<Job>,
    load: Arc<Load>,
}

/// What waits, and what was lost.
#[derive(Debug, Default)]
pub(crate) struct Load {
    queued: AtomicUsize,
    lost: AtomicU64,
}

impl Load {
    /// So many octets no longer wait.
    pub(super) fn taken(&self, octets: usize) {
        self.queued.fetch_sub(octets, Ordering::Relaxed);
    }

    /// These records are in no file.
    pub(super) fn lose(&self, records: &[u8]) {
        self.lost.fetch_add(count(records), Ordering::Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Recorder {
    pub(super) const fn new(jobs: mpsc::Sender<Job>, load: Arc<Load>) -> Self {
        Self { jobs, load }
    }

    /// Takes whole records.
    pub(crate) fn record(&self, records: Bytes) {
        if records.is_empty() {
            return;
        }
        let octets = records.len();
        if self.load.queued.fetch_add(octets, Ordering::Relaxed) > LIMIT {
            self.load.taken(octets);
            self.load.lose(&records);
            return;
        }
        // A thread that has ended writes nothing any more.
        let _ = self.jobs.send(Job::Updates(records));
    }
}

/// How many records these octets, whole records, are.
fn count(mut records: &[u8]) -> u64 {
    let mut count: u64 = 0;
    while let Some(next) = after_first(records) {
        records = next;
        count = count.saturating_add(1);
    }
    count
}

/// What stands behind the first whole record.
fn after_first(records: &[u8]) -> Option<&[u8]> {
    let (_, length) = records.get(..HEADER)?.split_last_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    records.get(HEADER.saturating_add(length)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted() {
        let record = [0, 0, 0, 0, 0, 17, 0, 4, 0, 0, 0, 2, 9, 9];
        assert_eq!(count(&[record, record].concat()), 2);
        assert_eq!(count(&record[..13]), 0);
    }

    #[test]
    fn what_the_disk_does_not_take_is_lost_and_counted() {
        let (jobs, waiting) = mpsc::channel();
        let load = Arc::new(Load::default());
        let recorder = Recorder::new(jobs, Arc::clone(&load));
        let mut record = vec![0, 0, 0, 0, 0, 17, 0, 4, 0, 16, 0, 0];
        record.resize(HEADER + 0x10_0000, 0);
        let record = Bytes::from(record);
        for _ in 0..20 {
            recorder.record(record.clone());
        }
        let taken = waiting.try_iter().count() as u64;
        assert_eq!(taken + load.lost(), 20);
        assert_eq!(load.lost(), 4);
    }
}
