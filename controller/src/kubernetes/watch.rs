//! One subject followed at the API server: list, watch, resume, list again when the server has forgotten where we were.

use std::pin::pin;

use futures_util::StreamExt;
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use kube::{
    Api,
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    client::Connection,
    object::{OurObject, Watched, WatchedNode},
    reports::Report,
};
use crate::{
    cluster::api::{Event, Subject},
    crd,
};

/// Objects a page of a list: what is in memory at once while it is read.
const PAGE: u32 = 250;

/// What a watch tells.
#[derive(Debug)]
pub(crate) struct Told {
    /// Of whom.
    pub(crate) subject: Subject,
    /// What, or why it cannot.
    pub(crate) what: Result<Event, Failure>,
    /// What the status of the object reports.
    pub(crate) report: Option<Report>,
}

/// Why a subject cannot be followed just now; it is tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The API server does not know the kind.
    Unknown,
    /// We may not.
    Forbidden(String),
    /// It does not take us for whom we are.
    Unauthenticated,
    /// Anything that passes.
    Passing(String),
}

/// Starts to follow `subject`.
pub(crate) fn start(
    connection: &Connection,
    subject: Subject,
    sender: mpsc::Sender<Told>,
) -> AbortHandle {
    let client = connection.client.clone();
    let all = watcher::Config::default().page_size(PAGE);
    let task = match &subject {
        Subject::Nodes => {
            let api: Api<WatchedNode> = Api::all(client);
            tokio::spawn(follow(api, all, |node| node, subject, sender))
        }
        Subject::Ours(kind) => {
            let kind = *kind;
            let api: Api<OurObject> = Api::all_with(client, &resource(kind));
            let named = move |object: OurObject| object.of_kind(kind);
            tokio::spawn(follow(api, all, named, subject, sender))
        }
        Subject::Services => {
            let api: Api<v1::Service> = Api::all(client);
            tokio::spawn(follow(api, all, |service| service, subject, sender))
        }
        Subject::EndpointSlices => {
            let api: Api<EndpointSlice> = Api::all(client);
            tokio::spawn(follow(api, all, |slice| slice, subject, sender))
        }
        Subject::Secret(name) => {
            let api: Api<v1::Secret> = Api::namespaced(client, &connection.namespace);
            let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
            tokio::spawn(follow(api, one, |secret| secret, subject, sender))
        }
    };
    task.abort_handle()
}

/// Our kinds: the plural is the lower-case kind with an s, but for policies.
pub(super) fn resource(kind: &str) -> ApiResource {
    let (group, version) = crd::API_VERSION.split_once('/').unwrap_or_default();
    let lower = kind.to_lowercase();
    let plural = match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{lower}s"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}

async fn follow<K: Watched>(
    api: Api<K>,
    config: watcher::Config,
    complete: impl Fn(K) -> K,
    subject: Subject,
    sender: mpsc::Sender<Told>,
) where
    K::DynamicType: Clone,
{
    let mut events = pin!(watcher(api, config).default_backoff());
    // Errors are told like the rest; the stream goes on after them, a while later.
    while let Some(event) = events.next().await {
        let mut report = None;
        let what = match event {
            Ok(watcher::Event::Init) => Ok(Event::Listing),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                let mut object = complete(object);
                report = object.report();
                Ok(Event::Applied(object.key(), object.item()))
            }
            Ok(watcher::Event::Delete(object)) => Ok(Event::Deleted(object.key())),
            Ok(watcher::Event::InitDone) => Ok(Event::Listed),
            Err(error) => Err(Failure::of(&error)),
        };
        let told = Told {
            subject: subject.clone(),
            what,
            report,
        };
        if sender.send(told).await.is_err() {
            return;
        }
    }
}

impl Failure {
    fn of(error: &watcher::Error) -> Self {
        use watcher::Error;
        let status = match error {
            Error::InitialListFailed(kube::Error::Api(status))
            | Error::WatchStartFailed(kube::Error::Api(status))
            | Error::WatchFailed(kube::Error::Api(status))
            | Error::WatchError(status) => Some(status),
            _ => None,
        };
        match status.map(|status| (status.code, status)) {
            Some((404, _)) => Self::Unknown,
            Some((401, _)) => Self::Unauthenticated,
            Some((403, status)) => Self::Forbidden(refusal(&status.message).to_owned()),
            Some((_, status)) => Self::Passing(status.message.clone()),
            None => Self::Passing(error.to_string()),
        }
    }
}

/// Who may not do what, without the roles that were asked in vain: their order changes from one answer to the next.
fn refusal(message: &str) -> &str {
    message
        .split_once(": RBAC: ")
        .map_or(message, |(refusal, _)| refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_the_same_each_time() {
        let who = "nodes is forbidden: User \"x\" cannot list resource \"nodes\" in API group \"\" at the cluster scope";
        let roles = |first: &str, second: &str| {
            format!(
                "{who}: RBAC: [clusterrole.rbac.authorization.k8s.io \"{first}\" not found, clusterrole.rbac.authorization.k8s.io \"{second}\" not found]"
            )
        };
        assert_eq!(refusal(&roles("a", "b")), refusal(&roles("b", "a")));
        assert_eq!(refusal(who), who);
    }

    #[test]
    fn our_kinds_are_found_under_the_plurals_of_their_definitions() {
        for definition in crd::definition::all().unwrap() {
            let names = &definition["spec"]["names"];
            let kind = names["kind"].as_str().unwrap();
            assert_eq!(resource(kind).plural, names["plural"].as_str().unwrap());
            assert_eq!(resource(kind).api_version, crd::API_VERSION);
        }
    }
}
