//! Measures whole daemons against each other; `tests/bench` starts it.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, thread};

use anyhow::{Context, Result, bail};
use tests::bench::{
    device::Device,
    report::{Runs, heading, lines},
    workload::{ALL, Against, Scene, Workload},
};

const USAGE: &str = "\
bench [OPTION…] [WORKLOAD…]     all workloads, or those named (P1 gives P1–P5, P7 gives P8 too)
  --quick            a twentieth of the size, one run: does it work at all?
  --runs N           runs of each device, in turns (3); the median counts
  --devices A,B      of routelet,bird,frr
  --routelet PATH    the binary (target/release/routelet)
  --keep             keep configurations and logs of the runs
  --list             what there is";

struct Plan {
    workloads: Vec<&'static Workload>,
    devices: Vec<Device>,
    runs: usize,
    quick: bool,
    keep: bool,
}

fn main() -> ExitCode {
    match plan().and_then(|plan| plan.map_or(Ok(()), |plan| measure(&plan))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn plan() -> Result<Option<Plan>> {
    let mut plan = Plan {
        workloads: Vec::new(),
        devices: Vec::new(),
        runs: 0,
        quick: false,
        keep: false,
    };
    let mut names = "routelet,bird,frr".to_owned();
    let mut binary = PathBuf::from("target/release/routelet");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} wants a value"))
        };
        match argument.as_str() {
            "-h" | "--help" => {
                println!("{USAGE}");
                return Ok(None);
            }
            "--list" => {
                for workload in ALL {
                    println!("{:<5} {}", workload.name, workload.about);
                }
                return Ok(None);
            }
            "--quick" => plan.quick = true,
            "--keep" => plan.keep = true,
            "--runs" => plan.runs = value()?.parse().context("--runs wants a number")?,
            "--devices" => names = value()?,
            "--routelet" => binary = value()?.into(),
            name => match ALL.iter().find(|workload| workload.name == name) {
                Some(workload) => plan.workloads.push(workload),
                None => bail!("no workload {name}; --list shows them\n{USAGE}"),
            },
        }
    }
    for name in names.split(',') {
        plan.devices.push(match name {
            "routelet" if binary.exists() => Device::Routelet(binary.canonicalize()?),
            "routelet" => {
                eprintln!(
                    "skipped: routelet, because there is no {}",
                    binary.display()
                );
                continue;
            }
            "bird" => Device::Bird,
            "frr" => Device::Frr,
            other => bail!("no device {other}\n{USAGE}"),
        });
    }
    if plan.workloads.is_empty() {
        plan.workloads.extend(ALL);
    }
    if plan.runs == 0 {
        plan.runs = if plan.quick { 1 } else { 3 };
    }
    Ok(Some(plan))
}

fn measure(plan: &Plan) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("routelet-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut report = heading(&plan.devices) + "\n";
    for workload in &plan.workloads {
        eprintln!("{}: {}", workload.name, workload.about);
        let mut runs = BTreeMap::<&'static str, Runs>::new();
        let takes_part = |device: &&Device| {
            workload.against == Against::All || matches!(device, Device::Routelet(_))
        };
        for number in 1..=plan.runs {
            for device in plan.devices.iter().filter(takes_part) {
                let scene = Scene {
                    device,
                    dir: &dir.join(format!("{}-{}-{number}", workload.name, device.name())),
                    quick: plan.quick,
                };
                // A thread of its own: the namespaces it enters end with it.
                let result = thread::scope(|scope| scope.spawn(|| (workload.run)(&scene)).join());
                let result = match result {
                    Ok(result) => result.map_err(|error| format!("{error:#}")),
                    Err(_) => Err("panicked, see above".to_owned()),
                };
                eprintln!("  {number} {:<9} {}", device.name(), shown(&result));
                runs.entry(device.name()).or_default().push(result);
            }
        }
        report += &lines(workload, &plan.devices, &runs);
    }
    print!("{report}");
    if plan.keep {
        eprintln!("kept: {}", dir.display());
    } else {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

fn shown(result: &Result<Vec<f64>, String>) -> String {
    match result {
        Ok(values) => values.iter().map(|value| format!("{value:.3} ")).collect(),
        Err(why) => why.clone(),
    }
}
