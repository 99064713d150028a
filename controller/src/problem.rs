//! What stands in the way, in words with the remedy: of an object, of the cluster, of this node.

use std::fmt;

use serde::Serialize;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What it concerns: `BGPPeer tor-r1`, `Node node1`, `kernel`.
    pub(crate) about: String,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Severity {
    /// Something that was asked for does not happen.
    Error,
    /// It happens, but probably not as meant.
    Warning,
}

impl Problem {
    /// Something that was asked for does not happen.
    pub(crate) fn error(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            about: about.into(),
            text: text.into(),
        }
    }

    /// It happens, but probably not as meant.
    pub(crate) fn warning(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            about: about.into(),
            text: text.into(),
        }
    }

    /// Whether it makes the node unhealthy.
    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}: {}", self.about, self.text)
    }
}
