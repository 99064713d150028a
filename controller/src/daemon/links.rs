//! What the node's links do to the daemon: sessions end with them, and peers are found on them.

use std::sync::Arc;

use fib::{Fib, LinkEvent};
use tokio::sync::{broadcast::error::RecvError, watch};

use super::{Daemon, pumps};
use crate::{
    cluster::Addresses,
    desired::{Facts, Subnet, desired, found},
    gateways::default_gateways,
    journal::Kind,
};

impl Daemon<'_> {
    /// An interface or an address of ours changed.
    pub(super) async fn link(&mut self, event: Result<LinkEvent, RecvError>) {
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => {
                self.journal(Kind::Problem, "the installer has ended; its log says why");
                return;
            }
        };
        let (text, lost) = pumps::link(&event);
        self.journal(Kind::Link, text);
        if let (Some((interface, addresses, gone)), Some(speaker)) =
            (lost, &*self.running.speaker.read().await)
        {
            speaker.lost(&interface, &addresses, gone);
        }
        let gateways = default_gateways(&self.cluster);
        if gateways != self.facts.default_gateways {
            self.facts.default_gateways = gateways;
            self.apply("the default route has changed").await;
        }
        let own = self.cluster.addresses(&self.options.node);
        let subnets = subnets(self.running.fib.as_ref(), own);
        if subnets != self.facts.subnets {
            self.facts.subnets = subnets;
            self.apply("an address of this node came or went").await;
        }
    }

    /// Looks for peers on the links that the cluster names now.
    pub(super) fn look_on_links(&self) {
        let wanted = found::links(&self.cluster, &self.options.node);
        self.discovery.watch(wanted);
    }

    /// Something is other than before on a link that peers are found on.
    pub(super) async fn found(&mut self, links: Arc<discovery::Links>) {
        let before = self.facts.links.replace((*links).clone());
        let news = told(&before.unwrap_or_default(), &links);
        let facts = Facts {
            duty: self.service.duty(),
            deleted: self.service.is_deleted(),
            ..self.facts.clone()
        };
        let next = desired(&self.cluster, &self.options.node, &facts);
        let now = self.running.now().desired;
        if next.speaker != now.speaker || next.problems != now.problems {
            self.apply(&news).await;
        }
    }
}

/// The node's own addresses as its interfaces have them. Only who installs routes follows the interfaces.
pub(super) fn subnets(fib: Option<&Fib>, own: Addresses) -> Vec<Subnet> {
    let links = fib.map(|fib| fib.links().borrow().clone());
    let links = links.iter().flat_map(|links| links.iter());
    let mut subnets: Vec<Subnet> = links
        .flat_map(|link| {
            let here = link.addresses.iter();
            here.filter(|address| own.each().any(|own| own == address.ip()))
                .map(|address| Subnet {
                    address: *address,
                    interface: link.name.clone(),
                })
        })
        .collect();
    subnets.sort();
    subnets
}

/// What has changed, in words.
fn told(before: &discovery::Links, now: &discovery::Links) -> String {
    let routers = now.iter().filter_map(|(name, link)| {
        let router = link.router?;
        let known = before.get(name).and_then(|link| link.router);
        (known != Some(router)).then(|| format!("the router on {name} is {router}"))
    });
    let routers: Vec<String> = routers.collect();
    if routers.is_empty() {
        return "a link that peers are found on has changed".into();
    }
    routers.join(", ")
}

/// The next change of the links that peers are found on.
pub(super) async fn next(
    links: &mut watch::Receiver<Arc<discovery::Links>>,
) -> Arc<discovery::Links> {
    if links.changed().await.is_err() {
        // Whoever looked has ended.
        return std::future::pending().await;
    }
    Arc::clone(&links.borrow_and_update())
}
