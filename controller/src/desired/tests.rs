//! One folder a case under `tests/desired`: `objects.yaml` is what the user wrote, `expected.yaml` what each node named in
//! its first line (`# nodes: node1 node2`; further words are facts) should be.
//!
//! `UPDATE_EXPECTED=1 cargo test -p controller desired` writes the expectations anew; review the difference.

use std::{
    fs,
    path::{Path, PathBuf},
};

use discovery::Link;

use super::{Duty, Facts, Gateway, InForce, Subnet, desired, view::view};
use crate::cluster::{Cluster, files};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/desired");
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

/// The first line of a case: `# nodes: NAME…` and, as a rule of its own, `# facts: restarted draining drained deleted gateway=ADDRESS%INTERFACE
/// own=ADDRESS/LENGTH%INTERFACE topology=mesh leaving=NODE,NODE link=NAME,WORD…`; of a link `up`, `mute`, `ours=ADDRESS`, `router=ADDRESS` (several: the first
/// is the one that counts), `hosts=N`.
fn header(text: &str) -> (Vec<String>, Facts) {
    let words = |key: &str| {
        text.lines()
            .take(2)
            .find_map(|line| line.strip_prefix(key))
            .map(|rest| {
                rest.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .unwrap_or_default()
    };
    let mut facts = Facts::default();
    for fact in words("# facts:") {
        match fact.as_str() {
            "restarted" => facts.restarted = true,
            "draining" => facts.duty = Duty::Draining,
            "drained" => facts.duty = Duty::Drained,
            "deleted" => facts.deleted = true,
            other if other.starts_with("topology=") => facts.topology = Some(topology(other)),
            other if other.starts_with("leaving=") => facts.leaving = Some(topology(other)),
            other if other.starts_with("own=") => {
                let (address, interface) = other[4..].split_once('%').expect("a subnet%INTERFACE");
                facts.subnets.push(Subnet {
                    address: address.parse().unwrap(),
                    interface: interface.to_owned(),
                });
            }
            other if other.starts_with("link=") => {
                let links = facts.links.get_or_insert_default();
                let (name, link) = link(other, links.len());
                links.insert(name, link);
            }
            other => {
                let gateway = other.strip_prefix("gateway=").expect("a known fact");
                let (address, interface) = gateway.split_once('%').expect("ADDRESS%INTERFACE");
                facts.default_gateways.push(Gateway {
                    address: address.parse().unwrap(),
                    interface: interface.to_owned(),
                });
            }
        }
    }
    (words("# nodes:"), facts)
}

/// `link=NAME,WORD…`, the next one after so many.
fn link(fact: &str, before: usize) -> (String, Link) {
    let mut words = fact.split(',');
    let name = words.next().and_then(|word| word.strip_prefix("link="));
    let mut link = Link {
        index: u32::try_from(before).unwrap() + 2,
        ..Link::default()
    };
    for word in words {
        match word.split_once('=') {
            None if word == "up" => link.up = true,
            None if word == "mute" => link.mute = Some("we are mute".into()),
            Some(("ours", address)) => link.address = Some(address.parse().unwrap()),
            Some(("router", address)) => {
                let address = address.parse().unwrap();
                link.router.get_or_insert(address);
                link.routers.insert(address);
            }
            Some(("hosts", count)) => link.hosts = count.parse().unwrap(),
            other => panic!("{other:?} says nothing of a link"),
        }
    }
    (name.unwrap().to_owned(), link)
}

/// `…=mesh`, or the names of reflectors.
fn topology(fact: &str) -> InForce {
    match fact.split_once('=').expect("a topology").1 {
        "mesh" => InForce::Mesh,
        names => InForce::Reflectors(names.split(',').map(str::to_owned).collect()),
    }
}

fn shown(objects: &str) -> String {
    let mut cluster = Cluster::default();
    let mut unreadable = Vec::new();
    files::add_file(
        Path::new("objects.yaml"),
        objects,
        &mut cluster,
        &mut unreadable,
    );
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let (nodes, facts) = header(objects);
    assert!(!nodes.is_empty(), "the case names no node");
    let all: serde_json::Map<_, _> = nodes
        .into_iter()
        .map(|node| {
            let shown = view(&desired(&cluster, &node, &facts));
            (node, shown)
        })
        .collect();
    serde_saphyr::to_string(&all).unwrap()
}

#[test]
fn every_case_is_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let objects = fs::read_to_string(case.join("objects.yaml")).unwrap();
        let shown = shown(&objects);
        let expected = case.join("expected.yaml");
        if update {
            fs::write(&expected, &shown).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", case.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "not as expected (UPDATE_EXPECTED=1 rewrites):\n{}",
        wrong.join("\n")
    );
}
