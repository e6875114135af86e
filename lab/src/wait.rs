//! Waiting for a fact, with a deadline: the lab never sleeps and hopes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a fact is looked at again.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `probe` yields something, or fails naming `what` after `timeout`. An error from the
/// probe ends the wait at once.
pub fn until<T>(
    what: &str,
    timeout: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if start.elapsed() >= timeout {
            bail!("waited {} ms for {what}", timeout.as_millis());
        }
        sleep(PAUSE);
    }
}

/// [`until`] for a fact that is true or not.
pub fn until_true(
    what: &str,
    timeout: Duration,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, timeout, || Ok(probe()?.then_some(())))
}
