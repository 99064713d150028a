//! … with a peer more than one hop away (RFC 5883), and with one of our own AS that is not known before it dials.

use super::*;

/// FRR's name among the peers of node1: it comes out of a range.
const MEMBER: &str = "inside/10.0.0.254";

fn manifest(bfd: &str) -> String {
    scene::configuration(PATIENT)
        + &scene::peer("bird", BIRD, Transport::IPv4)
        + "  ebgpMultihop: 2\n"
        + bfd
        + "---\napiVersion: routelet.dev/v1alpha1\nkind: BGPPeer\nmetadata: {name: inside}\nspec:\n  peerRange: 10.0.0.254/32\n  peerASN: Internal\n"
        + bfd
}

/// Far from what FRR and BIRD miss on a busy machine: the stories beside this one are about intervals.
const SLOW: Pace = Pace(700);

/// The session once it has lasted for a while: FRR begins its BFD anew after BGP is up, and may end the first one with it.
fn lasting<'lab>(node: &'lab Container, name: &str) -> Result<Steady<'lab>> {
    eventually(3 * SOON, &format!("a session with {name} lasts"), || {
        let steady = Steady::session(node, name)?;
        pause(Duration::from_secs(2));
        steady.holds()?;
        Ok(steady)
    })
}

/// BFD of the two, and over how many hops.
fn watched_as_configured(lab: &Lab) -> Result<()> {
    let node1 = lab.node("node1")?;
    for (name, multihop) in [("bird", true), (MEMBER, false)] {
        watched(node1, name)?;
        // FRR may just be beginning anew, and a member is a peer no longer than its session.
        eventually(
            SOON,
            &format!("{name} over several hops: {multihop}"),
            || {
                let bfd = bfd(node1, name)?;
                ensure!(at(&bfd, "/multihop")? == multihop, "{bfd:#}");
                Ok(())
            },
        )?;
    }
    for (_, prefix) in routes(Transport::IPv4) {
        eventually(SOON, "its routes are in", || {
            node1.our_route(prefix).map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn a_peer_over_several_hops_and_one_out_of_a_range_are_watched_too() {
    let Pace(pace) = SLOW;
    let transport = Transport::IPv4;
    let inside = frr(transport, SLOW).replace("65254", "65001");
    let outside = format!(
        "protocol bfd {{\n\tmultihop {{ min rx interval {pace} ms; min tx interval {pace} ms; multiplier 3; }};\n}}\n{}",
        scene::bird(transport, "multihop 2; bfd yes;")
    );
    let bfd = format!("  bfd: {{minRxMs: {pace}, minTxMs: {pace}, multiplier: 3}}\n");
    let segment = Segment::named("bfdfar")
        .manifest("bgp.yaml", &manifest(&bfd))
        .routelet(1)
        .frr("frr", FRR, &inside)
        .bird("bird", BIRD, &outside);
    alone(&segment, |lab| {
        let node1 = lab.node("node1")?;
        is_up(node1, "bird")?;
        // It opens its socket for this once, as it starts, and its address may not have been there yet.
        lab.node("bird")?.run(&["birdc", "restart", "bfd1"])?;
        watched_as_configured(lab)?;
        let [(frr, told_by_frr), (bird, told_by_bird)] = routes(transport);
        for ((router, prefix), other) in
            [((frr, told_by_frr), "bird"), ((bird, told_by_bird), MEMBER)]
        {
            let steady = lasting(node1, other)?;
            lab.node(router)?.black_hole("eth1")?;
            eventually(SOON, &format!("{router}'s routes are gone"), || {
                node1.no_route_of_ours(prefix)
            })?;
            steady.holds()?;
            lab.node(router)?.heal("eth1")?;
            watched_as_configured(lab)?;
            steady.holds()?;
        }
        // Ours is seen as well: they come back to us with their BFD.
        lab.stop("node1", Signal::SIGKILL)?;
        lab.start("node1")?;
        watched_as_configured(lab)
    });
}
