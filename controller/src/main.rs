//! `routelet`: the BGP route-distributing control plane of a Kubernetes node.

#![allow(dead_code)]

mod cluster;
mod crd;
mod problem;

fn main() {}
