//! A mistake in one place gives a clear message there, and harms nothing else on the node.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tests::Lab;
use tests::story::{CONVERGENCE, complains, edit, is_up, story, story_with, write};
use tests::wait::{always, eventually};

const IPV4: &str = "  families: [IPv4]\n";

fn bgp(lab: &Lab) -> std::path::PathBuf {
    lab.manifests().join("bgp.yaml")
}

fn secret(password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: tor-md5}}\nstringData: {{password: {password}}}\n"
    )
}

/// MD5 between FRR and the nodes on the IPv4 sessions.
fn md5(files: &Path, password: Option<&str>) -> Result<()> {
    let frr = files.join("tor-frr/tor/frr.conf");
    edit(
        &frr,
        " neighbor NODES4 timers connect 1\n",
        " neighbor NODES4 timers connect 1\n neighbor NODES4 password right\n",
    )?;
    edit(
        &files.join("tor-frr/manifests/bgp.yaml"),
        IPV4,
        &format!("{IPV4}  authSecretRef: {{name: tor-md5, key: password}}\n"),
    )?;
    if let Some(password) = password {
        write(
            &files.join("tor-frr/manifests/secret.yaml"),
            &secret(password),
        )?;
    }
    Ok(())
}

#[test]
fn the_right_md5_password_is_right() {
    story_with(
        "tor-frr",
        |files| md5(files, Some("right")),
        |lab| lab.converged().map(drop),
    );
}

#[test]
fn a_wrong_md5_password_is_suspected_and_can_be_put_right() {
    story_with(
        "tor-frr",
        |files| md5(files, Some("wrong")),
        |lab| {
            let node1 = lab.node("node1")?;
            is_up(node1, "tor-ipv6")?;
            complains(node1, "tor-ipv4", &["md5"])?;
            write(&lab.manifests().join("secret.yaml"), &secret("right"))?;
            is_up(node1, "tor-ipv4")?;
            lab.converged().map(drop)
        },
    );
}

#[test]
fn a_missing_secret_holds_the_session_down_and_says_so() {
    story_with(
        "tor-frr",
        |files| md5(files, None),
        |lab| {
            let node1 = lab.node("node1")?;
            is_up(node1, "tor-ipv6")?;
            eventually(CONVERGENCE, "status names the secret", || {
                let told = node1.routelet(&["status"])?.to_string();
                ensure!(told.contains("tor-md5"), "{told}");
                Ok(())
            })?;
            write(&lab.manifests().join("secret.yaml"), &secret("right"))?;
            is_up(node1, "tor-ipv4")
        },
    );
}

#[test]
fn md5_on_our_side_only_is_suspected() {
    story("tor-frr", |lab| {
        lab.converged()?;
        let node1 = lab.node("node1")?;
        write(&lab.manifests().join("secret.yaml"), &secret("right"))?;
        edit(
            &bgp(lab),
            IPV4,
            &format!("{IPV4}  authSecretRef: {{name: tor-md5, key: password}}\n"),
        )?;
        complains(node1, "tor-ipv4", &["md5"])?;
        is_up(node1, "tor-ipv6")
    });
}

#[test]
fn ttl_security_works_where_both_have_it() {
    let both = |files: &Path| {
        edit(
            &files.join("tor-frr/tor/frr.conf"),
            " neighbor NODES4 timers connect 1\n",
            " neighbor NODES4 timers connect 1\n neighbor NODES4 ttl-security hops 1\n",
        )?;
        edit(
            &files.join("tor-frr/manifests/bgp.yaml"),
            IPV4,
            &format!("{IPV4}  ttlSecurity: 1\n"),
        )
    };
    story_with("tor-frr", both, |lab| lab.converged().map(drop));
}

#[test]
fn ttl_security_on_our_side_only_is_suspected() {
    story("tor-frr", |lab| {
        lab.converged()?;
        let node1 = lab.node("node1")?;
        edit(&bgp(lab), IPV4, &format!("{IPV4}  ttlSecurity: 1\n"))?;
        complains(node1, "tor-ipv4", &["ttl", "hop"])?;
        is_up(node1, "tor-ipv6")
    });
}

#[test]
fn a_wrong_as_number_is_named() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let node1 = lab.node("node1")?;
        edit(
            &bgp(lab),
            "  peerASN: 65000\n  families: [IPv4]\n",
            "  peerASN: 65999\n  families: [IPv4]\n",
        )?;
        complains(node1, "tor-ipv4", &["65000"])?;
        is_up(node1, "tor-ipv6")?;
        edit(&bgp(lab), "65999", "65000")?;
        cluster.converge(CONVERGENCE)
    });
}

