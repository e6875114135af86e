//! What an import has to say of lines it could not carry over, or not as they were.
//!
//! ```text
//! lb.conf:12: not carried over: `quorum_up`: Shunt starts no scripts; … (also lines 30, 48)
//! lb.conf:31: changed: `persistence_timeout 5`: …
//! lb.conf:2:  remark: `vrrp_instance VI_1`: …
//! ```
//!
//! Only the first kind matters to the exit code: something the old balancer did will not be done.
//! The same said of many lines is said once, with all the lines: a file of five hundred services
//! makes the same few mistakes five hundred times.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as it was named.
    #[serde(serialize_with = "text")]
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

impl Place {
    /// A line of a file.
    pub(super) fn new(file: &Arc<str>, line: usize) -> Self {
        Self { file: Arc::clone(file), line }
    }
}

fn text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// What it asked for will not be done.
    Lost,
    /// It is carried over, but not as it was.
    Changed,
    /// It was not meant to be carried over, or makes no difference.
    Remark,
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "not carried over",
            Self::Changed => "changed",
            Self::Remark => "remark",
        })
    }
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// Where; the first first.
    pub places: Vec<Place>,
    /// What is written there.
    pub what: String,
    /// Why it is not as it was.
    pub why: String,
    /// What to do about it; empty for nothing.
    pub mend: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.places.first() else { return Ok(()) };
        write!(f, "{first}: {}: `{}`: {}", self.weight, self.what, self.why)?;
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        let mut others = self.places.iter().skip(1).peekable();
        if others.peek().is_none() {
            return Ok(());
        }
        let name = |place: &Place| {
            let is_other = place.file != first.file;
            if is_other { place.to_string() } else { place.line.to_string() }
        };
        let others: Vec<String> = others.map(name).collect();
        let lines = if others.len() == 1 { "line" } else { "lines" };
        write!(f, " (also {lines} {})", others.join(", "))
    }
}

/// All there is to say, in the order it was found.
#[derive(Debug, Default)]
pub(super) struct Notes {
    all: Vec<Note>,
    /// Which of them says this.
    said: HashMap<(Weight, [String; 3]), usize>,
}

impl Notes {
    /// What `what` asks for will not be done.
    pub(super) fn lost(&mut self, place: &Place, what: &str, why: &str, mend: &str) {
        self.add(Weight::Lost, place, what, why, mend);
    }

    /// It is carried over, but not as it was.
    pub(super) fn changed(&mut self, place: &Place, what: &str, why: &str) {
        self.add(Weight::Changed, place, what, why, "");
    }

    /// It is nothing to carry over.
    pub(super) fn remark(&mut self, place: &Place, what: &str, why: &str) {
        self.add(Weight::Remark, place, what, why, "");
    }

    fn add(&mut self, weight: Weight, place: &Place, what: &str, why: &str, mend: &str) {
        let words = [what, why, mend].map(str::to_owned);
        let at = *self.said.entry((weight, words.clone())).or_insert(self.all.len());
        let [what, why, mend] = words;
        match self.all.get_mut(at) {
            Some(note) if note.places.last() == Some(place) => {}
            Some(note) => note.places.push(place.clone()),
            None => {
                let places = vec![place.clone()];
                self.all.push(Note { weight, places, what, why, mend });
            }
        }
    }

    /// All of them.
    pub(super) fn into_inner(self) -> Vec<Note> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_of_many_lines_is_said_once_with_all_the_lines() {
        let (own, other): (Arc<str>, Arc<str>) = ("lb.conf".into(), "more.conf".into());
        let mut notes = Notes::default();
        for place in [Place::new(&own, 12), Place::new(&own, 30), Place::new(&other, 2)] {
            notes.lost(&place, "quorum_up", "no scripts", "watch");
            notes.lost(&place, "quorum_up", "no scripts", "watch");
        }
        notes.remark(&Place::new(&own, 1), "vrrp_instance A", "keepalived's");
        let said: Vec<String> = notes.into_inner().iter().map(ToString::to_string).collect();
        let lost = "lb.conf:12: not carried over: `quorum_up`: no scripts; watch \
                    (also lines 30, more.conf:2)";
        assert_eq!(said, [lost, "lb.conf:1: remark: `vrrp_instance A`: keepalived's"]);
    }
}
