//! What SYN cookies are keyed with: a secret of the system's, renewed with the first snapshot an hour
//! after the last. The one before goes with it, for cookies that are under way.

use std::time::{Duration, Instant};

use crate::dataplane::cookie::Secret;

/// How long a secret is used. Much longer than any cookie is taken.
pub const RENEWED_EVERY: Duration = Duration::from_secs(3600);

/// The secrets in use.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// The one that cookies are made with, and the one before.
    pub(super) now: [Secret; 2],
    since: Option<Instant>,
}

impl Secrets {
    /// Has another one made if it is time.
    pub(super) fn renew(&mut self, now: Instant) -> Result<(), getrandom::Error> {
        let is_young = |since| now.saturating_duration_since(since) < RENEWED_EVERY;
        if self.since.is_some_and(is_young) {
            return Ok(());
        }
        let fresh = Secret::random()?;
        // The first has none before it: nobody must guess what zeros would give.
        let before = if self.since.is_some() { self.now[0] } else { fresh };
        self.now = [fresh, before];
        self.since = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_lasts_an_hour_and_then_serves_as_the_one_before() {
        let (mut secrets, start) = (Secrets::default(), Instant::now());
        secrets.renew(start).unwrap();
        let [first, before] = secrets.now;
        assert!(first == before && first != Secret::default());
        secrets.renew(start + Duration::from_secs(3599)).unwrap();
        assert!(secrets.now == [first, first]);
        secrets.renew(start + RENEWED_EVERY).unwrap();
        assert!(secrets.now[1] == first && secrets.now[0] != first);
    }
}
