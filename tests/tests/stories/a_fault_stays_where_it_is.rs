//! Two routers that disagree: the session says what is wrong in words that help, and the session next door notices nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::Lab;
use tests::container::Container;
use tests::segment::Segment;
use tests::story::{Steady, append, at, complains, complaint, edit, is_up, peer, write};
use tests::wait::{always, eventually};

const SOON: Duration = Duration::from_secs(20);

/// `frr` is where the faults are, `bird` is next door; both send three prefixes of the pod network.
const MANIFEST: &str = "apiVersion: routelet.dev/v1alpha1
kind: BGPConfiguration
metadata: {name: default}
spec:
  asNumber: 65001
  topology: External
  timers: {connectRetrySeconds: 1, holdSeconds: 9, keepaliveSeconds: 3, idleHoldMaxSeconds: 2}
  podNetwork: {clusterCIDRs: [10.244.0.0/16]}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: bird}
spec: {peerAddress: 10.0.0.253, peerASN: 65253}
---
apiVersion: routelet.dev/v1alpha1
kind: BGPPeer
metadata: {name: frr}
spec:
  peerAddress: 10.0.0.254
  peerASN: 65254
";

const FRR: &str = "
ip route 10.244.54.0/24 blackhole
ip route 10.244.55.0/24 blackhole
ip route 10.244.56.0/24 blackhole
router bgp 65254
 bgp router-id 10.0.0.254
 no bgp ebgp-requires-policy
 neighbor 10.0.0.1 remote-as 65001
 neighbor 10.0.0.1 timers connect 1
 neighbor 10.0.0.1 advertisement-interval 0
 address-family ipv4 unicast
  network 10.244.54.0/24
  network 10.244.55.0/24
  network 10.244.56.0/24
 exit-address-family
exit
";

/// `also` stands in BIRD's BGP protocol.
fn bird(also: &str) -> String {
    format!(
        "
protocol static {{ ipv4; route 10.244.51.0/24 blackhole; route 10.244.52.0/24 blackhole; route 10.244.53.0/24 blackhole; }}
protocol bgp node1 {{
	local 10.0.0.253 as 65253;
	neighbor 10.0.0.1 as 65001;
	connect delay time 1; error wait time 1, 2;
	ipv4 {{ import all; export where source = RTS_STATIC; }};
	{also}
}}
"
    )
}

/// One network with node1, FRR and BIRD on it.
struct Scene<'lab> {
    lab: &'lab Lab,
    node1: &'lab Container,
    frr: &'lab Container,
    bgp: PathBuf,
}

impl Scene<'_> {
    /// Lets `tell` play with the session with FRR; the one with BIRD must not notice.
    fn play(name: &str, tell: impl FnOnce(&Scene<'_>) -> Result<()>) {
        let segment = Segment::named(name)
            .manifest("bgp.yaml", MANIFEST)
            .routelet(1)
            .frr("frr", 254, FRR)
            .bird("bird", 253, &bird(""));
        segment.story(|lab| {
            let scene = Scene {
                lab,
                node1: lab.node("node1")?,
                frr: lab.node("frr")?,
                bgp: lab.manifests().join("bgp.yaml"),
            };
            let neighbour = Steady::session(scene.node1, "bird")?;
            is_up(scene.node1, "frr")?;
            tell(&scene)?;
            neighbour.holds()?;
            scene.node1.our_route("10.244.53.0/24")?;
            Ok(())
        });
    }

    /// Adds to the spec of the peer `frr`.
    fn with(&self, line: &str) -> Result<()> {
        append(&self.bgp, &format!("  {line}\n"))
    }

    fn without(&self, line: &str) -> Result<()> {
        edit(&self.bgp, &format!("  {line}\n"), "")
    }

    /// Changes FRR's side, and lets it try at once.
    fn theirs(&self, line: &str) -> Result<()> {
        self.frr.vtysh_configure(&["router bgp 65254", line])?;
        self.frr
            .run(&["vtysh", "-c", "clear bgp 10.0.0.1"])
            .map(drop)
    }

    fn up(&self) -> Result<()> {
        is_up(self.node1, "frr")?;
        eventually(SOON, "its routes are in the kernel", || {
            self.node1.our_route("10.244.56.0/24").map(drop)
        })
    }

    fn complains(&self, words: &[&str]) -> Result<()> {
        complains(self.node1, "frr", words)?;
        eventually(SOON, "its routes are gone", || {
            self.node1.no_route_of_ours("10.244.56.0/24")
        })
    }

    fn secret(&self, password: &str) -> Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: tor-md5}}\nstringData: {{password: {password}}}\n"
        );
        write(&self.lab.manifests().join("secret.yaml"), &text)
    }
}

