//! Where the servers are: in the folder that `KUBEBUILDER_ASSETS` names. `tests/run` builds them from their Go modules where it is not set.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// What a control plane takes.
pub const NAMES: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// The folder with the programs, or why there is none.
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
