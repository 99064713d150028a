//! One speaker beside us: what is tried with it, and what either side then says.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::said::Said;
use super::settings::{Settings, THEIRS};
use super::speaker::{HANDS, Learned, PEER, Site, Speaker};
use crate::container::Container;
use crate::dissect::Judgement;
use crate::lab::Lab;
use crate::scene::Transport;
use crate::segment::Segment;
use crate::shell;
use crate::story::{self, at, write};
use crate::wait::eventually;

/// How long anything may take on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(120);

/// What the other side originates in every session.
pub(super) const THEIR_PODS: [&str; 2] = ["10.244.51.0/24", "fd00:10:244:51::/64"];
/// What we do.
const OUR_PODS: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

/// One speaker, and the session with it.
pub struct Column<'lab> {
    lab: &'lab Lab,
    speaker: &'static dyn Speaker,
    settings: Settings,
    count: u32,
    said: Said,
    /// Nothing but sessions came and went in it, so that a row may go on with it.
    untouched: bool,
}

impl<'lab> Column<'lab> {
    /// The lab that a column needs.
    pub fn lab(speaker: &dyn Speaker) -> Result<Lab> {
        Segment::named(&format!("matrix-{}", speaker.name().to_lowercase()))
            .manifest("bgp.yaml", &Settings::nobody())
            .routelet(1)
            .host(PEER, THEIRS)
            .host(HANDS, 61)
            .lab()
    }

    /// Nothing runs there yet. All that is said on its network from now on is captured.
    pub fn new(lab: &'lab Lab, speaker: &'static dyn Speaker) -> Result<Self> {
        // What a host has beside its own address is the other host's here.
        lab.node(PEER)?
            .sh("ip route del local 10.0.128.0/17 dev lo")?;
        let settings = Settings::external();
        Ok(Self {
            said: Said::listen(lab, &settings)?,
            lab,
            speaker,
            settings,
            count: 0,
            untouched: false,
        })
    }

    /// What an independent dissector makes of all that we have said.
    pub fn dissected(self) -> Result<Judgement> {
        self.said.judged()
    }

    /// Its name, and the version that it reports.
    pub fn head(speaker: &dyn Speaker) -> Result<String> {
        let [program, option] = speaker.version();
        let told = shell::output(Command::new(program).arg(option), "")?;
        let told = told.stdout + &told.stderr;
        let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        let version = told.split_whitespace().find(is_version);
        let version = version.with_context(|| format!("{program} tells no version: {told}"))?;
        Ok(format!("{} {version}", speaker.name()))
    }

