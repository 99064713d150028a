//! The flight recorder of a peer: its last messages and changes of state, in little memory.

use std::{borrow::Cow, collections::VecDeque, time::SystemTime};

use crate::status::Record;

/// Entries kept.
const KEPT: usize = 64;
/// Octets kept of what happened: an OPEN may name two thousand capabilities.
const LONGEST: usize = 1024;

/// Which way a message went, or that it was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
    /// Our own state.
    State,
}

/// What happened; like entries that follow each other are one with a count, so that an hour of KEEPALIVEs does not push
/// out what led to it.
#[derive(Debug)]
struct Entry {
    at: SystemTime,
    way: Way,
    what: Cow<'static, str>,
    times: u64,
}

/// The last entries.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    entries: VecDeque<Entry>,
}

impl Recorder {
    /// Adds an entry that happened so often at once.
    pub(crate) fn add(
        &mut self,
        at: SystemTime,
        way: Way,
        what: impl Into<Cow<'static, str>>,
        times: u64,
    ) {
        let what = cut(what.into());
        // KEEPALIVEs alternate with the peer's: look behind the last one too.
        let alike = self
            .entries
            .iter_mut()
            .rev()
            .take(2)
            .find(|entry| entry.way == way && entry.what == what && way != Way::State);
        if let Some(entry) = alike {
            entry.at = at;
            entry.times = entry.times.saturating_add(times);
            return;
        }
        if self.entries.len() >= KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            at,
            way,
            what,
            times,
        });
    }

    /// As it is shown, the oldest first.
    #[must_use]
    pub(crate) fn shown(&self) -> Vec<Record> {
        self.entries
            .iter()
            .map(|entry| Record {
                at: entry.at,
                kind: match entry.way {
                    Way::In => "in",
                    Way::Out => "out",
                    Way::State => "state",
                },
                what: match entry.times {
                    0 | 1 => entry.what.to_string(),
                    times => format!("{} × {times}", entry.what),
                },
            })
            .collect()
    }
}

/// As much as is kept.
fn cut(what: Cow<'static, str>) -> Cow<'static, str> {
    if what.len() <= LONGEST {
        return what;
    }
    let end = (0..=LONGEST).rev().find(|at| what.is_char_boundary(*at));
    let start = what.get(..end.unwrap_or_default());
    format!("{} …", start.unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalives_that_alternate_are_two_entries() {
        let mut recorder = Recorder::default();
        recorder.add(SystemTime::UNIX_EPOCH, Way::State, "Established", 1);
        for _ in 0..1000 {
            recorder.add(SystemTime::UNIX_EPOCH, Way::In, "KEEPALIVE", 1);
            recorder.add(SystemTime::UNIX_EPOCH, Way::Out, "KEEPALIVE", 1);
        }
        let shown: Vec<_> = recorder
            .shown()
            .into_iter()
            .map(|record| (record.kind, record.what))
            .collect();
        assert_eq!(
            shown,
            [
                ("state", "Established".to_owned()),
                ("in", "KEEPALIVE × 1000".to_owned()),
                ("out", "KEEPALIVE × 1000".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let mut recorder = Recorder::default();
        recorder.add(SystemTime::UNIX_EPOCH, Way::In, "ü".repeat(4000), 1);
        recorder.add(SystemTime::UNIX_EPOCH, Way::In, "x".repeat(LONGEST), 1);
        let lengths: Vec<_> = recorder
            .shown()
            .iter()
            .map(|record| record.what.len())
            .collect();
        assert_eq!(lengths, [LONGEST + " …".len(), LONGEST]);
    }

    #[test]
    fn the_oldest_entries_go() {
        let mut recorder = Recorder::default();
        for number in 0..100 {
            recorder.add(SystemTime::UNIX_EPOCH, Way::State, number.to_string(), 1);
        }
        let shown = recorder.shown();
        assert_eq!(shown.len(), KEPT);
        assert_eq!(shown.last().map(|record| &*record.what), Some("99"));
    }
}
