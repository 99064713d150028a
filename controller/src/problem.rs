//! What stands in the way, in words with the remedy: of an object, of the cluster, of this node.

use std::fmt;

use serde::{Serialize, Serializer};

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
    /// The same in one word that does not change.
    pub(crate) reason: Reason,
}

/// What kind of thing is wrong: the reason in conditions and events. Its words are a contract; new ones may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Something in the objects or options that is not as it should be, and none of the others.
    #[default]
    ConfigurationProblem,
    /// An object that breaks a rule: it, or its new version, is left out.
    ObjectInvalid,
    /// A Secret, or its key, is missing or of no use.
    SecretMissing,
    /// A pod CIDR overlaps another, a service CIDR, or the address of a node.
    PodCidrConflict,
    /// The Node has no pod CIDR.
    PodCidrMissing,
    /// The Node has no address to be reached by, or that of another.
    AddressProblem,
    /// Two nodes have one router ID.
    RouterIdConflict,
    /// The selector matches no route reflector.
    NoRouteReflector,
    /// The conflist cannot be written.
    ConflistNotWritten,
    /// A CNI plugin that the conflist names is not installed.
    CniPluginMissing,
    /// A peer announces pods of a node as if they were elsewhere.
    OriginRefused,
    /// A pod CIDR has no route.
    RouteMissing,
    /// A pod CIDR is routed elsewhere.
    RouteWrong,
    /// A route into the pod network leads to what no node owns.
    RouteUnexpected,
    /// A session that should be up is not.
    SessionDown,
    /// A session is up, but BFD does not watch its path, or holds that it fails.
    BfdNotUp,
    /// The speaker as a whole: a port in use.
    SpeakerProblem,
    /// A BMP collector is away, or MRT files cannot be written.
    MonitoringProblem,
    /// The installer or the kernel.
    KernelProblem,
    /// The node is drained, or on its way.
    OutOfService,
    /// The start is not over.
    InitialSync,
    /// The API server is away, or does not let us.
    ApiServerProblem,
}

impl Reason {
    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ConfigurationProblem => "ConfigurationProblem",
            Self::ObjectInvalid => "ObjectInvalid",
            Self::SecretMissing => "SecretMissing",
            Self::PodCidrConflict => "PodCIDRConflict",
            Self::PodCidrMissing => "PodCIDRMissing",
            Self::AddressProblem => "AddressProblem",
            Self::RouterIdConflict => "RouterIDConflict",
            Self::NoRouteReflector => "NoRouteReflector",
            Self::ConflistNotWritten => "ConflistNotWritten",
            Self::CniPluginMissing => "CNIPluginMissing",
            Self::OriginRefused => "OriginRefused",
            Self::RouteMissing => "RouteMissing",
            Self::RouteWrong => "RouteWrong",
            Self::RouteUnexpected => "RouteUnexpected",
            Self::SessionDown => "SessionDown",
            Self::BfdNotUp => "BFDNotUp",
            Self::SpeakerProblem => "SpeakerProblem",
            Self::MonitoringProblem => "MonitoringProblem",
            Self::KernelProblem => "KernelProblem",
            Self::OutOfService => "OutOfService",
            Self::InitialSync => "InitialSync",
            Self::ApiServerProblem => "APIServerProblem",
        }
    }
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
            reason: Reason::default(),
        }
    }

    /// It happens, but probably not as meant.
    pub(crate) fn warning(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            about: about.into(),
            text: text.into(),
            reason: Reason::default(),
        }
    }

    /// The same with its reason.
    pub(crate) fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// Whether it makes the node unhealthy.
    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
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
