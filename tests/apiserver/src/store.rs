//! What the server knows: its kinds, its objects, and what changed of late.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{field::set, kind::Kind, refusal::Refusal, target::Target};

/// Changes that are remembered for watches.
const REMEMBERED: usize = 10_000;
/// A cluster has a history before anybody looks at it: no watch can begin at its first version.
const BEGINNING: u64 = 100;

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    /// `bgpnodes.routelet.dev`.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// Of an object in the collection at `path`.
    pub(crate) fn below(store: &Store, path: &str, name: &str) -> Result<Self, Refusal> {
        let target = Target::of(path).ok_or_else(Refusal::no_such_resource)?;
        Ok(Self {
            resource: store.kind(&target)?.resource(),
            namespace: target.namespace.into(),
            name: name.into(),
        })
    }
}

/// One step: an object that came, changed or went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) key: Key,
    #[serde(skip)]
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// The whole state. Nothing in it waits or reads a clock.
#[derive(Debug)]
pub(crate) struct Store {
    kinds: Vec<Kind>,
    objects: BTreeMap<Key, Value>,
    version: u64,
    history: VecDeque<Change>,
    /// The last version whose changes are not remembered.
    forgotten: u64,
}

impl Default for Store {
    fn default() -> Self {
        let mut store = Self {
            kinds: Kind::known(),
            objects: BTreeMap::new(),
            version: BEGINNING,
            history: VecDeque::new(),
            forgotten: BEGINNING,
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let key = Key {
                resource: "namespaces".into(),
                namespace: String::new(),
                name: name.into(),
            };
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": format!("namespace-{name}")},
                "status": {"phase": "Active"},
            });
            store.commit(key, Some(object));
        }
        store.forget();
        store
    }
}

impl Store {
    /// The store as these changes left it. What was before them is not remembered, as by a server that has just started.
    pub(crate) fn restored(changes: Vec<Change>) -> Self {
        let mut store = Self::default();
        for change in changes {
            store.version = change.version - 1;
            store.commit(change.key, change.after);
        }
        store.forget();
        store
    }

    /// The version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Forgets what was: who asks for an earlier version is told that it is gone.
    pub(crate) fn forget(&mut self) {
        self.history.clear();
        self.forgotten = self.version;
    }

    /// The changes after `version`, if all of them are still remembered.
    pub(crate) fn since(&self, version: u64) -> Result<impl Iterator<Item = &Change>, Refusal> {
        if version < self.forgotten {
            return Err(Refusal::expired(version, self.forgotten));
        }
        let from = self
            .history
            .partition_point(|change| change.version <= version);
        Ok(self.history.range(from..))
    }

    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The kind that a path leads to.
    pub(crate) fn kind(&self, target: &Target<'_>) -> Result<Kind, Refusal> {
        let is_meant = |kind: &&Kind| {
            (kind.group.as_str(), kind.version.as_str()) == (target.group, target.version)
                && kind.plural == target.plural
        };
        let found = self.kinds.iter().find(is_meant);
        found.cloned().ok_or_else(Refusal::no_such_resource)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// The objects of a kind in their order; of all namespaces where none is given.
    pub(crate) fn of<'a>(
        &'a self,
        resource: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        let first = Key {
            resource: resource.into(),
            namespace: namespace.into(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(key, _)| {
            key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
        })
    }

    /// Everything there is.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    /// Stores an object, or removes it; gives it with its new version.
    pub(crate) fn commit(&mut self, key: Key, mut after: Option<Value>) -> Value {
        self.version += 1;
        let mut before = self.objects.remove(&key);
        let told = after.as_mut().or(before.as_mut());
        let mut told = told.cloned().unwrap_or_default();
        set(
            &mut told,
            "/metadata/resourceVersion",
            self.version.to_string(),
        );
        if let Some(object) = after.as_mut() {
            object.clone_from(&told);
            self.objects.insert(key.clone(), told.clone());
        } else {
            // Who watches sees it once more, as it was, under the version of its end.
            before = Some(told.clone());
        }
        if key.resource == "customresourcedefinitions.apiextensions.k8s.io" {
            self.redefine(&told, after.is_some());
        }
        self.history.push_back(Change {
            version: self.version,
            key,
            before,
            after,
        });
        if self.history.len() > REMEMBERED
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.version;
        }
        told
    }

    fn redefine(&mut self, definition: &Value, stands: bool) {
        let Some(kind) = Kind::defined(definition) else {
            return;
        };
        let resource = kind.resource();
        self.kinds.retain(|known| known.resource() != resource);
        if stands {
            self.kinds.push(kind);
            return;
        }
        // The objects go with their kind.
        let orphans: Vec<Key> = self.of(&resource, "").map(|(key, _)| key.clone()).collect();
        for key in orphans {
            self.commit(key, None);
        }
    }
}
