//! `routelet`: the BGP route-distributing control plane of a Kubernetes node.

use std::process::ExitCode;

use clap::Parser;

mod audit;
mod cli;
mod cluster;
mod cni;
mod connections;
mod control;
mod crd;
mod daemon;
mod desired;
mod gateways;
mod install;
mod journal;
mod kubernetes;
mod metrics;
mod node;
mod order;
mod problem;
mod render;
mod report;
mod state;
mod watch;
mod web;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
