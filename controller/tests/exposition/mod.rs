//! Reads Prometheus' text format, version 0.0.4, and holds it to its rules.

use std::collections::{BTreeMap, BTreeSet};

/// What one scrape said.
pub(crate) struct Exposition {
    /// Kinds (`gauge`, `counter`) by name.
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Exposition {
    /// Panics where a rule is broken.
    pub(crate) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line is not ended");
        let mut helps = BTreeSet::new();
        let mut read = Self {
            kinds: BTreeMap::new(),
            samples: Vec::new(),
        };
        // The metric whose lines these are: they stand together.
        let mut current = String::new();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(helps.insert(name.to_owned()), "a second HELP: {line}");
                assert!(
                    help.ends_with('.') || help.ends_with("always 1"),
                    "no sentence: {line}"
                );
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(is_name(name), "{line}");
                assert!(helps.contains(name), "no HELP before {line}");
                assert!(["gauge", "counter"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let known = read.kinds.insert(name.to_owned(), kind.to_owned());
                assert!(known.is_none(), "a second TYPE: {line}");
                current = name.to_owned();
            } else {
                let sample = Sample::read(line);
                assert_eq!(sample.name, current, "not among its own: {line}");
                let series = (sample.name.clone(), sample.labels.clone());
                assert!(seen.insert(series), "a second time: {line}");
                let counts = read.kinds[&current] == "counter";
                assert!(!counts || sample.value >= 0.0, "{line}");
                read.samples.push(sample);
            }
        }
        read
    }

    /// Names of all metrics, those without a series among them.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.kinds.keys().cloned().collect()
    }

    /// How many series a metric has.
    pub(crate) fn series(&self, name: &str) -> usize {
        self.of(name, "").count()
    }

    /// Every series, without its value; labels that say who and what this node is left out.
    pub(crate) fn labelled(&self) -> Vec<(String, BTreeMap<String, String>)> {
        let all = self.samples.iter();
        all.filter(|sample| {
            ![
                "routelet_node_info",
                "routelet_initial_sync_duration_seconds",
            ]
            .contains(&sample.name.as_str())
        })
        .map(|sample| (sample.name.clone(), sample.labels.clone()))
        .collect()
    }

    /// The one series with these labels, written `a="b",c="d"`.
    pub(crate) fn value(&self, name: &str, labels: &str) -> f64 {
        let values: Vec<f64> = self.of(name, labels).collect();
        assert_eq!(values.len(), 1, "{name}{{{labels}}}: {values:?}");
        values[0]
    }

    /// The sum over all series with these labels.
    pub(crate) fn sum(&self, name: &str, labels: &str) -> f64 {
        self.of(name, labels).sum()
    }

    fn of(&self, name: &str, labels: &str) -> impl Iterator<Item = f64> {
        assert!(self.kinds.contains_key(name), "there is no metric {name}");
        let wanted = read_labels(labels);
        let of_name = self
            .samples
            .iter()
            .filter(move |sample| sample.name == name);
        of_name
            .filter(move |sample| {
                wanted
                    .iter()
                    .all(|(key, value)| sample.labels.get(key) == Some(value))
            })
            .map(|sample| sample.value)
    }
}

impl Sample {
    fn read(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => {
                let labels = rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
                (name, read_labels(labels))
            }
            None => (series, BTreeMap::new()),
        };
        assert!(is_name(name), "{line}");
        let value: f64 = value
            .parse()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(value.is_finite(), "{line}");
        Self {
            name: name.to_owned(),
            labels,
            value,
        }
    }
}

/// `a="b",c="d"`, with `\\`, `\"` and `\n` in the values.
fn read_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(is_name(key), "{text}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                    other => panic!("{text}: {other:?} after a backslash"),
                },
                Some((_, character)) => value.push(character),
                None => panic!("{text}: the value of {key} is not ended"),
            }
        };
        let known = labels.insert(key.to_owned(), value);
        assert!(known.is_none(), "{text}: {key} twice");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
