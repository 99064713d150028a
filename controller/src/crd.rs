//! Our kinds, exactly as a user writes them: one file each. Group `routelet.dev`, version `v1alpha1`, cluster-scoped.
//!
//! Reading one checks every value by itself (an address is an address, a number in range); [`Rules::broken`] checks
//! what several fields say together. The same types give the CustomResourceDefinitions ([`definition`]), so that an API server
//! refuses what they refuse.

pub(crate) mod advertisement;
pub(crate) mod configuration;
pub(crate) mod definition;
pub(crate) mod monitoring;
pub(crate) mod node;
pub(crate) mod peer;
pub(crate) mod policy;
mod schema;
pub(crate) mod selector;
pub(crate) mod status;
pub(crate) mod tcp_ao;
pub(crate) mod value;

pub(crate) use advertisement::BGPAdvertisementSpec;
pub(crate) use configuration::BGPConfigurationSpec;
pub(crate) use node::BGPNodeSpec;
pub(crate) use peer::BGPPeerSpec;
pub(crate) use policy::BGPPolicySpec;

/// The group of our kinds.
pub(crate) const GROUP: &str = "routelet.dev";
/// Its version.
pub(crate) const API_VERSION: &str = "routelet.dev/v1alpha1";
/// Our kinds.
pub(crate) const KINDS: [&str; 5] = [
    "BGPConfiguration",
    "BGPPeer",
    "BGPPolicy",
    "BGPAdvertisement",
    "BGPNode",
];

/// A rule that an object breaks: the field (`spec.timers`) and what is wrong with it, with the remedy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    pub(crate) path: String,
    pub(crate) message: String,
}

/// Collects the rules that an object breaks.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(pub(crate) Vec<Broken>);

impl Verdicts {
    /// `spec.FIELD` must satisfy `holds`; otherwise `message` says why it does not.
    pub(crate) fn demand(&mut self, holds: bool, field: &str, message: impl Into<String>) {
        if !holds {
            self.0.push(Broken {
                path: format!("spec.{field}"),
                message: message.into(),
            });
        }
    }
}

/// What several fields of an object must satisfy together.
pub(crate) trait Rules {
    /// Adds to `verdicts` every rule that is broken.
    fn check(&self, name: &str, verdicts: &mut Verdicts);

    /// The rules that are broken.
    fn broken(&self, name: &str) -> Vec<Broken> {
        let mut verdicts = Verdicts::default();
        self.check(name, &mut verdicts);
        verdicts.0
    }
}