#[test]
fn too_many_prefixes_end_that_session_only() {
    story("tor-frr", |lab| {
        lab.converged()?;
        let node1 = lab.node("node1")?;
        edit(
            &bgp(lab),
            IPV4,
            &format!("{IPV4}  maxPrefixes: {{count: 1, action: Shutdown, idleSeconds: 5}}\n"),
        )?;
        complains(node1, "tor-ipv4", &["prefix"])?;
        is_up(node1, "tor-ipv6")?;
        eventually(CONVERGENCE, "FRR was told why", || {
            let told = lab
                .node("tor")?
                .run(&["vtysh", "-c", "show bgp neighbors 10.0.0.1"])?;
            ensure!(
                told.contains("Maximum Number of Prefixes Reached"),
                "{told}"
            );
            Ok(())
        })
    });
}

#[test]
fn manifests_are_checked_with_file_line_and_column() {
    story("mesh", |lab| {
        let node1 = lab.node("node1")?;
        let check = |text: &str| -> Result<(i32, String)> {
            write(&node1.path("/tmp/x.yaml"), text)?;
            let done = node1.output(&["routelet", "check", "-f", "/tmp/x.yaml"])?;
            Ok((done.code, done.stdout + &done.stderr))
        };
        let configuration = |spec: &str| {
            format!(
                "apiVersion: routelet.dev/v1alpha1\nkind: BGPConfiguration\nmetadata: {{name: default}}\nspec:\n  {spec}\n"
            )
        };
        let (code, told) = check(&configuration("asNumer: 1"))?;
        ensure!(
            code != 0 && told.contains("x.yaml:5:3") && told.contains("asNumer"),
            "unknown field: {code} {told}"
        );
        let (code, told) = check(&configuration("timers: {holdSeconds: 2}"))?;
        ensure!(
            code != 0 && told.contains("hold"),
            "hold time of 2: {code} {told}"
        );
        let (code, told) = check(&configuration("timers: {holdSeconds: 9}"))?;
        ensure!(code == 0, "a good one: {code} {told}");
        let (code, told) = check("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")?;
        ensure!(
            code == 0 && told.contains("Deployment"),
            "an unknown kind is skipped with a warning: {code} {told}"
        );
        Ok(())
    });
}

#[test]
fn a_second_daemon_on_the_node_is_refused() {
    story("mesh", |lab| {
        let cluster = lab.converged()?;
        let node1 = lab.node("node1")?;
        let second = node1.output(&[
            "timeout",
            "20",
            "routelet",
            "run",
            "--node",
            "node1",
            "--config",
            "/etc/routelet",
        ])?;
        ensure!(
            second.code == 2 || second.code == 1,
            "exit code {}: {}{}",
            second.code,
            second.stdout,
            second.stderr
        );
        let told = (second.stdout + &second.stderr).to_lowercase();
        ensure!(
            told.contains("already") || told.contains("another"),
            "{told}"
        );
        always(Duration::from_secs(1), "the first one is unharmed", || {
            ensure!(cluster.missing()?.is_empty(), "{:?}", cluster.missing()?);
            Ok(())
        })
    });
}

#[test]
fn a_port_in_use_is_told_and_the_sessions_we_dial_come_up() {
    story("tor-frr", |lab| {
        let cluster = lab.converged()?;
        let node1 = lab.node("node1")?;
        lab.stop("node1", Signal::SIGKILL)?;
        let squatter = crate::tool(node1, &["squat", "179"])?;
        squatter.says("listening")?;
        lab.start("node1")?;
        eventually(CONVERGENCE, "status tells of the port", || {
            let told = node1.routelet(&["status"])?.to_string();
            ensure!(told.contains("179") && told.contains("in use"), "{told}");
            Ok(())
        })?;
        cluster.converge(CONVERGENCE)?;
        drop(squatter);
        eventually(CONVERGENCE, "the port is taken once it is free", || {
            let told = node1.run(&["ss", "-Hltn", "sport", "=", ":179"])?;
            ensure!(!told.trim().is_empty(), "nobody listens");
            Ok(())
        })
    });
}

#[test]
fn without_permission_it_says_what_is_missing() {
    story("mesh", |lab| {
        let node1 = lab.node("node1")?;
        lab.stop("node1", Signal::SIGTERM)?;
        let done = node1.output(&[
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--inh-caps=-all",
            "timeout",
            "20",
            "routelet",
            "run",
            "--node",
            "node1",
            "--config",
            "/etc/routelet",
            "--socket",
            "/tmp/s",
            "--state-dir",
            "/tmp/state",
        ])?;
        let told = done.stdout + &done.stderr;
        ensure!(done.code != 0 && done.code != 124, "it ran on: {told}");
        ensure!(
            told.contains("NET_ADMIN") || told.to_lowercase().contains("permi"),
            "{told}"
        );
        Ok(())
    });
}
