//! Every route and what follows from it: Adj-RIB-In, decision, Adj-RIB-Out (RFC 4271 §3.2, §9).

pub mod task;
