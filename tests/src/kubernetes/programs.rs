//! Where the servers are: real ones in the folder that `KUBEBUILDER_ASSETS` names (`tests/run` builds them from their Go modules where it is
//! not set), the stand-in beside this program.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// What a real control plane takes.
pub const NAMES: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// What stands in for it.
pub const FAKE: &str = "fake-apiserver";

/// The folder with the real programs, or why there is none.
pub fn folder() -> Result<PathBuf> {
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").with_context(|| {
        std::env::var("WITHOUT_KUBERNETES").unwrap_or_else(|_| {
            format!(
                "KUBEBUILDER_ASSETS names no folder with {}; tests/run builds one",
                NAMES.join(", ")
            )
        })
    })?;
    let folder = PathBuf::from(folder);
    for name in NAMES {
        ensure!(
            folder.join(name).is_file(),
            "there is no {name} in {} (KUBEBUILDER_ASSETS)",
            folder.display()
        );
    }
    Ok(folder.canonicalize()?)
}

/// The stand-in.
pub fn fake() -> Result<PathBuf> {
    // target/PROFILE/lab, or target/PROFILE/deps/stories-…
    let me = std::env::current_exe()?;
    let mut beside = me.ancestors().skip(1).take(2);
    beside
        .find_map(|folder| {
            let path = folder.join(FAKE);
            path.is_file().then_some(path)
        })
        .with_context(|| format!("no {FAKE} beside this program: cargo build -p tests"))
}

/// The real ones.
pub fn real() -> Result<Vec<PathBuf>> {
    let folder = folder()?;
    Ok(NAMES.iter().map(|name| folder.join(name)).collect())
}