#[test]
fn an_md5_password_on_one_side_or_a_wrong_one_is_suspected() {
    Scene::play("md5", |scene| {
        scene.secret("right")?;
        scene.with("authSecretRef: {name: tor-md5, key: password}")?;
        scene.complains(&["md5"])?;
        scene.theirs("neighbor 10.0.0.1 password right")?;
        scene.up()?;
        scene.theirs("neighbor 10.0.0.1 password other")?;
        scene.complains(&["md5"])?;
        scene.secret("other")?;
        scene.up()?;
        scene.without("authSecretRef: {name: tor-md5, key: password}")?;
        scene.complains(&["md5"])?;
        scene.theirs("no neighbor 10.0.0.1 password other")?;
        scene.up()
    });
}

#[test]
fn a_missing_secret_holds_the_session_down_and_never_means_no_password() {
    Scene::play("secret", |scene| {
        scene.with("authSecretRef: {name: tor-md5, key: password}")?;
        scene.complains(&["tor-md5"])?;
        let status = scene.node1.output(&["routelet", "status"])?;
        ensure!(
            status.code == 1 && status.stdout.contains("tor-md5"),
            "{}",
            status.stdout
        );
        // FRR asks for none, and still there is no session without.
        always(Duration::from_secs(2), "the session stays down", || {
            let told = complaint(scene.node1, "frr")?;
            ensure!(told.starts_with("Idle"), "{told}");
            Ok(())
        })?;
        scene.secret("found")?;
        scene.theirs("neighbor 10.0.0.1 password found")?;
        scene.up()?;
        let shown = scene.node1.run(&["routelet", "status", "--dump"])?;
        ensure!(!shown.contains("found\""), "the status shows the password");
        ensure!(
            !scene.lab.said("node1").contains("password: found"),
            "the log shows the password"
        );
        Ok(())
    });
}

#[test]
fn ttl_security_on_one_side_is_suspected() {
    Scene::play("gtsm", |scene| {
        scene.theirs("neighbor 10.0.0.1 ttl-security hops 1")?;
        scene.complains(&["gtsm"])?;
        scene.with("ttlSecurity: 1")?;
        // FRR never heard that the attempts before have ended, and goes by those until it is told.
        scene.frr.run(&["vtysh", "-c", "clear bgp 10.0.0.1"])?;
        scene.up()?;
        scene.theirs("no neighbor 10.0.0.1 ttl-security hops 1")?;
        scene.complains(&["255"])
    });
}

#[test]
fn a_wrong_as_number_is_named_on_either_side() {
    Scene::play("wrongas", |scene| {
        edit(&scene.bgp, "peerASN: 65254", "peerASN: 65999")?;
        scene.complains(&["65254"])?;
        edit(&scene.bgp, "peerASN: 65999", "peerASN: 65254")?;
        scene.up()?;
        scene.theirs("neighbor 10.0.0.1 remote-as 65888")?;
        scene.complains(&["bad peer as"])?;
        scene.theirs("neighbor 10.0.0.1 remote-as 65001")?;
        scene.up()
    });
}

#[test]
fn a_hold_time_that_they_do_not_take_is_named() {
    Scene::play("hold", |scene| {
        scene.theirs("bgp minimum-holdtime 20")?;
        scene.complains(&["hold time"])?;
        scene.with("timers: {holdSeconds: 30}")?;
        scene.up()?;
        // One that no RFC allows never gets so far.
        edit(&scene.bgp, "{holdSeconds: 30}", "{holdSeconds: 2}")?;
        eventually(SOON, "status names the field", || {
            let status = scene.node1.output(&["routelet", "status"])?;
            ensure!(
                status.code == 1 && status.stdout.contains("holdSeconds"),
                "{}",
                status.stdout
            );
            Ok(())
        })?;
        scene.up()
    });
}

