//! What SYN cookies are keyed with: a secret of the system's, renewed with the first snapshot an hour
//! after the last. The one before goes with it for cookies that are under way, and is forgotten with the
//! first snapshot after none of its cookies can be taken any more: every secret that is taken makes
//! guessing easier.

use std::time::{Duration, Instant};

use crate::dataplane::cookie::{LIFE_MS, Secret};

/// How long a secret is used. Much longer than any cookie is taken.
pub const RENEWED_EVERY: Duration = Duration::from_secs(3600);

/// How long the one before is taken: as long as a cookie may live, and a while in which workers take the
/// snapshot with the new one into use.
pub const FORGOTTEN_AFTER: Duration = Duration::from_millis(LIFE_MS as u64 + 10_000);

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
        let age = self.since.map(|since| now.saturating_duration_since(since));
        if let Some(age) = age.filter(|age| *age < RENEWED_EVERY) {
            if age >= FORGOTTEN_AFTER {
                self.now[1] = self.now[0];
            }
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
    fn a_secret_lasts_an_hour_and_then_as_long_as_its_cookies() {
        let (mut secrets, start) = (Secrets::default(), Instant::now());
        secrets.renew(start).unwrap();
        let [first, before] = secrets.now;
        assert!(first == before && first != Secret::default());
        secrets.renew(start + Duration::from_secs(3599)).unwrap();
        assert!(secrets.now == [first, first]);
        secrets.renew(start + RENEWED_EVERY).unwrap();
        assert!(secrets.now[1] == first && secrets.now[0] != first);
        let second = secrets.now[0];
        secrets.renew(start + RENEWED_EVERY + Duration::from_secs(132)).unwrap();
        assert!(secrets.now == [second, first], "cookies may live so long");
        secrets.renew(start + RENEWED_EVERY + FORGOTTEN_AFTER).unwrap();
        assert!(secrets.now == [second, second]);
    }
}
