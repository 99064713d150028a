//! The lab: containerlab topologies in network namespaces, with real FRR, BIRD and routelet, and eyes everywhere.
//!
//! ```text
//! *.clab.yml → Topology → Lab ─┬─ Container (net, mount, pid, uts namespaces) ── Program: FRR, BIRD, routelet, a shell
//!                              ├─ links (veth pairs, bridges)
//!                              ├─ Pod (made by the CNI plugins from routelet's conflist)
//!                              └─ ControlPlane: etcd, kube-apiserver, kube-controller-manager, kubectl
//! what a story looks with: eventually · Ping · Capture · RouteMonitor · kernel routes · vtysh, birdc, routelet as JSON
//! ```
#![expect(
    clippy::missing_errors_doc,
    reason = "in the lab every error is the failure of the story, told in words"
)]

pub mod bench;
pub mod byhand;
pub mod capture;
pub mod chaos;
pub mod clab;
pub mod cni;
pub mod container;
pub mod converge;
pub mod dissect;
pub mod interop;
pub mod kernel;
pub mod kubernetes;
pub mod lab;
pub mod manifest;
pub mod overheard;
pub mod ping;
pub mod program;
pub mod router;
pub mod scene;
pub mod segment;
pub mod shell;
pub mod story;
pub mod traffic;
pub mod wait;
pub mod words;

pub use clab::Topology;
pub use container::Container;
pub use lab::{Lab, Options};
pub use wait::eventually;
