//! One request and its answer, without any socket.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    field::{set, text},
    kind::{Kind, Status},
    query::Query,
    read::{self, Watch},
    refusal::Refusal,
    store::{Key, Store},
    target::Target,
    write::{self, Part},
};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Query,
    /// Of the body.
    pub(crate) media_type: &'a str,
    /// Of the answer.
    pub(crate) accept: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) now: Timestamp,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Object(u16, Value),
    Text(&'static str),
    Watch(Watch),
}

impl Request<'_> {
    /// As objects say it.
    pub(crate) fn time(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// JSON is YAML; where YAML is allowed, both are.
    fn object(&self) -> Result<Value, Refusal> {
        let text = std::str::from_utf8(self.body).unwrap_or_default();
        let read = if self.media_type.contains("yaml") {
            serde_saphyr::from_str(text).map_err(|error| error.to_string())
        } else {
            serde_json::from_str(text).map_err(|error| error.to_string())
        };
        read.map_err(|error| {
            Refusal::bad_request(format!("the body is not to be understood: {error}"))
        })
    }
}

/// Does what is asked.
pub(crate) fn answer(store: &mut Store, request: &Request<'_>) -> Answer {
    let done = done(store, request);
    done.unwrap_or_else(|refusal| Answer::Object(refusal.code, refusal.status()))
}

fn done(store: &mut Store, request: &Request<'_>) -> Result<Answer, Refusal> {
    match request.path {
        "/readyz" | "/livez" | "/healthz" => return Ok(Answer::Text("ok")),
        "/version" => {
            let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3-stand-in"});
            return Ok(Answer::Object(200, version));
        }
        _ => {}
    }
    let target = Target::of(request.path).ok_or_else(Refusal::no_such_resource)?;
    if target.plural.is_empty() {
        return Ok(Answer::Object(200, read::discovery(store, &target)?));
    }
    let kind = store.kind(&target)?;
    if target.name.is_empty() {
        return collection(store, kind, &target, request);
    }
    let key = Key {
        resource: kind.resource(),
        namespace: target.namespace.into(),
        name: target.name.into(),
    };
    let part = match target.part {
        "" => Part::Whole,
        "status" if kind.status != Status::Absent => Part::Status,
        "token" if kind.kind == "ServiceAccount" => return token(store, &kind, &key, request),
        _ => return Err(Refusal::no_such_resource()),
    };
    let answer = match request.method {
        "GET" => (200, shown(&write::known(store, &kind, &key)?, request)),
        "PUT" => (
            200,
            write::update(store, &kind, key, request, request.object()?, part)?,
        ),
        "PATCH" => {
            let (object, made) =
                write::patch(store, &kind, key, request, &request.object()?, part)?;
            (if made { 201 } else { 200 }, object)
        }
        "DELETE" if part == Part::Whole => {
            let options = if request.body.is_empty() {
                Value::Null
            } else {
                request.object()?
            };
            (200, write::delete(store, &kind, key, request, &options)?)
        }
        _ => return Err(Refusal::method_not_allowed()),
    };
    Ok(Answer::Object(answer.0, answer.1))
}

fn collection(
    store: &mut Store,
    kind: Kind,
    target: &Target<'_>,
    request: &Request<'_>,
) -> Result<Answer, Refusal> {
    match request.method {
        "GET" if request.query.watch => {
            let watch = Watch::new(kind, target.namespace, request.query.clone());
            Ok(Answer::Watch(watch))
        }
        "GET" => {
            let list = read::list(store, &kind, target.namespace, &request.query)?;
            Ok(Answer::Object(200, list))
        }
        "POST" => {
            let object = request.object()?;
            let object = write::create(store, &kind, target.namespace, request, object)?;
            Ok(Answer::Object(201, object))
        }
        _ => Err(Refusal::method_not_allowed()),
    }
}

fn shown(object: &Value, request: &Request<'_>) -> Value {
    if request.accept.contains("as=PartialObjectMetadata") {
        read::only_metadata(object)
    } else {
        object.clone()
    }
}

/// A token that opens nothing: nobody is asked for one here.
fn token(store: &Store, kind: &Kind, key: &Key, request: &Request<'_>) -> Result<Answer, Refusal> {
    let account = write::known(store, kind, key)?;
    let mut asked = request.object()?;
    let pod = text(&asked, "/spec/boundObjectRef/name").to_owned();
    if !pod.is_empty() {
        let at = Key {
            resource: "pods".into(),
            namespace: key.namespace.clone(),
            name: pod.clone(),
        };
        let found = store
            .get(&at)
            .ok_or_else(|| Refusal::not_found("pods", &pod))?;
        let uid = text(&asked, "/spec/boundObjectRef/uid");
        if !uid.is_empty() && text(found, "/metadata/uid") != uid {
            let why = "the UID in the bound object reference does not match the UID in record";
            return Err(Refusal::conflict(&kind.resource(), &key.name, why));
        }
    }
    let uid = text(&account, "/metadata/uid");
    let token = format!("stand-in.{}.{}.{pod}", key.name, uid);
    set(&mut asked, "/metadata/name", key.name.as_str());
    set(&mut asked, "/metadata/namespace", key.namespace.as_str());
    let status = json!({"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"});
    set(&mut asked, "/status", status);
    Ok(Answer::Object(201, asked))
}