#[test]
fn too_many_prefixes_are_told_or_end_that_session_only() {
    Scene::play("prefixes", |scene| {
        let limited = Steady::session(scene.node1, "frr")?;
        scene.with("maxPrefixes: {count: 2, action: Warn}")?;
        eventually(SOON, "it is told", || {
            let told = scene.node1.run(&["routelet", "events"])?
                + &scene.node1.output(&["routelet", "status"])?.stdout;
            ensure!(
                told.lines()
                    .any(|line| line.contains("frr") && line.contains("prefixes")),
                "{told}"
            );
            Ok(())
        })?;
        limited.holds()?;
        scene.up()?;

        edit(
            &scene.bgp,
            "{count: 2, action: Warn}",
            "{count: 2, action: Shutdown, idleSeconds: 3600}",
        )?;
        scene.complains(&["prefix"])?;
        let neighbor = scene.frr.vtysh("show bgp neighbors 10.0.0.1 json")?;
        ensure!(
            neighbor
                .to_string()
                .contains("Maximum Number of Prefixes Reached"),
            "{neighbor:#}"
        );
        // The operator raises the limit: nobody waits for an hour.
        edit(&scene.bgp, "{count: 2,", "{count: 20,")?;
        scene.up()
    });
}

#[test]
fn a_session_that_is_shut_down_says_so_on_both_sides() {
    Scene::play("shutdown", |scene| {
        scene.with("shutdown: {message: cable swap}")?;
        scene.complains(&["cable swap", "shut down"])?;
        let neighbor = scene.frr.vtysh("show bgp neighbors 10.0.0.1 json")?;
        let told = neighbor.to_string();
        ensure!(
            told.contains("Administrative Shutdown") && told.contains("cable swap"),
            "{neighbor:#}"
        );
        scene.without("shutdown: {message: cable swap}")?;
        scene.up()?;
        scene.theirs("neighbor 10.0.0.1 shutdown message coffee break")?;
        // The next attempts fail for lesser reasons, and the session's state tells of those: the events keep this one.
        eventually(SOON, "its words are kept", || {
            let told = scene.node1.run(&["routelet", "events"])?;
            ensure!(
                told.contains("Administrative Shutdown") && told.contains("coffee break"),
                "{told}"
            );
            scene.node1.no_route_of_ours("10.244.56.0/24")
        })?;
        scene.theirs("no neighbor 10.0.0.1 shutdown")?;
        scene.up()
    });
}

#[test]
fn bird_agrees_on_md5_and_ttl_security_and_disagrees_in_words() {
    let segment = Segment::named("birdside")
        .manifest("bgp.yaml", MANIFEST)
        .routelet(1)
        .frr("frr", 254, FRR)
        .bird("bird", 253, &bird(""));
    segment.story(|lab| {
        let node1 = lab.node("node1")?;
        let neighbour = Steady::session(node1, "frr")?;
        is_up(node1, "bird")?;
        let ours = |lines: &str| {
            let text = MANIFEST.replace(
                "spec: {peerAddress: 10.0.0.253, peerASN: 65253}",
                &format!("spec: {{peerAddress: 10.0.0.253, peerASN: 65253, {lines}}}"),
            );
            write(
                &lab.manifests().join("bgp.yaml"),
                &format!(
                    "{text}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: {{password: right}}\n"
                ),
            )
        };
        let theirs = |lines: &str| -> Result<()> {
            write(
                &lab.files("bird").join("bird.conf"),
                &format!("router id 10.0.0.253;\nprotocol device {{}}\n{}", bird(lines)),
            )?;
            lab.node("bird")?.birdc("configure").map(drop)
        };
        let md5 = "authSecretRef: {name: key, key: password}";
        theirs("password \"right\";")?;
        complains(node1, "bird", &["md5"])?;
        ours(md5)?;
        is_up(node1, "bird")?;
        theirs("password \"wrong\";")?;
        complains(node1, "bird", &["md5"])?;
        theirs("password \"right\"; ttl security yes;")?;
        ours(&format!("{md5}, ttlSecurity: 1"))?;
        is_up(node1, "bird")?;
        let told = peer(node1, "bird")?;
        ensure!(at(&told, "/state")? == "Established", "{told:#}");
        neighbour.holds()
    });
}
