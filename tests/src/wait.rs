//! Waiting for something to become true: the one place of the lab that reads the clock and sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const POLL: Duration = Duration::from_millis(25);

/// The present moment, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "stories measure real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks until `look` succeeds, and hands back what it saw; after `deadline` the last failure is the error.
pub fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = now();
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(error) if start.elapsed() >= deadline => {
                return Err(error.context(format!(
                    "not within {:.1} s: {what}",
                    deadline.as_secs_f64()
                )));
            }
            Err(_) => pause(POLL),
        }
    }
}

/// Looks for the whole of `period`: an error as soon as `look` fails once.
pub fn always<T>(period: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<()> {
    let start = now();
    while start.elapsed() < period {
        look().map_err(|error| {
            error.context(format!(
                "did not hold after {:.1} s: {what}",
                start.elapsed().as_secs_f64()
            ))
        })?;
        pause(POLL);
    }
    Ok(())
}

/// Lets `period` pass where its length is itself the thing tested (a hold time, a restart window).
#[expect(clippy::disallowed_methods, reason = "the one sleep of the lab")]
pub fn pause(period: Duration) {
    std::thread::sleep(period);
}

/// `condition` as a result, for use in [`eventually`].
pub fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err(anyhow!(otherwise()))
    }
}
