//! The stand-in for the API server and the real one are held to the same list of requests and answers; and one cluster lives on the stand-in,
//! so that it works where it is needed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;
use tests::kubernetes::{ControlPlane, Make, Server, ours, programs, story_on};
use tests::segment::Segment;
use tests::story::CONVERGENCE;
use tests::wait::eventually;

/// What a controller does may take a while on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// One request and what is expected of its answer: `conformance.yaml` says what the fields mean.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "UPPERCASE")]
struct Step {
    #[serde(rename = "what")]
    what: String,
    get: Option<String>,
    post: Option<String>,
    put: Option<String>,
    patch: Option<String>,
    delete: Option<String>,
    watch: Option<String>,
    #[serde(rename = "as")]
    format: String,
    #[serde(rename = "body")]
    body: Value,
    #[serde(rename = "code")]
    code: Option<u16>,
    #[serde(rename = "has")]
    has: Value,
    #[serde(rename = "lacks")]
    lacks: Vec<String>,
    #[serde(rename = "events")]
    events: Vec<Told>,
    #[serde(rename = "bookmark")]
    bookmark: bool,
    #[serde(rename = "keep")]
    keep: BTreeMap<String, String>,
    #[serde(rename = "until")]
    until: bool,
}

/// What a watch tells.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    #[serde(rename = "type")]
    type_: String,
    name: String,
    #[serde(default)]
    has: Value,
}

/// What was kept of earlier answers, by name.
type Kept = BTreeMap<String, String>;

impl Step {
    fn method_and_path(&self) -> Result<(&'static str, &str)> {
        let all = [
            ("GET", &self.get),
            ("POST", &self.post),
            ("PUT", &self.put),
            ("PATCH", &self.patch),
            ("DELETE", &self.delete),
            ("GET", &self.watch),
        ];
        let mut given = all
            .into_iter()
            .filter_map(|(method, path)| Some((method, path.as_deref()?)));
        given.next().context("a step asks for something")
    }

    fn media_type(&self) -> &'static str {
        match self.format.as_str() {
            "merge" => "application/merge-patch+json",
            "json" => "application/json-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            "apply" => "application/apply-patch+yaml",
            _ => "application/json",
        }
    }

    /// Asks, and compares; the answer.
    fn hold(&self, control: &ControlPlane<'_>, kept: &Kept) -> Result<Value> {
        let (method, path) = self.method_and_path()?;
        let body = if self.body.is_null() {
            String::new()
        } else {
            self.body.to_string()
        };
        let path = filled(path, kept);
        let answer = control.ask_as(method, &path, self.media_type(), &filled(&body, kept))?;
        let code = self.code.unwrap_or(200);
        ensure!(answer.code == code, "{code} was expected: {answer:?}");
        if self.watch.is_some() {
            self.compare_events(&answer.body)?;
            return Ok(Value::Null);
        }
        let object = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
        let has: Value = serde_json::from_str(&filled(&self.has.to_string(), kept))?;
        includes(&object, &has).with_context(|| format!("{object:#}"))?;
        for pointer in &self.lacks {
            ensure!(
                object.pointer(pointer).is_none(),
                "it has {pointer}: {object:#}"
            );
        }
        Ok(object)
    }

    fn compare_events(&self, lines: &str) -> Result<()> {
        let events = lines.lines().map(serde_json::from_str);
        let events = events
            .collect::<Result<Vec<Value>, _>>()
            .context(lines.to_owned())?;
        let type_of = |event: &Value| event.get("type").and_then(Value::as_str).map(str::to_owned);
        let is_bookmark = |event: &Value| type_of(event).as_deref() == Some("BOOKMARK");
        let mut events: Vec<&Value> = events
            .iter()
            .filter(|event| self.bookmark || !is_bookmark(event))
            .collect();
        events.dedup_by(|one, other| is_bookmark(one) && is_bookmark(other));
        ensure!(events.len() == self.events.len(), "{lines}");
        for (event, expected) in events.iter().zip(&self.events) {
            let object = event.get("object").context("an object")?;
            let name = object.pointer("/metadata/name").and_then(Value::as_str);
            ensure!(
                type_of(event).as_deref() == Some(&expected.type_)
                    && name.unwrap_or_default() == expected.name,
                "{lines}"
            );
            includes(object, &expected.has).with_context(|| lines.to_owned())?;
        }
        Ok(())
    }
}

