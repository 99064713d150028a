//! A lab that a story draws itself: one shared network, and on it routelets, other routers, and hosts for speakers by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::lab::{Lab, Options};
use crate::story::tell_in;

/// The stations on one network. Station N has 10.0.0.N/16 and fd00:10::N/64.
#[derive(Debug, Clone)]
pub struct Segment {
    name: String,
    stations: Vec<Station>,
    manifests: Vec<(String, String)>,
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct Station {
    name: String,
    number: u8,
    image: &'static str,
    fields: String,
    exec: &'static [&'static str],
    files: Vec<(&'static str, String)>,
}

/// The station of a cluster's control plane.
pub const CONTROL_PLANE: u8 = 250;

/// The addresses of station `number`.
#[must_use]
pub fn addresses(number: u8) -> [String; 2] {
    [format!("10.0.0.{number}"), format!("fd00:10::{number}")]
}

/// FRR starts what its daemons file names.
pub(crate) const DAEMONS: &str = "bgpd=yes\nbfdd=yes\nvtysh_enable=yes\nzebra_options=\"-A 127.0.0.1 -s 90000000\"\nbgpd_options=\"-A 127.0.0.1\"\n";

/// The same for every station, as in the topologies.
pub(crate) const HEAD: &str = "topology:
  kinds:
    linux:
      network-mode: none
      sysctls:
        net.ipv4.ip_forward: 1
        net.ipv6.conf.all.disable_ipv6: 0
        net.ipv6.conf.default.disable_ipv6: 0
        net.ipv6.conf.all.forwarding: 1
        net.ipv6.conf.default.forwarding: 1
        net.ipv6.conf.all.accept_dad: 0
        net.ipv6.conf.default.accept_dad: 0
        net.ipv6.conf.all.keep_addr_on_down: 1
        net.ipv6.conf.default.keep_addr_on_down: 1
  nodes:
";

impl Segment {
    /// An empty one.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            stations: Vec::new(),
            manifests: Vec::new(),
            binary: None,
        }
    }

    /// The routelet that runs in it, where it is not the one built beside this program.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// A manifest for all routelets, besides their Node objects.
    #[must_use]
    pub fn manifest(mut self, file: &str, text: &str) -> Self {
        self.manifests.push((file.into(), text.into()));
        self
    }

    /// A routelet as `nodeN`, with the pod CIDRs 10.244.N.0/24 and fd00:10:244:N::/64.
    #[must_use]
    pub fn routelet(mut self, number: u8) -> Self {
        let node = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: node{number}}}\n\
             spec: {{podCIDRs: [10.244.{number}.0/24, \"fd00:10:244:{number}::/64\"]}}\n\
             status: {{addresses: [{{type: InternalIP, address: 10.0.0.{number}}}, {{type: InternalIP, address: \"fd00:10::{number}\"}}]}}\n"
        );
        let name = format!("node{number}");
        self.manifests.push((format!("{name}.yaml"), node));
        let fields = format!(
            "      cmd: run --node {name} --config /etc/routelet\n      binds: [\"{}/manifests:/etc/routelet\"]\n",
            self.name
        );
        self.add(&name, number, "ghcr.io/routelet/routelet", fields, vec![])
    }

    /// A node of a cluster that has a control plane: `nodeN`, whose routelet is started once a story has registered the node.
    #[must_use]
    pub fn node(self, number: u8) -> Self {
        let name = format!("node{number}");
        let fields = format!(
            "      cmd: run --kubernetes\n      env:\n        NODE_NAME: {name}\n        KUBERNETES_SERVICE_HOST: 10.0.0.{CONTROL_PLANE}\n        KUBERNETES_SERVICE_PORT: 6443\n"
        );
        self.add(&name, number, "ghcr.io/routelet/routelet", fields, vec![])
    }

    /// Room for `node1` to `nodeN` of such a cluster.
    #[must_use]
    pub fn nodes(self, count: u8) -> Self {
        (1..=count).fold(self, Self::node)
    }

    /// The node for the servers of a control plane, which a story starts from these programs.
    #[must_use]
    pub fn control_plane(self, name: &str, programs: &[PathBuf]) -> Self {
        let mut binds = String::new();
        for program in programs {
            let file = program.file_name().unwrap_or_default().display();
            let _ = writeln!(
                binds,
                "        - {}:/usr/local/bin/{file}:ro",
                program.display()
            );
        }
        let fields = format!("      binds:\n{binds}");
        self.add(name, CONTROL_PLANE, "debian", fields, vec![])
    }

    /// FRR with that configuration.
    #[must_use]
    pub fn frr(self, name: &str, number: u8, configuration: &str) -> Self {
        let at = format!("{}/{name}", self.name);
        let fields = format!(
            "      binds: [\"{at}/daemons:/etc/frr/daemons\", \"{at}/frr.conf:/etc/frr/frr.conf\", \"{at}/vtysh.conf:/etc/frr/vtysh.conf\"]\n"
        );
        let files = vec![
            ("daemons", DAEMONS.to_owned()),
            ("vtysh.conf", "service integrated-vtysh-config\n".to_owned()),
            (
                "frr.conf",
                format!("frr defaults traditional\nhostname {name}\n{configuration}"),
            ),
        ];
        self.add(name, number, "quay.io/frrouting/frr", fields, files)
    }

    /// BIRD with that configuration.
    #[must_use]
    pub fn bird(self, name: &str, number: u8, configuration: &str) -> Self {
        let fields = format!(
            "      binds: [\"{}/{name}/bird.conf:/etc/bird.conf\"]\n",
            self.name
        );
        let files = vec![("bird.conf", Self::bird_file(number, configuration))];
        self.add(name, number, "ghcr.io/srl-labs/bird", fields, files)
    }

    /// All of that BIRD's `bird.conf`.
    #[must_use]
    pub fn bird_file(number: u8, configuration: &str) -> String {
        format!(
            "log stderr all;\nrouter id 10.0.0.{number};\nprotocol device {{}}\n{configuration}"
        )
    }

    /// A host on which nothing runs yet. Besides its own, all addresses of 10.0.128.0/17 are its own, for speakers by hand.
    #[must_use]
    pub fn host(self, name: &str, number: u8) -> Self {
        let mut me = self.add(name, number, "debian", String::new(), vec![]);
        if let Some(host) = me.stations.last_mut() {
            host.exec = &["ip route add local 10.0.128.0/17 dev lo"];
        }
        me
    }

    fn add(
        mut self,
        name: &str,
        number: u8,
        image: &'static str,
        fields: String,
        files: Vec<(&'static str, String)>,
    ) -> Self {
        self.stations.push(Station {
            name: name.into(),
            number,
            image,
            fields,
            exec: &[],
            files,
        });
        self
    }

    /// Brings it up, lets `tell` run, and takes it down.
    ///
    /// # Panics
    /// If the story fails.
    pub fn story(&self, tell: impl FnOnce(&Lab) -> Result<()>) {
        tell_in(self.lab(), tell);
    }

    /// Brings it up.
    pub fn lab(&self) -> Result<Lab> {
        let options = Options {
            routelet: self.binary.clone(),
            ..Options::default()
        };
        Lab::written_with(&self.name, options, |files| self.write(files))
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let own = folder.join(&self.name);
        std::fs::create_dir_all(own.join("manifests"))?;
        for (file, text) in &self.manifests {
            std::fs::write(own.join("manifests").join(file), text)?;
        }
        for station in &self.stations {
            std::fs::create_dir_all(own.join(&station.name))?;
            for (file, text) in &station.files {
                std::fs::write(own.join(&station.name).join(file), text)?;
            }
        }
        std::fs::write(folder.join(format!("{}.clab.yml", self.name)), self.clab()?)?;
        Ok(())
    }

    fn clab(&self) -> Result<String> {
        let mut text = format!("name: {}\n{HEAD}", self.name);
        text += "    sw:\n      kind: linux\n      image: debian\n      exec:\n        - ip link add br0 type bridge\n        - ip link set br0 up\n";
        for Station { number, .. } in &self.stations {
            writeln!(text, "        - ip link set eth{number} master br0")?;
        }
        for station in &self.stations {
            let Station {
                name,
                number,
                image,
                fields,
                ..
            } = station;
            writeln!(
                text,
                "    {name}:\n      kind: linux\n      image: {image}\n{fields}      exec:\n        - ip address add 10.0.0.{number}/16 dev eth1\n        \
                 - ip address add fd00:10::{number}/64 dev eth1"
            )?;
            for line in station.exec {
                writeln!(text, "        - {line}")?;
            }
        }
        text += "  links:\n";
        for Station { name, number, .. } in &self.stations {
            writeln!(
                text,
                "    - endpoints: [\"sw:eth{number}\", \"{name}:eth1\"]"
            )?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Segment;
    use crate::Topology;

    #[test]
    fn what_is_drawn_is_a_topology() {
        let folder = std::env::temp_dir().join(format!("segment-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        Segment::named("drawn")
            .routelet(1)
            .frr("frr", 254, "")
            .bird("bird", 253, "")
            .host("stranger", 100)
            .write(&folder)
            .expect("files");
        let topology = Topology::read(&folder.join("drawn.clab.yml"));
        std::fs::remove_dir_all(&folder).expect("removed");
        let topology = topology.expect("a topology");
        assert_eq!(topology.nodes.len(), 5);
        assert_eq!(topology.links.len(), 4);
        assert_eq!(topology.node("stranger").expect("node").exec.len(), 3);
    }
}
