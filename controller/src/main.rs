//! `routelet`: the BGP route-distributing control plane of a Kubernetes node.

#![allow(dead_code)]

mod cluster;
mod cni;
mod crd;
mod desired;
mod problem;

fn main() {}
