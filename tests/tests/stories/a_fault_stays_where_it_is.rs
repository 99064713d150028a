//! Two routers that disagree: the session says what is wrong in words that help, and the session next door notices nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::Lab;
use tests::container::Container;
use tests::scene::{self, BIRD, FRR, IMPATIENT, Transport};
use tests::segment::Segment;
use tests::story::{Steady, append, at, complains, complaint, edit, is_up, peer, write};
use tests::wait::{always, eventually};

const SOON: Duration = Duration::from_secs(20);
/// What a busy machine may need for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The faults are between node1 and FRR; BIRD is next door.
struct Scene<'lab> {
    lab: &'lab Lab,
    node1: &'lab Container,
    frr: &'lab Container,
    transport: Transport,
    bgp: PathBuf,
}

impl Scene<'_> {
    /// Lets `tell` play with the session with FRR; the one with BIRD must not notice.
    fn play(name: &str, transport: Transport, tell: impl FnOnce(&Scene<'_>) -> Result<()>) {
        scene::between(name, &manifest(transport), transport).story(|lab| {
            let scene = Scene {
                lab,
                node1: lab.node("node1")?,
                frr: lab.node("frr")?,
                transport,
                bgp: lab.manifests().join("bgp.yaml"),
            };
            let neighbour = Steady::session(scene.node1, "bird")?;
            scene.up()?;
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
        let line = line.replace("node1", &self.transport.address(1));
        scene::frr_now(self.frr, self.transport, &line)
    }

    fn up(&self) -> Result<()> {
        is_up(self.node1, "frr")?;
        eventually(SOON, "its routes are in the kernel", || {
            self.node1.our_route("10.244.56.0/24")?;
            self.node1.our_route("fd00:10:244:54::/64").map(drop)
        })
    }

    fn complains(&self, words: &[&str]) -> Result<()> {
        complains(self.node1, "frr", words)?;
        eventually(SOON, "its routes are gone", || {
            self.node1.no_route_of_ours("10.244.56.0/24")?;
            self.node1.no_route_of_ours("fd00:10:244:54::/64")
        })
    }

    fn secret(&self, password: &str) -> Result<()> {
        scene::secret(self.lab, "tor-md5", password)
    }
}

/// FRR comes last, so that lines can be added to it.
fn manifest(transport: Transport) -> String {
    let peers = [("bird", BIRD), ("frr", FRR)];
    let peers = peers.map(|(name, number)| scene::peer(name, number, transport));
    scene::configuration(IMPATIENT) + &peers.concat()
}

fn md5(scene: &Scene<'_>) -> Result<()> {
    scene.secret("right")?;
    scene.with("authSecretRef: {name: tor-md5, key: password}")?;
    scene.complains(&["md5"])?;
    scene.theirs("neighbor node1 password right")?;
    scene.up()?;
    scene.theirs("neighbor node1 password other")?;
    scene.complains(&["md5"])?;
    scene.secret("other")?;
    scene.up()?;
    scene.without("authSecretRef: {name: tor-md5, key: password}")?;
    scene.complains(&["md5"])?;
    scene.theirs("no neighbor node1 password other")?;
    scene.up()
}

#[test]
fn an_md5_password_on_one_side_or_a_wrong_one_is_suspected() {
    Scene::play("md5", Transport::IPv4, md5);
}

#[test]
fn so_it_is_over_ipv6() {
    Scene::play("md5six", Transport::IPv6, md5);
}

#[test]
fn a_missing_secret_holds_the_session_down_and_never_means_no_password() {
    Scene::play("secret", Transport::IPv4, |scene| {
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
        scene.theirs("neighbor node1 password found")?;
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

fn ttl_security(scene: &Scene<'_>) -> Result<()> {
    scene.theirs("neighbor node1 ttl-security hops 1")?;
    scene.complains(&["gtsm"])?;
    scene.with("ttlSecurity: 1")?;
    // FRR never heard that the attempts before have ended, and goes by those until it is told.
    scene::clear_frr(scene.frr, scene.transport)?;
    scene.up()?;
    scene.theirs("no neighbor node1 ttl-security hops 1")?;
    scene.complains(&["255"])
}

#[test]
fn ttl_security_on_one_side_is_suspected() {
    Scene::play("gtsm", Transport::IPv4, ttl_security);
}

#[test]
fn the_hop_limit_of_ipv6_counts_as_much() {
    Scene::play("gtsmsix", Transport::IPv6, ttl_security);
}

#[test]
fn a_wrong_as_number_is_named_on_either_side() {
    Scene::play("wrongas", Transport::IPv4, |scene| {
        edit(&scene.bgp, "peerASN: 65254", "peerASN: 65999")?;
        scene.complains(&["65254"])?;
        edit(&scene.bgp, "peerASN: 65999", "peerASN: 65254")?;
        scene.up()?;
        scene.theirs("neighbor node1 remote-as 65888")?;
        scene.complains(&["bad peer as"])?;
        scene.theirs("neighbor node1 remote-as 65001")?;
        scene.up()
    });
}

#[test]
fn a_hold_time_that_they_do_not_take_is_named() {
    Scene::play("hold", Transport::IPv4, |scene| {
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
    Scene::play("prefixes", Transport::IPv4, |scene| {
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
        scene::frr_was_told(scene.frr, &["Maximum Number of Prefixes Reached"])?;
        // The operator raises the limit: nobody waits for an hour.
        edit(&scene.bgp, "{count: 2,", "{count: 20,")?;
        scene.up()
    });
}

#[test]
fn what_a_router_sends_back_does_not_count_against_the_maximum() {
    let own = (0..6)
        .map(|third| format!("10.99.{third}.0/24"))
        .collect::<Vec<_>>()
        .join(", ");
    let manifest = scene::configuration("")
        + &scene::peer("frr", FRR, Transport::IPv4)
        + "  maxPrefixes: {count: 5}\n---\napiVersion: routelet.dev/v1alpha1\nkind: BGPAdvertisement\n"
        + &format!("metadata: {{name: own}}\nspec: {{prefixes: [{own}]}}\n");
    // To more than one peer FRR says the same, even to the one it has it from.
    let frr = scene::frr(Transport::IPv4).replace(
        " address-family ipv4 unicast\n",
        " neighbor 10.0.0.2 remote-as 65001\n neighbor 10.0.0.2 timers connect 1\n neighbor 10.0.0.2 advertisement-interval 0\n address-family ipv4 unicast\n",
    );
    Segment::named("echo")
        .manifest("bgp.yaml", &manifest)
        .routelet(1)
        .routelet(2)
        .frr("frr", FRR, &frr)
        .story(|lab| {
            let node1 = lab.node("node1")?;
            let figure = |name: &str| {
                let counts = at(&peer(node1, "frr")?, "/families/IPv4")?.clone();
                at(&counts, name)?.as_u64().context("a number")
            };
            eventually(PATIENCE, "it is all sent back", || {
                let (received, looped) = (figure("/received")?, figure("/looped")?);
                ensure!(looped == 5, "{looped} looped of {received}");
                ensure!(received == 8 && figure("/accepted")? == 3, "{received}");
                Ok(())
            })?;
            let session = Steady::session(node1, "frr")?;
            let told = node1.output(&["routelet", "status"])?.stdout;
            ensure!(told.contains("5 refused as they have been here"), "{told}");
            ensure!(!told.contains("maximum"), "{told}");
            node1.our_route("10.244.54.0/24")?;
            session.holds()
        });
}

#[test]
fn a_session_that_is_shut_down_says_so_on_both_sides() {
    Scene::play("shutdown", Transport::IPv4, |scene| {
        scene.with("shutdown: {message: cable swap}")?;
        scene.complains(&["cable swap", "shut down"])?;
        scene::frr_was_told(scene.frr, &["Administrative Shutdown", "cable swap"])?;
        scene.without("shutdown: {message: cable swap}")?;
        scene.up()?;
        scene.theirs("neighbor node1 shutdown message coffee break")?;
        // The next attempts fail for lesser reasons, and the session's state tells of those: the events keep this one.
        eventually(SOON, "its words are kept", || {
            let told = scene.node1.run(&["routelet", "events"])?;
            ensure!(
                told.contains("Administrative Shutdown") && told.contains("coffee break"),
                "{told}"
            );
            scene.node1.no_route_of_ours("10.244.56.0/24")
        })?;
        scene.theirs("no neighbor node1 shutdown")?;
        scene.up()
    });
}

/// BIRD's side of MD5 and GTSM: right, wrong and one-sided.
fn bird_in_words(name: &str, transport: Transport) {
    scene::between(name, &manifest(transport), transport).story(|lab| {
        let node1 = lab.node("node1")?;
        let neighbour = Steady::session(node1, "frr")?;
        is_up(node1, "bird")?;
        scene::secret(lab, "key", "right")?;
        let own = scene::peer("bird", BIRD, transport);
        let ours = |lines: &str| {
            let text = manifest(transport).replace(&own, &format!("{own}{lines}"));
            write(&lab.manifests().join("bgp.yaml"), &text)
        };
        let theirs = |lines: &str| lab.reconfigure_bird(&scene::bird(transport, lines));
        let md5 = "  authSecretRef: {name: key, key: password}\n";
        theirs("password \"right\";")?;
        complains(node1, "bird", &["md5"])?;
        ours(md5)?;
        is_up(node1, "bird")?;
        theirs("password \"wrong\";")?;
        complains(node1, "bird", &["md5"])?;
        theirs("password \"right\"; ttl security yes;")?;
        ours(&format!("{md5}  ttlSecurity: 1\n"))?;
        is_up(node1, "bird")?;
        theirs("password \"right\"; ttl security no;")?;
        complains(node1, "bird", &["255"])?;
        neighbour.holds()
    });
}

#[test]
fn bird_agrees_on_md5_and_ttl_security_and_disagrees_in_words() {
    bird_in_words("birdside", Transport::IPv4);
}

#[test]
fn bird_does_so_over_ipv6() {
    bird_in_words("birdsix", Transport::IPv6);
}
