//! Manifests that nobody meant: what the cases of `tests/desired` and `tests/mistakes.yaml` say, cut, joined and changed at random. Reading
//! them and computing what every node should be never does harm, and every complaint says where.
//!
//! `FUZZ_SECONDS=300 cargo test -p controller manifests_that_nobody_meant` goes on for longer; it prints its seed, `FUZZ_SEED` tells one again.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{Facts, desired, view::view};
use crate::cluster::{Cluster, files};

/// So many where nobody asks for more.
const CASES: usize = 1500;

/// What a value is replaced with.
const WORDS: &[&str] = &[
    "0",
    "-1",
    "1",
    "255",
    "256",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "-9223372036854775808",
    "1e400",
    ".nan",
    ".inf",
    "null",
    "~",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[{}]",
    "[null]",
    "{a: {b: [c]}}",
    "*anchor",
    "&anchor x",
    "!!binary aGVsbG8=",
    "|\n    text",
    "0.0.0.0/0",
    "::/0",
    "10.244.0.0/33",
    "255.255.255.255/32",
    "\"fd00::/129\"",
    "\"::ffff:10.0.0.1\"",
    "\"fe80::1%eth0\"",
    "node1",
    "Internal",
    "Mesh",
    "RouteReflector",
    "\"(((((((((((((((((((\"",
    "\"^(a|a)*(b|b)*$\"",
    "\"[\"",
    "\"65000:100\"",
    "\"1:2:3\"",
    "\"no-export\"",
    "\"\\u0000\"",
    "\"\\uFFFF\"",
    "é",
];

fn seeds() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut texts: Vec<String> = fs::read_dir(tests.join("desired"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path().join("objects.yaml")).unwrap())
        .collect();
    texts.sort();
    // One mistake a line: as a document each.
    let mistakes = fs::read_to_string(tests.join("mistakes.yaml")).unwrap();
    let group = "apiVersion: routelet.dev/v1alpha1, metadata: {name: default}, ";
    let documents = mistakes
        .lines()
        .filter_map(|line| line.strip_prefix("- {"))
        .map(|line| format!("{{{group}{line}\n---\n"));
    texts.push(documents.collect());
    texts
}

/// A text made of some of `texts`, and changed.
fn mutated(rng: &mut Rng, texts: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..rng.usize(1..3) {
        let text = &texts[rng.usize(0..texts.len())];
        if !lines.is_empty() {
            lines.push("---".into());
        }
        lines.extend(text.lines().map(str::to_owned));
    }
    for _ in 0..rng.usize(1..8) {
        change(rng, &mut lines);
    }
    lines.join("\n")
}

fn change(rng: &mut Rng, lines: &mut Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let at = rng.usize(0..lines.len());
    match rng.u8(0..8) {
        0 => drop(lines.remove(at)),
        1 => {
            let again = lines[rng.usize(0..lines.len())].clone();
            lines.insert(at, again);
        }
        2 => {
            let other = rng.usize(0..lines.len());
            lines.swap(at, other);
        }
        3 => {
            let depth = " ".repeat(rng.usize(0..5));
            lines[at] = format!("{depth}{}", lines[at].trim_start());
        }
        // A value, or an entry of a list, is another.
        4..7 => {
            let word = WORDS[rng.usize(0..WORDS.len())];
            let line = &lines[at];
            let marks: Vec<usize> = line
                .match_indices([':', ',', '[', '{'])
                .map(|(mark, _)| mark + 1)
                .collect();
            if let Some(from) = (!marks.is_empty()).then(|| marks[rng.usize(0..marks.len())]) {
                let rest = &line[from..];
                let until = rest.find([',', ']', '}']).unwrap_or(rest.len());
                lines[at] = format!("{} {word}{}", &line[..from], &rest[until..]);
            }
        }
        _ => {
            let line = &mut lines[at];
            let places: Vec<usize> = line.char_indices().map(|(place, _)| place).collect();
            if !places.is_empty() {
                let place = places[rng.usize(0..places.len())];
                line.remove(place);
                let letters = ['{', '}', '[', ']', ':', '"', '\'', '-', '\t', '#', '&', '9'];
                line.insert(place, letters[rng.usize(0..letters.len())]);
            }
        }
    }
}

fn is_harmless(text: &str) {
    let (mut cluster, mut unreadable) = (Cluster::default(), Vec::new());
    let file = Path::new("objects.yaml");
    files::add_file(file, text, &mut cluster, &mut unreadable);
    for one in &unreadable {
        assert!(one.fault.at.line > 0, "it does not say where: {one}");
        assert!(!one.fault.message.is_empty(), "it does not say what: {one}");
    }
    for node in ["node1", "n1", "nobody"] {
        let wanted = desired(&cluster, node, &Facts::default());
        for problem in &wanted.problems {
            assert!(!problem.text.is_empty() && !problem.about.is_empty());
        }
        drop(view(&wanted));
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it goes on is the caller's to say"
)]
fn manifests_that_nobody_meant_do_no_harm() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let time = number("FUZZ_SECONDS").map(Duration::from_secs);
    let only = number("FUZZ_SEED");
    let (texts, start) = (seeds(), Instant::now());
    let first = only.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("from FUZZ_SEED={first}");
    let mut count = 0;
    for seed in first.. {
        let enough = match (only, time) {
            (Some(_), _) => count == 1,
            (None, Some(time)) => start.elapsed() > time,
            (None, None) => count == CASES,
        };
        if enough {
            break;
        }
        count += 1;
        let text = mutated(&mut Rng::with_seed(seed), &texts);
        let harm = std::panic::catch_unwind(|| is_harmless(&text));
        assert!(harm.is_ok(), "FUZZ_SEED={seed}:\n{text}");
    }
    println!("{count} manifests");
}
