//! The stand-in for an API server on loopback: it can go away and come back, and objects are put into it past all rules.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use apiserver::Server;
use serde_json::Value;
use tokio::{net::TcpListener, runtime::Runtime};

use super::Place;

pub(crate) const NODES: &str = "/api/v1/nodes";

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub(crate) struct ApiServer {
    address: SocketAddr,
    server: Server,
    running: Option<Runtime>,
}

impl ApiServer {
    /// One that answers, and knows none of our kinds.
    pub(crate) fn start() -> Self {
        let mut server = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            server: Server::default(),
            running: None,
        };
        server.come_back();
        server
    }

    pub(crate) fn come_back(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        runtime.spawn(self.server.clone().serve(listener));
        self.running = Some(runtime);
    }

    /// Every connection breaks, and no new one is accepted.
    pub(crate) fn go_away(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    /// Puts an object there, status and all. The definition of a kind of ours comes with its first object.
    pub(crate) fn put(&self, path: &str, object: Value) {
        if let Some(plural) = path.strip_prefix("/apis/routelet.dev/v1alpha1/") {
            let all = include_str!("../../../deploy/crds.yaml");
            let all: Vec<Value> = serde_saphyr::from_multiple(all).unwrap();
            let is_meant = |definition: &&Value| definition["spec"]["names"]["plural"] == plural;
            let definition = all.iter().find(is_meant).unwrap().clone();
            self.server.put(DEFINITIONS, definition).unwrap();
        }
        self.server.put(path, object).unwrap();
    }

    /// An object as it is now.
    pub(crate) fn get(&self, path: &str, name: &str) -> Option<Value> {
        self.server.get(path, name)
    }

    /// From now on nobody may write it.
    pub(crate) fn forbid(&self, path: &str) {
        self.server.forbid(path);
    }

    /// Method and path of every write of what is below `path`.
    pub(crate) fn writes(&self, path: &str) -> Vec<String> {
        self.server.writes(path)
    }

    pub(crate) fn delete(&self, path: &str, name: &str) {
        self.server.delete(path, name).unwrap();
    }

    /// A kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self, place: &Place) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters: [{{name: here, cluster: {{server: \"http://{}\"}}}}]\n\
             contexts: [{{name: here, context: {{cluster: here, user: here}}}}]\nusers: [{{name: here, user: {{}}}}]\n",
            self.address
        );
        place.write("kubeconfig", &text)
    }
}
