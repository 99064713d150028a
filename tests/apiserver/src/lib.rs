//! A stand-in for kube-apiserver: what routelet and its stories ask of one, answered as the real one does. `tests/conformance.yaml` holds both to it.
//!
//! ```text
//! HTTP: TCP, TLS, UNIX socket ── server ── Request ─► answer() ─┬─ read   get, list, discovery, Watch
//!                                  │                           └─ write  create, update, patch (merge, apply), delete; defaults
//!                                  │                                │
//!                                  │                              Store  objects, versions, the history that watches are told
//!                                  ├─ journal: what outlives the process
//!                                  └─ controllers: pod CIDRs, what goes with its owner
//! ```
//! What it does not have, on purpose: anybody's rights, admission, CEL and the schemas of definitions (nothing is pruned or filled in), the
//! forms that kubectl asks for. Whoever wants to know of those needs the real one.

mod apply;
mod controllers;
mod defaults;
mod field;
mod journal;
mod kind;
mod merge;
mod query;
mod read;
mod refusal;
mod request;
mod server;
mod store;
mod target;
mod tls;
mod write;

pub use server::Server;
