//! The task that looks: opens the kernel while anything is wanted, reads it whenever it says that something has changed, and
//! says on links that we are there.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::AbortHandle};
use tracing::{debug, warn};

use crate::{
    icmp::Icmp,
    kernel::Kernel,
    links::{Aim, Links, Wanted, doubts, links, stages},
    schedule::{Place, Schedule},
};

/// Looks for routers on links. Dropping it ends that.
#[derive(Debug)]
pub struct Discovery {
    wanted: watch::Sender<Wanted>,
    links: watch::Receiver<Arc<Links>>,
    task: AbortHandle,
}

/// From one attempt to open the kernel to the next.
const RETRY: Duration = Duration::from_secs(1);
/// How long the first look may take.
const FIRST: Duration = Duration::from_secs(2);

impl Discovery {
    /// Looks on these links, and returns after a first look. Where none is wanted nothing is opened. The network namespace is
    /// that of the runtime's threads.
    pub async fn start(wanted: Wanted) -> Self {
        let (wanted, wishes) = watch::channel(wanted);
        let (found, links) = watch::channel(Arc::default());
        let discovery = Self {
            task: tokio::spawn(run(wishes, found)).abort_handle(),
            wanted,
            links,
        };
        if !discovery.wanted.borrow().is_empty() {
            let mut links = discovery.links.clone();
            if tokio::time::timeout(FIRST, links.changed()).await.is_err() {
                warn!("the kernel's links and neighbours could not be read at once");
            }
        }
        discovery
    }

    /// Looks on these links from now on.
    pub fn watch(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// The links that are wanted and there.
    #[must_use]
    pub fn links(&self) -> watch::Receiver<Arc<Links>> {
        self.links.clone()
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver waits before it opens the kernel again"
)]
async fn run(mut wanted: watch::Receiver<Wanted>, found: watch::Sender<Arc<Links>>) {
    loop {
        if wanted.wait_for(|wanted| !wanted.is_empty()).await.is_err() {
            return;
        }
        let Err(error) = look(&mut wanted, &found).await else {
            found.send_replace(Arc::default());
            continue;
        };
        warn!(error, "looking for routers is begun anew");
        tokio::time::sleep(RETRY).await;
    }
}

/// Looks until nothing is wanted, or until it fails: why.
async fn look(
    wanted: &mut watch::Receiver<Wanted>,
    found: &watch::Sender<Arc<Links>>,
) -> Result<(), String> {
    let mut kernel = Kernel::open().map_err(|error| error.to_string())?;
    let mut voice = Voice::default();
    loop {
        let wishes = wanted.borrow_and_update().clone();
        if wishes.is_empty() {
            return Ok(());
        }
        let reading = kernel.read().await.map_err(|error| error.to_string())?;
        let before = Arc::clone(&found.borrow());
        let mut now = links(&before, &reading, &wishes);
        for (interface, router) in doubts(&before, &now) {
            debug!(interface, %router, "another router has turned up: is this one still there?");
            if let Err(error) = kernel.probe(interface, router).await {
                debug!(%error, "it cannot be asked for");
            }
        }
        voice.go_over(wishes.values().any(|aim| *aim == Aim::Meet));
        voice.speak_at(&stages(&now, &reading, &wishes));
        for link in now.values_mut() {
            link.mute.clone_from(&voice.mute);
        }
        let now = Arc::new(now);
        found.send_if_modified(|known| {
            let changed = **known != *now;
            *known = Arc::clone(&now);
            changed
        });
        tokio::select! {
            changed = kernel.changed() => {
                changed.map_err(|_| "the kernel's news were lost".to_owned())?;
            }
            changed = wanted.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = voice.speak(&now) => {}
        }
    }
}

/// What we say on links, where we may.
#[derive(Default)]
struct Voice {
    icmp: Option<Icmp>,
    /// Why we may not.
    mute: Option<String>,
    schedule: Schedule,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver reads the clock and sleeps until the next advertisement is due"
)]
impl Voice {
    /// Opens the socket where it is needed.
    fn go_over(&mut self, needed: bool) {
        if !needed {
            self.icmp = None;
        } else if self.icmp.is_none() {
            match Icmp::open() {
                Ok(icmp) => {
                    self.icmp = Some(icmp);
                    self.mute = None;
                }
                Err(error) => self.mute = Some(in_words(&error)),
            }
        }
    }

    fn speak_at(&mut self, places: &[Place]) {
        let Some(icmp) = &self.icmp else {
            return self.schedule = Schedule::default();
        };
        for (link, _) in places {
            icmp.join(*link);
        }
        self.schedule.set(Instant::now(), places);
    }

    /// Speaks when it is time, and answers who asks; for ever, unless the socket fails.
    async fn speak(&mut self, links: &Links) {
        let Some(icmp) = &self.icmp else {
            return std::future::pending().await;
        };
        let link = |index| links.values().find(|link| link.index == index);
        loop {
            for place in self.schedule.due(Instant::now()) {
                let Some(link) = link(place.0) else { continue };
                icmp.advertise(place, &link.link_layer, None);
                if link.routers.is_empty() {
                    icmp.solicit(place, &link.link_layer);
                }
            }
            tokio::select! {
                asked = icmp.asked() => {
                    let (index, who) = match asked {
                        Ok(asked) => asked,
                        Err(error) => {
                            warn!(%error, "router solicitations cannot be read");
                            self.icmp = None;
                            return;
                        }
                    };
                    if let (Some(link), Some(place)) =
                        (link(index), self.schedule.asked(Instant::now(), index))
                    {
                        icmp.advertise(place, &link.link_layer, Some(who));
                    }
                }
                () = until(self.schedule.next_timeout()) => {}
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "sending router advertisements takes the capability NET_RAW".into()
        }
        _ => format!("router advertisements cannot be sent: {error}"),
    }
}
