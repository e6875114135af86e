//! What a load client hands back, over its standard output.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The sum of a client's requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests answered in full and correctly.
    pub ok: u64,
    /// Requests that were not, for any reason.
    pub failed: u64,
    /// The reasons, with how often.
    pub errors: BTreeMap<String, u64>,
    /// Answers by the backend that named itself in them.
    pub backends: BTreeMap<String, u64>,
    /// Answers by the source address the backend saw.
    pub sources: BTreeMap<String, u64>,
    /// The longest TCP handshake, in milliseconds; 0 for UDP.
    pub connect_ms_max: f64,
    /// The longest whole request, in milliseconds.
    pub request_ms_max: f64,
    /// When the failed requests were under way; of HTTP only.
    pub failures: Vec<Failure>,
}

/// When a request that failed was under way, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// It began.
    pub began_ms: u64,
    /// It had failed.
    pub ended_ms: u64,
}

/// A time in which a server was dead and nobody knew.
pub type Window = (SystemTime, SystemTime);

impl Report {
    /// Reads what [`Report::print`] wrote.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).with_context(|| format!("not a load report: {text:?}"))
    }

    /// Prints it as one line of JSON.
    pub fn print(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }

    /// Counts one good answer: its first word is the backend, its second the source it saw.
    pub fn answered(&mut self, text: &str, took: Duration) {
        let mut words = text.split_whitespace();
        self.ok += 1;
        for (counts, word) in
            [(&mut self.backends, words.next()), (&mut self.sources, words.next())]
        {
            *counts.entry(word.unwrap_or("?").to_owned()).or_default() += 1;
        }
        self.request_ms_max = self.request_ms_max.max(took.as_secs_f64() * 1e3);
    }

    /// Counts one failure.
    pub fn failed(&mut self, reason: &str) {
        self.failed += 1;
        *self.errors.entry(reason.to_owned()).or_default() += 1;
    }

    /// Counts one failure of a request that was under way so long.
    pub fn failed_while(&mut self, (began, ended): Window, reason: &str) {
        self.failed(reason);
        self.failures.push(Failure { began_ms: unix_ms(began), ended_ms: unix_ms(ended) });
    }

    /// How many of the failed requests were under way in none of these windows.
    pub fn failed_outside(&self, windows: &[Window]) -> usize {
        let is_in = |failure: &Failure, (from, to): Window| {
            failure.began_ms <= unix_ms(to) && failure.ended_ms >= unix_ms(from)
        };
        let outside = |it: &&Failure| !windows.iter().any(|window| is_in(it, *window));
        self.failures.iter().filter(outside).count()
    }

    /// Adds another thread's report.
    pub fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.connect_ms_max = self.connect_ms_max.max(other.connect_ms_max);
        self.request_ms_max = self.request_ms_max.max(other.request_ms_max);
        self.failures.extend(&other.failures);
        let pairs = [
            (&mut self.errors, &other.errors),
            (&mut self.backends, &other.backends),
            (&mut self.sources, &other.sources),
        ];
        for (mine, theirs) in pairs {
            for (word, count) in theirs {
                *mine.entry(word.clone()).or_default() += count;
            }
        }
    }

    /// Answers from this backend.
    pub fn backend(&self, name: &str) -> u64 {
        self.backends.get(name).copied().unwrap_or(0)
    }
}

fn unix_ms(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_two_reports_counts_both() {
        let (mut one, mut other) = (Report::default(), Report::default());
        one.answered("b1 10.0.0.1 99", Duration::from_millis(2));
        other.answered("b1 10.0.0.2 99", Duration::from_millis(7));
        other.answered("b2 10.0.0.2 98", Duration::from_millis(3));
        other.failed("connect: refused");
        one.add(&other);
        assert_eq!((one.ok, one.failed), (3, 1));
        assert_eq!((one.backend("b1"), one.backend("b2"), one.backend("b3")), (2, 1, 0));
        assert_eq!(one.sources["10.0.0.2"], 2);
        assert!((one.request_ms_max - 7.0).abs() < 0.001);
        assert_eq!(Report::parse(&serde_json::to_string(&one).unwrap()).unwrap(), one);
    }
    #[test]
    fn failures_are_told_apart_by_when_their_requests_were_under_way() {
        let moment = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let (mut one, mut other) = (Report::default(), Report::default());
        one.failed_while((moment(1000), moment(1500)), "read");
        other.failed_while((moment(3000), moment(3001)), "connect");
        one.add(&other);
        assert_eq!(one.failed, 2);
        let table = [
            (vec![], 2),
            (vec![(0, 999)], 2),
            (vec![(0, 1000)], 1),
            (vec![(1200, 1300)], 1),
            (vec![(1501, 2999)], 2),
            (vec![(1500, 3000)], 0),
            (vec![(900, 1000), (3001, 4000)], 0),
        ];
        for (windows, expected) in table {
            let windows: Vec<_> =
                windows.into_iter().map(|(from, to)| (moment(from), moment(to))).collect();
            assert_eq!(one.failed_outside(&windows), expected, "{windows:?}");
        }
    }
}
