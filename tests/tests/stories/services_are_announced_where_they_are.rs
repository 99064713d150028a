//! Addresses of services: announced by every node, or by those that have an endpoint, as the service asks.

use anyhow::Result;
use serde_json::json;
use tests::kubernetes::{ControlPlane, story, v1};
use tests::scene::{SWITCH, SWITCH_OF_RACK, is_told_by};
use tests::segment::Segment;

const ADDRESS: &str = "192.0.2.10/32";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: {announce: \"yes\"}}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {type: LoadBalancer, ports: [{port: 80}]}
";

const ADVERTISEMENT: &str = "
apiVersion: routelet.dev/v1alpha1
kind: BGPAdvertisement
metadata: {name: services}
spec: {services: {selector: {matchLabels: {announce: \"yes\"}}}}
";

/// The service's endpoint is on that node.
fn endpoint(control: &ControlPlane<'_>, node: &str, ready: bool) -> Result<()> {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.9"], "nodeName": node, "conditions": {"ready": ready}}],
        "ports": [{"port": 80}],
    });
    control.apply(&slice.to_string())
}

/// What a load balancer controller does.
fn give_address(control: &ControlPlane<'_>, service: &str, address: &str) -> Result<()> {
    let path = format!("{}/status", v1("services", service));
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    control.patch(&path, &status).map(drop)
}

#[test]
fn a_load_balancer_address_follows_the_traffic_policy_and_the_endpoints() {
    let segment = Segment::named("services")
        .nodes(3)
        .frr("switch", 254, SWITCH);
    story(segment, |lab, control| {
        control.found(3)?;
        let switch = lab.node("switch")?;
        for node in ["node1", "node2", "node3"] {
            control.label(node, "rack=r1")?;
        }
        control.apply(SWITCH_OF_RACK)?;
        control.apply(SERVICE)?;
        give_address(control, "web", "192.0.2.10")?;
        give_address(control, "other", "192.0.2.11")?;
        endpoint(control, "node1", true)?;
        is_told_by(switch, ADDRESS, &[])?;

        control.apply(ADVERTISEMENT)?;
        is_told_by(switch, ADDRESS, &[1, 2, 3])?;
        let local = json!({"spec": {"externalTrafficPolicy": "Local"}});
        control.patch(&v1("services", "web"), &local)?;
        is_told_by(switch, ADDRESS, &[1])?;
        endpoint(control, "node2", true)?;
        is_told_by(switch, ADDRESS, &[2])?;
        endpoint(control, "node2", false)?;
        is_told_by(switch, ADDRESS, &[])?;
        endpoint(control, "node3", true)?;
        is_told_by(switch, ADDRESS, &[3])?;
        is_told_by(switch, "192.0.2.11/32", &[])?;
        control.delete(&v1("services", "web"))?;
        is_told_by(switch, ADDRESS, &[])
    });
}
