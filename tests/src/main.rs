//! The lab runner behind `topologies/run`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tests::converge::{Cluster, Proof};
use tests::kubernetes::{ControlPlane, Lifetime};
use tests::lab::{State, sweep};
use tests::program::Program;
use tests::wait::now;
use tests::{Lab, Options, Topology, container};

const CONVERGENCE: Duration = Duration::from_secs(60);

const USAGE: &str = "usage: lab run FILE [--keep] | lab up FILE | lab exec FILE NODE COMMAND… | lab down FILE | lab sweep";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["run", file] => run(Path::new(file), false),
        ["run", file, "--keep"] => run(Path::new(file), true),
        ["up", file] => up(Path::new(file)),
        ["down", file] => down(Path::new(file)),
        ["sweep"] => sweep(),
        ["exec", file, node, command @ ..] if !command.is_empty() => {
            exec(Path::new(file), node, command)
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nFAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lab(file: &Path) -> Result<Lab> {
    Lab::up(
        Topology::read(file)?,
        Options {
            verbose: true,
            ..Options::default()
        },
    )
}

fn up(file: &Path) -> Result<()> {
    let lab = lab(file)?;
    if let Some(control) = control_plane(&lab, Lifetime::Lab)? {
        control.found_all()?;
        control.leave();
    }
    lab.keep()
}

fn control_plane(lab: &Lab, lifetime: Lifetime) -> Result<Option<ControlPlane<'_>>> {
    if !lab.running(Program::ControlPlane).is_empty() {
        eprintln!("  {}: control plane", lab.topology.name);
    }
    ControlPlane::of(lab, lifetime)
}

fn run(file: &Path, keep: bool) -> Result<()> {
    let start = now();
    let lab = lab(file)?;
    let lifetime = if keep { Lifetime::Lab } else { Lifetime::Story };
    let control = control_plane(&lab, lifetime)?;
    let up = start.elapsed();
    let checked = demonstrate(&lab, control.as_ref(), up);
    if keep {
        let name = lab.topology.name.clone();
        let host = lab.running(Program::ControlPlane).into_iter().next();
        if let Some(control) = control {
            control.leave();
        }
        lab.keep()?;
        println!("\nThe lab stays up. Look around with, for example");
        for command in ["status", "peers", "routes", "fib"] {
            println!("    topologies/run {name} exec node1 routelet {command}");
        }
        println!("    topologies/run {name} exec node1 ip netns exec pod1 ip address");
        if let Some(host) = host {
            println!("    topologies/run {name} exec {host} kubectl describe bgpnode node1");
        }
        println!("and end it with\n    topologies/run {name} down");
    } else {
        if checked.is_err() {
            if let Some(control) = &control {
                control.autopsy();
            }
            for node in lab.running(Program::Routelet) {
                println!("\n---- {node} said last:\n{}", tail(&lab.said(&node), 40));
            }
        }
        drop(control);
        drop(lab);
    }
    checked
}

fn demonstrate(lab: &Lab, control: Option<&ControlPlane<'_>>, up: Duration) -> Result<()> {
    let cluster = match control {
        Some(control) => {
            println!("  {}: the nodes join", lab.topology.name);
            control.found_all()?
        }
        None => Cluster::of(lab)?,
    };
    println!(
        "  {}: waiting for {} routes in the kernels of {} nodes",
        lab.topology.name,
        cluster.expected(),
        cluster.members.len()
    );
    let start = now();
    cluster.converge(CONVERGENCE)?;
    let converged = start.elapsed();
    println!("  {}: pods", lab.topology.name);
    let pods = cluster.pods()?;
    cluster.reach(&pods, CONVERGENCE)?;

    let first = cluster.members.first().context("no member")?;
    for words in [
        &["routelet", "status"][..],
        &["routelet", "peers"],
        &["ip", "-4", "route"],
        &["ip", "-6", "route"],
    ] {
        println!("\n{}# {}", first.name, words.join(" "));
        let done = first.container.output(words)?;
        print!("{}{}", done.stdout, done.stderr);
    }
    println!(
        "\n  {}: every pod and every node pings every pod, under capture",
        lab.topology.name
    );
    let proof = cluster.prove(&pods)?;
    if let Some(control) = control {
        as_kubectl_shows_it(control, &cluster)?;
    }
    summary(lab, &cluster, &proof, pods.len(), up, converged);
    proof.holds()
}

fn as_kubectl_shows_it(control: &ControlPlane<'_>, cluster: &Cluster<'_>) -> Result<()> {
    for member in &cluster.members {
        control.is_told(&member.name)?;
    }
    for words in [&["get", "nodes", "-o", "wide"][..], &["get", "bgpnodes"]] {
        let host = control.host();
        println!("\n{host}# kubectl {}", words.join(" "));
        print!("{}", control.kubectl(words)?);
    }
    Ok(())
}

fn summary(
    lab: &Lab,
    cluster: &Cluster<'_>,
    proof: &Proof,
    pods: usize,
    up: Duration,
    converged: Duration,
) {
    println!("\nSummary of {}", lab.topology.name);
    println!(
        "  {} nodes with routelet, {} other devices, {pods} pods",
        cluster.members.len(),
        lab.nodes().count() - cluster.members.len()
    );
    println!(
        "  lab up in {:.1} s, then converged in {:.1} s: {} routes in the kernels",
        up.as_secs_f64(),
        converged.as_secs_f64(),
        cluster.expected()
    );
    println!(
        "  pings answered: {} of {} (each pod and node to each pod, IPv4 and IPv6)",
        proof.pings - proof.unanswered.len(),
        proof.pings
    );
    println!(
        "  sender's own address seen by the receiver: {} of {} pairs of pods",
        proof.sources_kept,
        proof.sources_kept + proof.sources_lost.len()
    );
    println!(
        "  on the wire between nodes: pod packets of {} flows bare, {} packets encapsulated",
        proof.bare,
        proof.encapsulated.len()
    );
}

fn id_of(file: &Path) -> Result<(Topology, State)> {
    let topology = Topology::read(file)?;
    let state = State::open(topology.prefix.trim_end_matches('-')).map_err(|error| {
        anyhow!(
            "{error}; start it with: topologies/run {} --keep",
            topology.name
        )
    })?;
    Ok((topology, state))
}

fn down(file: &Path) -> Result<()> {
    let (_, state) = id_of(file)?;
    state.clean();
    Ok(())
}

fn exec(file: &Path, node: &str, words: &[&str]) -> Result<()> {
    let (topology, state) = id_of(file)?;
    let env = &topology.node(node)?.env;
    let Some(init) = state.containers.get(node) else {
        bail!("{node} runs nothing that could be entered")
    };
    ensure!(
        init.alive(),
        "{node} is gone; take the lab down and start it again"
    );
    let mut command = container::enter(init.pid);
    command
        .arg("--")
        .arg("env")
        .args(env.iter().map(|(key, value)| format!("{key}={value}")))
        .args(words);
    Err(command.exec()).context("nsenter")
}

fn tail(text: &str, lines: usize) -> String {
    let from = text.lines().count().saturating_sub(lines);
    text.lines().skip(from).collect::<Vec<_>>().join("\n")
}
