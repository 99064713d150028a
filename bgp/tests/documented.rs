//! What `docs/rfc.md` and `SECURITY.md` point at is there: every file in backticks, every test named as `file::test`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where a name in a document may begin.
const PLACES: [&str; 6] = [
    "",
    "bgp/tests",
    "bgp/src",
    "tests/tests",
    "bgp/tests/codec",
    "controller/src",
];

/// The words in backticks that name something: a file, or a test of one.
fn named(document: &str) -> impl Iterator<Item = &str> {
    document.split('`').skip(1).step_by(2).filter(|word| {
        let plain =
            |character: char| character.is_ascii_alphanumeric() || "_-./:".contains(character);
        word.chars().all(plain) && (word.contains("::") || word.ends_with(".rs"))
    })
}

/// What a test's `file` may be: `pair/errors` is `pair/errors.rs`, `rib/decision` is `rib/decision/tests.rs` too.
fn candidates(top: &Path, file: &str) -> Vec<PathBuf> {
    let spellings = [
        file.to_owned(),
        format!("{file}.rs"),
        format!("{file}/tests.rs"),
        format!("{file}/main.rs"),
    ];
    PLACES
        .iter()
        .flat_map(|place| spellings.iter().map(move |file| top.join(place).join(file)))
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn everything_that_the_documents_point_at_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut absent = Vec::new();
    let mut tests = 0;
    for document in ["docs/rfc.md", "SECURITY.md"] {
        for word in named(&fs::read_to_string(top.join(document)).unwrap()) {
            let (file, test) = match word.rsplit_once("::") {
                Some((file, test)) => (file, Some(format!("fn {test}("))),
                None => (word, None),
            };
            tests += usize::from(test.is_some());
            let there = candidates(top, file).iter().any(|path| match &test {
                Some(test) => fs::read_to_string(path).unwrap().contains(test),
                None => true,
            });
            if !there {
                absent.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(tests > 150, "only {tests} tests are named");
    assert!(absent.is_empty(), "not there:\n{}", absent.join("\n"));
}
