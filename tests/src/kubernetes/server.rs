//! The servers of a control plane and how each is started: as kubeadm would, for one node, small.

use super::audit;
use super::identity::FOLDER;
use super::programs;
use super::proxy::SOCKET;

/// What answers as the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// kube-apiserver and what belongs to it.
    Real,
    /// The stand-in, which `tests/conformance.yaml` holds to the real one.
    Fake,
}

/// What the stand-in keeps its objects in when it is away.
const JOURNAL: &str = "/tmp/objects";

/// One server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The store.
    Etcd,
    /// kube-apiserver.
    Api,
    /// kube-controller-manager: hands out pod CIDRs, and keeps what a cluster needs besides.
    Controllers,
}

/// Pods of nodes get their CIDRs from these: a /24 and a /64 each.
pub const CLUSTER_CIDRS: &str = "10.244.0.0/16,fd00:10:244::/48";
/// Services get their addresses from these.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:10:96::/112";
/// The first service address of each family: `kubernetes.default`.
pub(super) const OWN_SERVICE: [&str; 2] = ["10.96.0.1", "fd00:10:96::1"];

/// What runs of the controllers: no node lifecycle (no kubelet here reports), nothing about volumes and workloads.
const CONTROLLERS: &str = "node-ipam-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,\
namespace-controller,garbage-collector-controller,endpointslice-controller,clusterrole-aggregation-controller,\
validatingadmissionpolicy-status-controller";

impl Server {
    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Api => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
        }
    }

    /// Its command line on a node with `address`; none where the stand-in has no such server.
    pub(super) fn words(self, make: Make, address: &str) -> Option<Vec<String>> {
        let (name, flags) = match make {
            Make::Real => (self.name(), self.flags(address)),
            Make::Fake => (programs::FAKE, self.standing_in()?),
        };
        let program = format!("/usr/local/bin/{name}");
        Some(std::iter::once(program).chain(flags).collect())
    }

    fn standing_in(self) -> Option<Vec<String>> {
        let words: &[&str] = match self {
            Self::Etcd => return None,
            Self::Api => &["serve", FOLDER, JOURNAL, SOCKET],
            Self::Controllers => &["controllers", SOCKET],
        };
        Some(words.iter().map(|&word| word.to_owned()).collect())
    }

    fn flags(self, address: &str) -> Vec<String> {
        match self {
            Self::Etcd => vec![
                "--data-dir=/tmp/etcd".into(),
                "--listen-client-urls=http://127.0.0.1:2379".into(),
                "--advertise-client-urls=http://127.0.0.1:2379".into(),
                "--listen-peer-urls=http://127.0.0.1:2380".into(),
                // What a story stores need not survive a power cut.
                "--unsafe-no-fsync".into(),
                "--log-level=warn".into(),
            ],
            Self::Api => vec![
                format!("--advertise-address={address}"),
                "--bind-address=::".into(),
                "--secure-port=6443".into(),
                "--etcd-servers=http://127.0.0.1:2379".into(),
                format!("--tls-cert-file={FOLDER}/apiserver.crt"),
                format!("--tls-private-key-file={FOLDER}/apiserver.key"),
                format!("--client-ca-file={FOLDER}/ca.crt"),
                "--authorization-mode=Node,RBAC".into(),
                "--enable-admission-plugins=NodeRestriction".into(),
                "--allow-privileged=true".into(),
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
                format!("--service-account-key-file={FOLDER}/sa.pub"),
                format!("--service-account-signing-key-file={FOLDER}/sa.key"),
                format!("--service-cluster-ip-range={SERVICE_CIDRS}"),
                "--profiling=false".into(),
                format!("--audit-policy-file={FOLDER}/audit.yaml"),
                format!("--audit-log-path={}", audit::LOG),
            ],
            Self::Controllers => vec![
                format!("--kubeconfig={FOLDER}/controller-manager.conf"),
                format!("--controllers={CONTROLLERS}"),
                "--use-service-account-credentials=true".into(),
                format!("--service-account-private-key-file={FOLDER}/sa.key"),
                format!("--root-ca-file={FOLDER}/ca.crt"),
                "--allocate-node-cidrs=true".into(),
                format!("--cluster-cidr={CLUSTER_CIDRS}"),
                format!("--service-cluster-ip-range={SERVICE_CIDRS}"),
                "--leader-elect=false".into(),
                "--profiling=false".into(),
            ],
        }
    }
}
