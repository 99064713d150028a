//! The requests: our Node, our `BGPNode`, events.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self, ObjectReference};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    event::{Object, Occurrence},
    failure::Failure,
    network::Verdict,
    node,
    sight::{Sight, short},
};
use crate::{
    crd::{
        self,
        status::{BGPNodeStatus, BGPPeerStatus},
    },
    kubernetes::{client::Connection, outage::Note, watch::resource},
};

/// As whom we write.
const MANAGER: &str = "routelet";
/// Longest name that an event takes for whom it comes from.
const INSTANCE: usize = 100;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// The objects that this daemon writes.
pub(super) struct Objects {
    name: String,
    nodes: Api<v1::Node>,
    ours: Api<DynamicObject>,
    client: Client,
    recorder: Recorder,
    note: Note,
}

/// Our `BGPNode` as the API server has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OurNode {
    generation: Option<i64>,
    pub(super) status: BGPNodeStatus,
}

impl OurNode {
    /// What its status should be now.
    pub(super) fn next(&self, sight: &Sight, now: Timestamp) -> BGPNodeStatus {
        node::status(sight, &self.status, self.generation, now)
    }

    fn of(object: DynamicObject) -> Self {
        let status = object.data.get("status").cloned();
        Self {
            generation: object.metadata.generation,
            // One that is not to be understood is as good as none.
            status: status
                .and_then(|status| serde_json::from_value(status).ok())
                .unwrap_or_default(),
        }
    }
}

impl Objects {
    pub(super) fn new(connection: &Connection, name: &str) -> Self {
        let client = &connection.client;
        Self {
            name: name.to_owned(),
            nodes: Api::all(client.clone()),
            ours: Api::all_with(client.clone(), &resource("BGPNode")),
            client: client.clone(),
            recorder: Recorder::new(
                client.clone(),
                Reporter {
                    controller: MANAGER.into(),
                    instance: Some(short(name, INSTANCE)),
                },
            ),
            note: connection.note.clone(),
        }
    }

    /// Has our Node say it.
    pub(super) async fn say(&self, verdict: Verdict, now: Timestamp) -> Result<(), Failure> {
        let status = self.answer(self.nodes.get(&self.name)).await?.status;
        let conditions = status.and_then(|status| status.conditions);
        let conditions = conditions.unwrap_or_default();
        if verdict.is_said(&conditions) {
            return Ok(());
        }
        let patch = Patch::Strategic(verdict.patch(&conditions, now));
        let by_us = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        self.answer(self.nodes.patch_status(&self.name, &by_us, &patch))
            .await
            .map(drop)
    }

    /// Our `BGPNode`, made where it is absent: it goes with its Node.
    pub(super) async fn our_node(&self) -> Result<OurNode, Failure> {
        match self.answer(self.ours.get(&self.name)).await {
            Ok(object) => return Ok(OurNode::of(object)),
            Err(Failure::Absent) => {}
            Err(failure) => return Err(failure),
        }
        let node = self.answer(self.nodes.get(&self.name)).await?;
        let uid = node.metadata.uid.unwrap_or_default();
        let made = json!({
            "metadata": {
                "name": self.name,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": uid}],
            },
            "spec": {},
        });
        let object = object("BGPNode", made)?;
        let by_us = PostParams {
            field_manager: Some(MANAGER.into()),
            ..PostParams::default()
        };
        self.answer(self.ours.create(&by_us, &object))
            .await
            .map(OurNode::of)
    }

    /// Writes the status of our `BGPNode`; gives it as it stands there now.
    pub(super) async fn write_status(&self, status: &BGPNodeStatus) -> Result<OurNode, Failure> {
        let object = object(
            "BGPNode",
            json!({"metadata": {"name": self.name}, "status": status}),
        )?;
        let by_us = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&object);
        let written = self
            .answer(self.ours.patch_status(&self.name, &by_us, &patch))
            .await?;
        Ok(OurNode {
            generation: written.metadata.generation,
            status: status.clone(),
        })
    }

    /// Writes the status of a `BGPPeer`.
    pub(super) async fn write_peer(
        &self,
        name: &str,
        status: &BGPPeerStatus,
    ) -> Result<(), Failure> {
        let object = object(
            "BGPPeer",
            json!({"metadata": {"name": name}, "status": status}),
        )?;
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("BGPPeer"));
        let by_us = PatchParams::apply(MANAGER).force();
        self.answer(api.patch_status(name, &by_us, &Patch::Apply(&object)))
            .await
            .map(drop)
    }

    /// Tells an event.
    pub(super) async fn tell(&self, occurrence: &Occurrence) -> Result<(), Failure> {
        let regarding = self.reference(&occurrence.regarding).await?;
        let related = occurrence.related.as_ref();
        let event = Event {
            type_: if occurrence.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: occurrence.reason.into(),
            note: Some(occurrence.note.clone()),
            action: occurrence.action.into(),
            secondary: related.map(|(object, part)| ObjectReference {
                field_path: part.clone(),
                ..bare(object)
            }),
        };
        self.answer(self.recorder.publish(&event, &regarding)).await
    }

    /// With its uid, without which `kubectl describe` does not find its events.
    async fn reference(&self, object: &Object) -> Result<ObjectReference, Failure> {
        let metadata = if object.kind == "Node" {
            let found = self.answer(self.nodes.get_metadata(&object.name)).await;
            found.map(|found| found.metadata)
        } else {
            let kind = resource(&object.kind);
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
            let found = self.answer(api.get_metadata(&object.name)).await;
            found.map(|found| found.metadata)
        };
        match metadata {
            Ok(metadata) => Ok(ObjectReference {
                uid: metadata.uid,
                ..bare(object)
            }),
            // It is gone, or its kind is not known: the event says what it was.
            Err(Failure::Absent) => Ok(bare(object)),
            Err(failure) => Err(failure),
        }
    }

    /// What the API server answers, if it does so in time.
    async fn answer<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        match timeout(ANSWER, request).await {
            Ok(outcome) => outcome.map_err(|error| Failure::of(&error)),
            Err(_) => {
                let why = format!("no answer within {} s", ANSWER.as_secs());
                self.note.away(&why);
                Err(Failure::Away(why))
            }
        }
    }
}

fn object(kind: &str, mut object: Value) -> Result<DynamicObject, Failure> {
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), crd::API_VERSION.into());
        object.insert("kind".into(), kind.into());
    }
    serde_json::from_value(object).map_err(|error| Failure::Away(error.to_string()))
}

fn bare(object: &Object) -> ObjectReference {
    let version = if object.kind == "Node" {
        "v1"
    } else {
        crd::API_VERSION
    };
    ObjectReference {
        api_version: Some(version.into()),
        kind: Some(object.kind.clone()),
        name: Some(object.name.clone()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
