//! The CNI configuration list that makes the standard plugins use this node's pod CIDRs.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use bgp::prefix::{Family, Prefix};
use serde_json::{Value, json};

use crate::{
    crd::configuration::Cni,
    problem::{Problem, Reason},
};

/// A conflist and where it belongs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conflist {
    /// The file.
    pub(crate) path: PathBuf,
    /// Where the plugins should be.
    pub(crate) plugins: Vec<PathBuf>,
    /// Its content.
    pub(crate) content: Value,
}

impl Conflist {
    /// For these pod CIDRs, which are not empty.
    pub(crate) fn new(cni: &Cni, pod_cidrs: &[Prefix]) -> Self {
        // Each family is a range set of its own: a pod gets one address of each.
        let sets: Vec<Value> = Family::ALL
            .into_iter()
            .filter_map(|family| {
                let ranges: Vec<Value> = pod_cidrs
                    .iter()
                    .filter(|cidr| cidr.family() == family)
                    .map(|cidr| json!({"subnet": cidr.to_string()}))
                    .collect();
                (!ranges.is_empty()).then(|| Value::from(ranges))
            })
            .collect();
        let routes: Vec<Value> = [(Family::IPv4, "0.0.0.0/0"), (Family::IPv6, "::/0")]
            .into_iter()
            .filter(|(family, _)| pod_cidrs.iter().any(|cidr| cidr.family() == *family))
            .map(|(_, destination)| json!({"dst": destination}))
            .collect();
        // With one range a family the gateway address may follow it when the node gets another pod CIDR; else the plugin
        // would refuse every new pod until someone removes the bridge.
        let single = Family::ALL.into_iter().all(|family| {
            pod_cidrs
                .iter()
                .filter(|cidr| cidr.family() == family)
                .count()
                <= 1
        });
        let mut bridge = json!({
            "type": "bridge",
            "bridge": cni.bridge,
            "isGateway": true,
            "forceAddress": single,
            "hairpinMode": true,
            "ipMasq": false,
            "ipam": {"type": "host-local", "ranges": sets, "routes": routes},
        });
        if cni.mtu > 0
            && let Some(bridge) = bridge.as_object_mut()
        {
            bridge.insert("mtu".into(), cni.mtu.into());
        }
        let mut plugins = vec![bridge];
        if cni.portmap {
            plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
        }
        Self {
            path: cni.directory.join(&cni.name),
            plugins: cni.plugin_directories.clone(),
            content: json!({"cniVersion": "1.0.0", "name": "routelet", "plugins": plugins}),
        }
    }

    /// The plugins that it takes and that are in none of the directories: no pod can be made without them.
    pub(crate) fn unplugged(&self) -> Option<Problem> {
        let kinds = |value: &Value| -> Vec<String> {
            let kind = |value: Option<&Value>| value?.as_str().map(str::to_owned);
            let ipam = value.get("ipam").and_then(|ipam| ipam.get("type"));
            [kind(value.get("type")), kind(ipam)]
                .into_iter()
                .flatten()
                .collect()
        };
        let plugins = self.content.get("plugins").and_then(Value::as_array);
        // The container runtime brings the loopback up by this one.
        let needed = std::iter::once("loopback".to_owned())
            .chain(plugins.into_iter().flatten().flat_map(kinds));
        let there = |plugin: &String| self.plugins.iter().any(|at| at.join(plugin).exists());
        let missing: Vec<String> = needed.filter(|plugin| !there(plugin)).collect();
        let places: Vec<String> = self
            .plugins
            .iter()
            .map(|place| place.display().to_string())
            .collect();
        (!missing.is_empty()).then(|| {
            Problem::warning(
                "cni",
                format!(
                    "the CNI plugins {} are not in {}: no pod can be made; install them (package kubernetes-cni or containernetworking-plugins), name their place in cni.pluginDirectories, and in a pod mount it",
                    missing.join(", "),
                    places.join(" or ")
                ),
            )
            .because(Reason::CniPluginMissing)
        })
    }

    /// Writes it unless it stands there already; whoever reads meanwhile sees the old one or the new one, whole.
    /// Gives whether it was written. No other file is touched.
    ///
    /// # Errors
    /// When the directory is missing or not writable.
    pub(crate) fn write(&self) -> io::Result<bool> {
        let mut text = serde_json::to_string_pretty(&self.content)?;
        text.push('\n');
        if fs::read_to_string(&self.path).is_ok_and(|there| there == text) {
            return Ok(false);
        }
        // Container runtimes read *.conf, *.conflist and *.json only.
        let temporary = self.path.with_extension("routelet-tmp");
        let written =
            write_synced(&temporary, &text).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // It may not be there; the error that counts is the one above.
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| true)
    }
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn plugins_that_are_missing_are_named() {
        let directory = std::env::temp_dir().join(format!("routelet-bin-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for plugin in ["bridge", "loopback"] {
            fs::write(directory.join(plugin), "").unwrap();
        }
        let cni = Cni {
            plugin_directories: vec!["/nowhere".into(), directory.clone()],
            ..Cni::default()
        };
        let conflist = Conflist::new(&cni, &["10.244.1.0/24".parse().unwrap()]);
        let problem = conflist.unplugged().unwrap();
        assert!(
            problem
                .text
                .starts_with("the CNI plugins host-local, portmap are not in /nowhere or "),
            "{problem}"
        );
        for plugin in ["host-local", "portmap"] {
            fs::write(directory.join(plugin), "").unwrap();
        }
        assert_eq!(conflist.unplugged(), None);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn it_is_written_whole_once_and_beside_it_nothing_changes() {
        let directory = std::env::temp_dir().join(format!("routelet-cni-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let foreign = directory.join("05-other.conflist");
        fs::write(&foreign, "theirs").unwrap();
        let cni = Cni {
            directory: directory.clone(),
            ..Cni::default()
        };
        let first = Conflist::new(&cni, &["10.244.1.0/24".parse().unwrap()]);
        assert!(first.write().unwrap());
        let inode = fs::metadata(&first.path).unwrap().ino();
        assert!(!first.write().unwrap());
        assert_eq!(fs::metadata(&first.path).unwrap().ino(), inode);
        let second = Conflist::new(&cni, &["10.244.9.0/24".parse().unwrap()]);
        assert!(second.write().unwrap());
        let text = fs::read_to_string(&second.path).unwrap();
        assert!(text.contains("10.244.9.0/24") && !text.contains("10.244.1.0/24"));
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        fs::remove_dir_all(&directory).unwrap();
        assert!(second.write().is_err());
    }
}
