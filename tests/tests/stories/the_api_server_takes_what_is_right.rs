//! What the API server makes of our objects: every example is stored, every mistake is refused, and the refusal says what is wrong.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::kubernetes::object::{Written, in_files, in_page};
use tests::kubernetes::{ControlPlane, Needs, real_story};
use tests::segment::Segment;

/// An object that nobody may store. The same list is read by the tests of `routelet check`.
#[derive(Debug, Deserialize)]
struct Mistake {
    kind: String,
    #[serde(default = "default")]
    name: String,
    spec: Value,
    /// What the answer has to name.
    field: String,
    /// What it has to say.
    says: String,
}

fn default() -> String {
    "default".into()
}

impl Mistake {
    fn object(&self) -> Value {
        json!({
            "apiVersion": "routelet.dev/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": self.name},
            "spec": self.spec,
        })
    }

    /// What is wrong with the answer, if anything.
    fn judge(&self, control: &ControlPlane<'_>) -> Result<Option<String>> {
        let answer = control.try_out(&self.object())?;
        let answer = answer.with_context(|| format!("{} is not known", self.kind))?;
        let status: Value = serde_json::from_str(&answer.body)?;
        let message = status.get("message").and_then(Value::as_str);
        let message = message.unwrap_or("it is stored");
        let helps = [422, 400].contains(&answer.code)
            && message.contains(&self.field)
            && message.contains(&self.says);
        Ok((!helps).then(|| format!("{} {}: {message}", self.kind, self.spec)))
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_mistake_is_refused_with_words_that_help() {
    let list = project().join("controller/tests/mistakes.yaml");
    real_story(Needs::Rules, Segment::named("mistakes"), |_, control| {
        let mistakes: Vec<Mistake> = serde_saphyr::from_str(&std::fs::read_to_string(list)?)?;
        control.install()?;
        let mut wrong = Vec::new();
        for mistake in &mistakes {
            wrong.extend(mistake.judge(control)?);
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        println!("{} mistakes, each refused", mistakes.len());
        Ok(())
    });
}

/// What is meant to be applied as it stands.
fn examples() -> Result<Vec<Written>> {
    let mut all = in_page(&project().join("README.md"))?;
    all.extend(in_files(&project().join("deploy"))?);
    all.extend(in_files(&project().join("topologies"))?);
    Ok(all)
}

/// Our objects of the cases that `routelet check` calls valid. What surrounds them is trimmed to what is read.
fn cases() -> Result<Vec<Written>> {
    let all = in_files(&project().join("controller/tests/desired"))?;
    let ours = |written: &Written| {
        let version = written.object.get("apiVersion").and_then(Value::as_str);
        version.is_some_and(|version| version.starts_with("routelet.dev/"))
            && !written.file.to_string_lossy().contains("break-rules")
    };
    Ok(all.into_iter().filter(ours).collect())
}

#[test]
fn every_example_is_stored() {
    real_story(Needs::Rules, Segment::named("examples"), |_, control| {
        control.install()?;
        let all: Vec<Written> = examples()?.into_iter().chain(cases()?).collect();
        for Written { object, .. } in &all {
            if let Some(name) = object.pointer("/metadata/namespace") {
                control.make_namespace(name.as_str().context("a name")?)?;
            }
        }
        let (mut stored, mut wrong) = (0, Vec::new());
        for Written { file, object } in &all {
            let what = format!(
                "{}: {}",
                file.display(),
                object.get("kind").unwrap_or(object)
            );
            match control.try_out(object)? {
                // What is installed already is known to be accepted.
                Some(answer) if [201, 409].contains(&answer.code) => stored += 1,
                Some(answer) => wrong.push(format!("{what}: {}", answer.body)),
                None => println!("not a kind of this API server: {what}"),
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        println!("{stored} of {} objects would be stored", all.len());
        ensure!(stored > 100, "only {stored} objects were found");
        Ok(())
    });
}
