//! One file: written under a name that begins with a dot, and complete once it has its own. It holds whole records at any
//! time, whatever the disk takes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::HEADER;

/// What a file holds; its name begins so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// What peers said.
    Updates,
    /// The table.
    Table,
}

impl Contents {
    const fn name(self) -> &'static str {
        match self {
            Self::Updates => "updates",
            Self::Table => "rib",
        }
    }
}

/// How the name of an unfinished file ends.
const UNFINISHED: &str = ".unfinished";

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    file: File,
    /// Octets of whole records.
    whole: u64,
    directory: PathBuf,
    stem: String,
}

impl Writing {
    /// Begins the file of this time, which stands in its name: `updates.20261126.094500.mrt`, UTC.
    pub(super) fn begin(directory: &Path, contents: Contents, at: SystemTime) -> io::Result<Self> {
        let at = jiff::Timestamp::try_from(at).map_err(io::Error::other)?;
        let stem = format!("{}.{}", contents.name(), at.strftime("%Y%m%d.%H%M%S"));
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o640)
            .open(unfinished(directory, &stem))?;
        Ok(Self {
            file,
            whole: 0,
            directory: directory.into(),
            stem,
        })
    }

    /// Appends whole records, or nothing.
    pub(super) fn write(&mut self, records: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(records) {
            self.file.set_len(self.whole)?;
            self.file.seek(SeekFrom::Start(self.whole))?;
            return Err(error);
        }
        self.whole = self.whole.saturating_add(records.len() as u64);
        Ok(())
    }

    /// All of it is on disk, and has its name.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        name(&self.directory, &self.stem)
    }

    /// Takes away what could not be finished.
    pub(super) fn discard(self) {
        // It does no harm where it stays.
        let _ = fs::remove_file(unfinished(&self.directory, &self.stem));
    }
}

fn unfinished(directory: &Path, stem: &str) -> PathBuf {
    directory.join(format!(".{stem}{UNFINISHED}"))
}

/// Gives a file its name. A second one of the same time, after a restart or a clock set back, takes nothing away from the
/// first.
fn name(directory: &Path, stem: &str) -> io::Result<()> {
    let finished = (0..)
        .map(|number: u32| match number {
            0 => directory.join(format!("{stem}.mrt")),
            number => directory.join(format!("{stem}-{number}.mrt")),
        })
        .find(|path| !path.exists())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(unfinished(directory, stem), finished)
}

/// Finishes what a process before us could not: updates up to the last whole record; part of a table is of no use.
pub(super) fn recover(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(stem) = file_name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(UNFINISHED))
        else {
            continue;
        };
        let whole = if stem.starts_with(Contents::Updates.name()) {
            whole_records(&path)?
        } else {
            0
        };
        if whole == 0 {
            fs::remove_file(&path)?;
        } else {
            OpenOptions::new().write(true).open(&path)?.set_len(whole)?;
            name(directory, stem)?;
        }
    }
    Ok(())
}

/// How many octets of a file are whole records.
fn whole_records(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let octets = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut whole: u64 = 0;
    let mut header = [0; HEADER];
    while file.read_exact(&mut header).is_ok() {
        let [.., a, b, c, d] = header;
        let body = u32::from_be_bytes([a, b, c, d]);
        let end = whole
            .saturating_add(HEADER as u64)
            .saturating_add(body.into());
        if end > octets {
            break;
        }
        file.seek_relative(body.into())?;
        whole = end;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const RECORD: [u8; 14] = [0, 0, 0, 0, 0, 17, 0, 4, 0, 0, 0, 2, 9, 9];

    fn then() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    }

    /// A directory of its own, gone with this.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mrt-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .expect("a directory")
                .map(|entry| entry.expect("an entry").file_name().display().to_string())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is removed");
        }
    }

    #[test]
    fn a_file_has_its_name_once_it_is_complete() {
        let directory = Directory::new("name");
        for _ in 0..2 {
            let mut file = Writing::begin(&directory.0, Contents::Updates, then()).expect("a file");
            file.write(&RECORD).expect("written");
            assert!(
                directory
                    .names()
                    .contains(&".updates.20010909.014640.unfinished".to_owned())
            );
            file.finish().expect("finished");
        }
        assert_eq!(
            directory.names(),
            [
                "updates.20010909.014640-1.mrt",
                "updates.20010909.014640.mrt"
            ]
        );
    }

    #[test]
    fn after_a_crash_whole_updates_are_kept_and_torn_tables_are_not() {
        let directory = Directory::new("crash");
        for contents in [Contents::Updates, Contents::Table] {
            let mut file = Writing::begin(&directory.0, contents, then()).expect("a file");
            file.write(&[RECORD, RECORD].concat()).expect("written");
            file.write(&RECORD[..13]).expect("torn");
        }
        recover(&directory.0).expect("recovered");
        assert_eq!(directory.names(), ["updates.20010909.014640.mrt"]);
        let kept = fs::read(directory.0.join("updates.20010909.014640.mrt")).expect("a file");
        assert_eq!(kept, [RECORD, RECORD].concat());
    }
}
