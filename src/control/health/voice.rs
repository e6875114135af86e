//! What is logged of a service's health, so much and no more.
//!
//! A rack that loses power is a line for each backend; a thousand of them say nothing that ten do not. Each
//! service may say [`LINES`] in [`WINDOW`], and then how many it kept to itself. One service that flaps takes
//! nothing from another.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Lines of one service in a window.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Who has said how much.
#[derive(Debug, Default)]
pub struct Voice {
    services: HashMap<String, Said>,
}

#[derive(Debug)]
struct Said {
    since: Instant,
    lines: u32,
    kept: u64,
}

impl Voice {
    /// May this service say a line?
    pub fn may_say(&mut self, service: &str, now: Instant) -> bool {
        if !self.services.contains_key(service) {
            let said = Said { since: now, lines: 0, kept: 0 };
            self.services.insert(service.to_owned(), said);
        }
        let Some(said) = self.services.get_mut(service) else { return true };
        said.lines += 1;
        said.kept += u64::from(said.lines > LINES);
        said.lines <= LINES
    }

    /// Whose windows are over, and how many lines each kept to itself, if any.
    pub fn kept(&mut self, now: Instant) -> Vec<(String, u64)> {
        let is_over = |said: &Said| now.duration_since(said.since) >= WINDOW;
        let over: Vec<String> = self
            .services
            .iter()
            .filter(|(_, said)| is_over(said))
            .map(|(service, _)| service.clone())
            .collect();
        let kept = over.into_iter().filter_map(|service| {
            let said = self.services.remove(&service)?;
            Some((service, said.kept))
        });
        kept.filter(|(_, kept)| *kept > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_says_ten_lines_in_ten_seconds_and_then_how_many_it_kept() {
        let (mut voice, start) = (Voice::default(), Instant::now());
        let said =
            |voice: &mut Voice, n: usize| (0..n).filter(|_| voice.may_say("web", start)).count();
        assert_eq!(said(&mut voice, 37), 10);
        assert!(voice.may_say("dns", start), "another's voice is its own");
        assert_eq!(voice.kept(start + WINDOW / 2), vec![]);
        assert_eq!(voice.kept(start + WINDOW), vec![("web".to_owned(), 27)]);
        assert_eq!(said(&mut voice, 37), 10);
    }
}
