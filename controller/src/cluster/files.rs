//! The cluster from manifests in files: a file, or every `*.yaml`, `*.yml` and `*.json` of a directory.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{
    Cluster,
    decode::Fault,
    document,
    object::{self, Complaint},
};
use crate::problem::Problem;

/// A file that does not say what its author meant; nothing of it can be trusted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unreadable {
    /// Which.
    pub(crate) file: PathBuf,
    /// Where and why; the whole file where it could not even be opened.
    pub(crate) fault: Fault,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.file, &self.fault)
    }
}

/// `FILE:LINE:COLUMN: FIELD: MESSAGE`, the form that editors and terminals make clickable.
fn write_place(f: &mut dyn fmt::Write, file: &Path, fault: &Fault) -> fmt::Result {
    write!(f, "{}", file.display())?;
    if fault.at.line > 0 {
        write!(f, ":{}:{}", fault.at.line, fault.at.column)?;
    }
    write!(f, ": {fault}")
}

/// Reads everything at `path`. Objects that break a rule are left out and are problems of the cluster.
///
/// # Errors
/// Every file that cannot be read, is no YAML, or holds a manifest that does not say what was meant.
pub(crate) fn load(path: &Path) -> Result<Cluster, Vec<Unreadable>> {
    load_all(std::slice::from_ref(&path))
}

/// Reads everything at several places as one cluster.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_all<P: AsRef<Path>>(paths: &[P]) -> Result<Cluster, Vec<Unreadable>> {
    let mut files = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        files.extend(list(path).map_err(|error| vec![unopened(path, &error)])?);
    }
    let mut cluster = Cluster::default();
    let mut unreadable = Vec::new();
    for file in &files {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                unreadable.push(unopened(file, &error));
                continue;
            }
        };
        add_file(file, &text, &mut cluster, &mut unreadable);
    }
    if unreadable.is_empty() {
        Ok(cluster)
    } else {
        Err(unreadable)
    }
}

/// Adds the documents of one file.
pub(crate) fn add_file(
    file: &Path,
    text: &str,
    cluster: &mut Cluster,
    unreadable: &mut Vec<Unreadable>,
) {
    let documents = match document::read(text) {
        Ok(documents) => documents,
        Err(broken) => {
            unreadable.push(Unreadable {
                file: file.to_owned(),
                fault: Fault {
                    at: broken.at,
                    path: String::new(),
                    message: broken.message,
                },
            });
            return;
        }
    };
    let mut complaints = Vec::new();
    for document in &documents {
        object::add(document, cluster, &mut complaints);
    }
    for complaint in complaints {
        let placed = |fault: &Fault| {
            let mut text = String::new();
            // Writing to a String does not fail.
            let _ = write_place(&mut text, file, fault);
            text
        };
        match complaint {
            Complaint::Unreadable(fault) => unreadable.push(Unreadable {
                file: file.to_owned(),
                fault,
            }),
            Complaint::Broken { kind, name, fault } => {
                let text = format!("left out: {}", placed(&fault));
                cluster
                    .problems
                    .push(Problem::error(format!("{kind} {name}"), text));
            }
            Complaint::Skipped(fault) => cluster
                .problems
                .push(Problem::warning("configuration", placed(&fault))),
        }
    }
}

fn unopened(file: &Path, error: &io::Error) -> Unreadable {
    Unreadable {
        file: file.to_owned(),
        fault: Fault {
            at: document::Place::default(),
            path: String::new(),
            message: format!("cannot be read: {error}"),
        },
    }
}

/// Whether a file of a directory is read, by its name. Hidden ones are editors' backups and the kubelet's `..data`.
pub(crate) fn is_manifest(file: &Path) -> bool {
    let hidden = file
        .file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let extension = file.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The files to read, in the order of their names.
fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if is_manifest(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the directory holds no *.yaml, *.yml or *.json",
        ));
    }
    Ok(files)
}
