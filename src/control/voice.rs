//! What is logged, so much and no more.
//!
//! | what may say much | how much of it is logged |
//! |---|---|
//! | a service: its health, edits and drains | [`LINES`] lines in [`WINDOW`], then how many it kept to itself ([`Voice`]) |
//! | one event, such as a reload of ten thousand services | its first [`LINES_OF_ONE`] lines, then how many more there were ([`Lines`]) |
//! | a list within a line | its first [`LISTED`] members, then how many more there are ([`listed`]) |
//!
//! A rack that loses power is a line for each backend; a thousand of them say nothing that ten do not. One service
//! that flaps takes nothing from another. Whoever asked gets all of it in the answer (`shunt reload`), and metrics count all.

use std::collections::HashMap;
use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

/// Lines of one service in a window.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one event.
pub const LINES_OF_ONE: usize = 20;
/// Members of a list.
const LISTED: usize = 10;

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

/// Lines of one event.
#[derive(Debug, Default)]
pub struct Lines {
    lines: usize,
}

impl Lines {
    /// May one more be logged?
    pub fn may_say(&mut self) -> bool {
        self.lines += 1;
        self.lines <= LINES_OF_ONE
    }

    /// How many were not, if any.
    pub fn kept(&self) -> Option<usize> {
        self.lines.checked_sub(LINES_OF_ONE).filter(|kept| *kept > 0)
    }
}

/// Has the first of them said, one by one. How many were not, if any.
pub fn say_first<T>(all: impl IntoIterator<Item = T>, say: impl Fn(T)) -> Option<usize> {
    let mut lines = Lines::default();
    for one in all {
        if lines.may_say() {
            say(one);
        }
    }
    lines.kept()
}

/// `10.0.0.1, 10.0.0.2 and 3 more`
pub fn listed<T: Display>(all: &[T]) -> String {
    let first: Vec<_> = all.iter().take(LISTED).map(T::to_string).collect();
    let mut text = first.join(", ");
    if all.len() > LISTED {
        let _ = write!(text, " and {} more", all.len() - LISTED);
    }
    text
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

    #[test]
    fn an_event_of_ten_thousand_lines_says_twenty_and_how_many_more() {
        for (all, said, kept) in
            [(0, 0, None), (20, 20, None), (21, 20, Some(1)), (10_000, 20, Some(9980))]
        {
            let count = std::cell::Cell::new(0);
            assert_eq!(say_first(0..all, |_| count.set(count.get() + 1)), kept, "of {all}");
            assert_eq!(count.get(), said, "of {all}");
        }
    }

    #[test]
    fn a_list_of_ten_thousand_is_a_line_that_can_be_read() {
        assert_eq!(listed::<u8>(&[]), "");
        assert_eq!(listed(&[1, 2, 3]), "1, 2, 3");
        let long = listed(&(0..10_000).collect::<Vec<u32>>());
        assert_eq!(long, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 9990 more");
    }
}