/// `${NAME}` as it was kept.
fn filled(text: &str, kept: &Kept) -> String {
    kept.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    })
}

/// Has `object` all of `wanted`? What is wanted empty is there, whatever it is; `[none]` is an empty list. Conditions stand in any order.
fn includes(object: &Value, wanted: &Value) -> Result<()> {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => {
            for (field, value) in wanted {
                let found = object
                    .get(field)
                    .with_context(|| format!("there is no {field}"))?;
                includes(found, value).with_context(|| field.clone())?;
            }
            Ok(())
        }
        (Value::Array(_), Value::Array(wanted)) if wanted.is_empty() => Ok(()),
        (Value::Array(items), Value::Array(wanted)) => {
            if wanted.as_slice() == ["none"] {
                ensure!(items.is_empty(), "{items:?}");
                return Ok(());
            }
            ensure!(items.len() == wanted.len(), "{} items", items.len());
            let by_type = |items: &[Value]| {
                let mut items = items.to_vec();
                items.sort_by_key(|item| item.get("type").map(Value::to_string));
                items
            };
            let (items, wanted) = (by_type(items), by_type(wanted));
            let mut both = items.iter().zip(&wanted);
            both.try_for_each(|(item, wanted)| includes(item, wanted))
        }
        (Value::String(found), Value::String(wanted)) if wanted.is_empty() => {
            ensure!(!found.is_empty(), "it is empty");
            Ok(())
        }
        (_, Value::Null) => Ok(()),
        (object, wanted) => {
            ensure!(object == wanted, "{object} is not {wanted}");
            Ok(())
        }
    }
}

/// The whole list on a server of that make.
fn conforms(make: Make) {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance.yaml");
    story_on(make, Segment::named("conformance"), |_, control| {
        let steps: Vec<Step> = serde_saphyr::from_str(&std::fs::read_to_string(list)?)?;
        control.install()?;
        let mut kept = Kept::new();
        let mut wrong = Vec::new();
        for step in &steps {
            let held = if step.until {
                eventually(SOON, &step.what, || step.hold(control, &kept))
            } else {
                step.hold(control, &kept)
            };
            match held {
                Ok(answer) => {
                    for (name, pointer) in &step.keep {
                        let value = answer.pointer(pointer).and_then(Value::as_str);
                        let value = value.with_context(|| format!("{}: {pointer}", step.what))?;
                        kept.insert(name.clone(), value.to_owned());
                    }
                }
                // What follows may hold all the same: the whole list tells more than its first mistake.
                Err(error) => wrong.push(format!("{}: {error:#}", step.what)),
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        println!("{} requests, each answered as it should be", steps.len());
        Ok(())
    });
}

#[test]
fn the_stand_in_conforms() {
    conforms(Make::Fake);
}

#[test]
fn the_real_one_conforms() {
    match programs::folder() {
        Ok(_) => conforms(Make::Real),
        Err(why) => println!("skipped: the stand-in is not compared: {why:#}"),
    }
}

#[test]
fn a_cluster_lives_on_the_stand_in() {
    story_on(
        Make::Fake,
        Segment::named("stand-in").nodes(2),
        |_, control| {
            let cluster = control.found(2)?;
            let pods = cluster.pod_each()?;
            let traffic = cluster.traffic(&pods)?;
            let ready = || {
                eventually(CONVERGENCE, "node1 is ready", || {
                    let ready = control.condition(&ours("bgpnodes", "node1"), "Ready")?;
                    ensure!(ready == "True", "Ready is {ready}");
                    Ok(())
                })
            };
            ready()?;
            control.end(Server::Api, Signal::SIGKILL)?;
            control.launch(Server::Api)?;
            control.ready()?;
            control.label("node1", "generation=second")?;
            eventually(CONVERGENCE, "what is new is heard by all", || {
                for member in &cluster.members {
                    let stored = member.container.path("/var/lib/routelet/cluster.yaml");
                    let stored = std::fs::read_to_string(stored)?;
                    ensure!(
                        stored.contains("second"),
                        "{} has not heard of it",
                        member.name
                    );
                }
                Ok(())
            })?;
            cluster.settled()?;
            ready()?;
            traffic.unharmed()
        },
    );
}
