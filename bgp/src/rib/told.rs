//! What a stream of output has told: a source for each prefix, or where there is one listener just a bit.

use hashbrown::HashMap;

use super::{bits::BitSet, route::Source, table::Number};

/// What was told.
#[derive(Debug)]
pub(super) enum Told {
    /// To several: the source of the route told for each prefix. That source itself was told nothing.
    From {
        sources: Vec<Source>,
        count: usize,
        by_source: HashMap<Source, usize>,
    },
    /// To one.
    To { member: Source, prefixes: BitSet },
}

impl Told {
    /// Notes that the route of `new` is told (or none); gives what was told before.
    pub(super) fn tell(&mut self, number: Number, new: Source) -> Source {
        match self {
            Self::From {
                sources,
                count,
                by_source,
            } => {
                let place = number as usize;
                if place >= sources.len() {
                    if new == Source::NONE {
                        return Source::NONE;
                    }
                    sources.resize(place + 1, Source::NONE);
                }
                let old = sources
                    .get_mut(place)
                    .map_or(Source::NONE, |told| std::mem::replace(told, new));
                if old == new {
                    return old;
                }
                if old != Source::NONE {
                    *count = count.saturating_sub(1);
                    if let Some(of_old) = by_source.get_mut(&old) {
                        *of_old = of_old.saturating_sub(1);
                    }
                }
                if new != Source::NONE {
                    *count += 1;
                    *by_source.entry(new).or_default() += 1;
                }
                old
            }
            Self::To { member, prefixes } => {
                let was = if new == Source::NONE || new == *member {
                    prefixes.remove(number)
                } else {
                    !prefixes.insert(number)
                };
                if was { Source::UNKNOWN } else { Source::NONE }
            }
        }
    }

    pub(super) fn get(&self, number: Number) -> Source {
        match self {
            Self::From { sources, .. } => sources
                .get(number as usize)
                .copied()
                .unwrap_or(Source::NONE),
            Self::To { prefixes, .. } if prefixes.contains(number) => Source::UNKNOWN,
            Self::To { .. } => Source::NONE,
        }
    }

    /// Every prefix of which something was told.
    pub(super) fn numbers(&self) -> Vec<Number> {
        match self {
            Self::From { sources, .. } => (0..)
                .zip(sources)
                .filter(|(_, source)| **source != Source::NONE)
                .map(|(number, _)| number)
                .collect(),
            Self::To { prefixes, .. } => prefixes.iter().collect(),
        }
    }
}
