//! Results as a table of ratios.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    device::Device,
    workload::{Figure, Must, Workload},
};

/// What was measured of one device in one workload: the figures of every run, or why there are none.
pub type Runs = Vec<Result<Vec<f64>, String>>;

/// The middle one.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The results of a workload, one line a figure.
#[must_use]
pub fn lines(
    workload: &Workload,
    devices: &[Device],
    runs: &BTreeMap<&'static str, Runs>,
) -> String {
    let mut text = String::new();
    for (at, figure) in workload.figures.iter().enumerate() {
        let of = |name: &str| {
            let values = runs
                .get(name)?
                .iter()
                .filter_map(|run| run.as_ref().ok()?.get(at).copied());
            median(values.collect())
        };
        let ours = of("routelet");
        let others = devices
            .iter()
            .map(Device::name)
            .filter(|name| *name != "routelet");
        let best = others.filter_map(&of).min_by(f64::total_cmp);
        let _ = write!(
            text,
            "{:<5}{:<56}{:>5} ",
            figure.target, figure.what, figure.unit
        );
        for device in devices {
            let _ = write!(text, "{:>12}", of(device.name()).map_or("-".into(), number));
        }
        let ratio = match (ours, best) {
            (Some(ours), Some(best)) if best > 0.0 => format!("{:.2}", ours / best),
            _ => "-".into(),
        };
        let (must, verdict) = verdict(figure, ours, of("BIRD"));
        let _ = writeln!(text, "{ratio:>9}  {must:<14}{verdict}");
    }
    for (name, runs) in runs {
        for why in runs.iter().filter_map(|run| run.as_ref().err()) {
            let _ = writeln!(text, "     {} {name} failed: {why}", workload.name);
        }
    }
    text
}

/// The line above.
#[must_use]
pub fn heading(devices: &[Device]) -> String {
    let mut text = format!("{:<5}{:<56}{:>5} ", "", "median", "");
    for device in devices {
        let _ = write!(text, "{:>12}", device.name());
    }
    text + "  to best  must          verdict"
}

fn number(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{value:.0}"),
        value if value >= 100.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

fn verdict(figure: &Figure, ours: Option<f64>, bird: Option<f64>) -> (String, &'static str) {
    let (must, holds) = match figure.must {
        Must::TimesBird(times) => (
            format!("<= {times} BIRD"),
            ours.zip(bird).map(|(ours, bird)| ours <= times * bird),
        ),
        Must::AtMost(most) => (format!("<= {most}"), ours.map(|ours| ours <= most)),
        Must::AtLeast(least) => (format!(">= {least}"), ours.map(|ours| ours >= least)),
        Must::Tell => (String::new(), None),
    };
    let verdict = match holds {
        Some(true) => "holds",
        Some(false) => "MISSED",
        None => "",
    };
    (must, verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
