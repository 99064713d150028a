//! BFD on the path to the peer: as the configuration says, and what follows from its news.

use std::task::{Context, Poll};

use super::{Running, command::held_down};
use crate::{bfd::Path, peer::fsm::Event};

impl Running {
    /// Watches the path, if it is to be watched; never that of a peer which the configuration holds down. The session is not
    /// touched, whatever changes.
    pub(super) fn watch_path(&mut self) {
        let config = self.fsm.config();
        let wanted = match held_down(config) {
            None => Path::of(config).zip(config.bfd),
            Some(_) => None,
        };
        match (wanted, &self.watch) {
            (Some((path, bfd)), Some(watch)) if *watch.path() == path => watch.configure(&bfd),
            (None, None) => {}
            (wanted, _) => {
                let name = self.reporter.name();
                self.watch = wanted.map(|(path, bfd)| self.bfd.watch(name, path, &bfd));
                self.feed(Event::BfdClear);
            }
        }
    }

    pub(super) fn poll_path(&mut self, context: &mut Context<'_>) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        let Poll::Ready(news) = watch.poll(context) else {
            return false;
        };
        let Some(news) = news else {
            // Its thread has ended; that was said when it did.
            self.watch = None;
            self.feed(Event::BfdClear);
            return true;
        };
        self.reporter.bfd(&news);
        self.feed(news.into());
        true
    }
}