    /// The other speaker.
    #[must_use]
    pub fn speaker(&self) -> &'static dyn Speaker {
        self.speaker
    }

    /// The other speaker in its place.
    #[must_use]
    pub fn site(&self) -> Site<'_> {
        Site {
            lab: self.lab,
            settings: &self.settings,
        }
    }

    /// The node we run on.
    pub fn node(&self) -> Result<&'lab Container> {
        self.lab.node("node1")
    }

    /// Where speakers by hand are at home.
    pub fn hands(&self) -> Result<&'lab Container> {
        self.lab.node(HANDS)
    }

    /// What the present peer is called in our configuration.
    #[must_use]
    pub fn name(&self) -> String {
        format!("peer{}", self.count)
    }

    /// Puts an end to the present session, and begins another one.
    pub fn arrange(&mut self, settings: Settings) -> Result<()> {
        self.leave()?;
        self.count += 1;
        self.untouched = false;
        self.said.next(self.lab, &settings)?;
        self.settings = settings;
        self.start_them()?;
        self.tell_us(&self.settings.manifest(&self.name()))
    }

    /// The same, and waits until it is up and both sides have what the other one originates.
    pub fn peering(&mut self, settings: Settings) -> Result<()> {
        self.arrange(settings)?;
        self.exchanged()
    }

    /// The same, but goes on with the session that the row before left, where it was found in this way too.
    pub fn again(&mut self, settings: Settings) -> Result<()> {
        if self.untouched && self.settings == settings {
            return self.exchanged();
        }
        self.peering(settings)?;
        self.untouched = true;
        Ok(())
    }

    /// A row has failed: no other goes on with its session, and whatever it left dead or cut off is not.
    pub fn spoilt(&mut self) -> Result<()> {
        self.untouched = false;
        let node1 = self.node()?;
        let _ = node1.heal("eth1");
        if node1.routelet(&["status"]).is_err() {
            self.start_us()?;
        }
        Ok(())
    }

    /// Nobody is our peer, and the other speaker is dead.
    fn leave(&self) -> Result<()> {
        // It runs for all but the first session.
        if self.lab.ended(PEER)?.is_none() {
            let _ = self.lab.stop(PEER, Signal::SIGKILL);
        }
        self.tell_us(&Settings::nobody())?;
        eventually(SOON, "nobody is our peer", || {
            let left = story::peers(self.node()?)?;
            ensure!(left.is_empty(), "{:?}", left.keys());
            Ok(())
        })
    }

    /// Starts the other speaker with what it originates.
    pub fn start_them(&self) -> Result<()> {
        self.speaker.start(&self.site(), &THEIR_PODS)
    }

    /// Starts us, as we were.
    pub fn start_us(&self) -> Result<()> {
        self.lab.start("node1")
    }

    /// Has us take over another configuration.
    pub fn tell_us(&self, manifest: &str) -> Result<()> {
        write(&self.lab.manifests().join("bgp.yaml"), manifest)
    }

    /// The present peer, as we see it.
    pub fn peer(&self) -> Result<Value> {
        story::peer(self.node()?, &self.name())
    }

    /// Waits until the session is up.
    pub fn up(&self) -> Result<()> {
        story::is_up(self.node()?, &self.name())
    }

    /// Waits until it is up, and both sides have what the other one originates, of the families that it carries.
    pub fn exchanged(&self) -> Result<()> {
        self.up()?;
        let theirs: Vec<&str> = self.their_pods().collect();
        eventually(SOON, "both sides have all", || {
            // One that is back may end once more: whoever dialled last, or saw the other's end late.
            let families = at(&self.peer()?, "/session/families")?.to_string();
            let carried = |prefix: &&str| families.contains("IPv6") || !prefix.contains(':');
            let known = self.received()?;
            for prefix in theirs.iter().copied().filter(carried) {
                ensure!(known.contains(prefix), "we have {known:?}");
            }
            let known = self.learned()?;
            for prefix in OUR_PODS.into_iter().filter(carried) {
                ensure!(known.contains_key(prefix), "they have {known:?}");
            }
            Ok(())
        })
    }

    /// Can they tell us of this prefix in this session?
    #[must_use]
    pub fn tells(&self, prefix: &str) -> bool {
        let over_ipv6 = self.settings.transport == Transport::IPv6;
        self.speaker.other_family().is_none()
            || self.settings.is_internal()
            || prefix.contains(':') == over_ipv6
    }

    /// What they originate in every session, as far as it comes through to us.
    pub(super) fn their_pods(&self) -> impl Iterator<Item = &'static str> {
        THEIR_PODS.into_iter().filter(|prefix| self.tells(prefix))
    }

    /// Waits for something that one of the sides should say.
    pub fn eventually<T>(&self, what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
        eventually(SOON, what, look)
    }

    /// What they have learned from us.
    pub fn learned(&self) -> Result<Learned> {
        self.speaker.learned(&self.site())
    }

    /// The prefixes that we have received from them.
    pub fn received(&self) -> Result<BTreeSet<String>> {
        let routes = self.routes()?;
        let prefix = |route: &Value| Some(route.get("prefix")?.as_str()?.to_owned());
        // Some tell us our own routes back, which are refused for the loop.
        let all = routes.iter().filter_map(prefix);
        Ok(all
            .filter(|prefix| !OUR_PODS.contains(&prefix.as_str()))
            .collect())
    }

    /// The routes that we have received from them.
    pub fn routes(&self) -> Result<Vec<Value>> {
        let words = ["routes", "received", &self.name(), "--limit", "0"];
        let shown = self.node()?.routelet(&words)?;
        Ok(at(&shown, "/routes")?.as_array().context("routes")?.clone())
    }

    /// Did they offer the capability of this name?
    pub fn offered(&self, capability: &str) -> Result<bool> {
        let peer = self.peer()?;
        let all = at(&peer, "/session/capabilities")?
            .as_array()
            .context("capabilities")?;
        Ok(all.iter().any(|known| {
            known.get("name") == Some(&capability.into())
                && known.get("theirs") == Some(&true.into())
        }))
    }

    /// Does what we last heard and said, or what became of the session, contain this?
    pub fn recorded(&self, kind: &str, words: &str) -> Result<()> {
        let peer = self.peer()?;
        let all = at(&peer, "/recorder")?.as_array().context("recorder")?;
        let is = |record: &&Value| {
            record.get("kind") == Some(&kind.into())
                && record
                    .get("what")
                    .and_then(Value::as_str)
                    .is_some_and(|what| what.contains(words))
        };
        all.iter()
            .find(is)
            .map(drop)
            .with_context(|| format!("no {kind} with {words} in {all:#?}"))
    }

    /// Did they write down these words?
    pub fn they_say(&self, words: &str) -> Result<()> {
        eventually(SOON, &format!("they say {words}"), || {
            let log = self.speaker.log(&self.site())?;
            ensure!(log.contains(words), "{}", story::last_lines(&log, 30));
            Ok(())
        })
    }

    /// The values of a field of tshark's in what we have said to them of late.
    pub fn captured(&self, field: &str) -> Result<Vec<String>> {
        self.said.values(field, &self.settings.our_address())
    }

    /// Ends the other speaker with this signal.
    pub fn stop_them(&self, signal: Signal) -> Result<()> {
        self.lab.stop(PEER, signal).map(drop)
    }

    /// Ends us with this signal.
    pub fn stop_us(&self, signal: Signal) -> Result<()> {
        self.lab.stop("node1", signal).map(drop)
    }
}
