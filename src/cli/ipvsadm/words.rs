//! A command line taken apart, in the manner of `popt`, which `ipvsadm` reads its own with.
//!
//! Words are given out one by one, as values are judged in the same order: `-w x --nonsense` is about the weight.
//!
//! | written | is |
//! |---|---|
//! | `-Ln` | `-L` and `-n` |
//! | `-t ADDR`, `-tADDR`, `-t=ADDR`, `--tcp-service ADDR`, `--tcp-service=ADDR` | the same |
//! | `-p`, `-p 300`, `-p -t` | a value if what follows does not begin with a dash |
//! | `foo`, `-`, all after `--` | left over |
//!
//! A long word is written out: there are no abbreviations.

use std::collections::VecDeque;

use super::options::{FULLNAT, Opt, SPELLINGS, Spelling, Takes, Verb, Word};

/// One word, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its meaning.
    pub word: Word,
    /// Its value, if it has one.
    pub value: Option<String>,
    /// As written, with its neighbours if it is one of several letters.
    pub text: String,
}

/// What cannot be taken apart: the word as written, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}: {wrong}")]
pub struct BadWord {
    text: String,
    wrong: &'static str,
}

/// A command line that is being read.
#[derive(Debug)]
pub struct Words {
    line: VecDeque<String>,
    /// Letters of a word like `-Ln` that are still to come, and the whole of it.
    letters: VecDeque<char>,
    text: String,
    /// What belongs to no option, so far.
    pub left_over: Vec<String>,
    verb: Option<Verb>,
}

impl Words {
    /// A line, without the program's name.
    pub fn new(line: impl IntoIterator<Item = String>) -> Self {
        let line = line.into_iter().collect();
        let (letters, text, left_over) = (VecDeque::new(), String::new(), Vec::new());
        Self { line, letters, text, left_over, verb: None }
    }

    /// The next word; `None` at the end.
    pub fn word(&mut self) -> Result<Option<Said>, BadWord> {
        if let Some(letter) = self.letters.pop_front() {
            return self.letter(letter).map(Some);
        }
        while let Some(text) = self.line.pop_front() {
            if text == "--" {
                self.left_over.extend(self.line.drain(..));
            } else if let Some(long) = text.strip_prefix("--") {
                let long = long.to_owned();
                self.text = text;
                return self.long(&long).map(Some);
            } else if let Some(letters) = text.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                self.letters = letters.chars().collect();
                self.text = text;
                let first = self.letters.pop_front().unwrap_or_default();
                return self.letter(first).map(Some);
            } else {
                self.left_over.push(text);
            }
        }
        Ok(None)
    }

    fn long(&mut self, written: &str) -> Result<Said, BadWord> {
        let (name, value) = match written.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (written, None),
        };
        let known = SPELLINGS.iter().find(|it| it.long == name);
        let spelling = *known.ok_or_else(|| self.bad("unknown option"))?;
        match (spelling.takes, value) {
            (Takes::Nothing, Some(_)) => Err(self.bad("option does not take an argument")),
            (Takes::Nothing, None) => Ok(self.said(spelling, None)),
            (_, Some(value)) => Ok(self.said(spelling, Some(value))),
            (_, None) => self.following(spelling),
        }
    }

    fn letter(&mut self, letter: char) -> Result<Said, BadWord> {
        let known = SPELLINGS.iter().find(|it| it.short == Some(letter));
        let mut spelling = *known.ok_or_else(|| self.bad("unknown option"))?;
        if spelling.word == Word::Opt(Opt::SchedFlags) && self.is_about_a_server() {
            spelling = FULLNAT;
        }
        if spelling.takes == Takes::Nothing {
            return Ok(self.said(spelling, None));
        }
        let rest: String = self.letters.drain(..).collect();
        if rest.is_empty() {
            return self.following(spelling);
        }
        let value = rest.strip_prefix('=').unwrap_or(&rest).to_owned();
        Ok(self.said(spelling, Some(value)))
    }

    fn is_about_a_server(&self) -> bool {
        matches!(self.verb, Some(Verb::AddServer | Verb::EditServer))
    }

    /// The value is what follows.
    fn following(&mut self, spelling: Spelling) -> Result<Said, BadWord> {
        let dashed = self.line.front().is_none_or(|next| next.starts_with('-'));
        if spelling.takes == Takes::Perhaps && dashed {
            return Ok(self.said(spelling, None));
        }
        let value = self.line.pop_front().ok_or_else(|| self.bad("missing argument"))?;
        Ok(self.said(spelling, Some(value)))
    }

    fn said(&mut self, spelling: Spelling, value: Option<String>) -> Said {
        if let (None, Word::Verb(verb)) = (self.verb, spelling.word) {
            self.verb = Some(verb);
        }
        Said { word: spelling.word, value, text: self.text.clone() }
    }

    fn bad(&self, wrong: &'static str) -> BadWord {
        BadWord { text: self.text.clone(), wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Taken = (Vec<(Word, Option<String>)>, Vec<String>, Option<String>);

    fn words(line: &str) -> Taken {
        let mut words = Words::new(line.split_whitespace().map(str::to_owned));
        let mut all = Vec::new();
        let wrong = loop {
            match words.word() {
                Ok(Some(said)) => all.push((said.word, said.value)),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        (all, words.left_over, wrong)
    }

    #[test]
    fn a_value_may_be_written_in_five_ways() {
        let value = Some("192.0.2.1:80".to_owned());
        let expected = vec![(Word::Verb(Verb::AddService), None), (Word::Tcp, value)];
        for line in [
            "-A -t 192.0.2.1:80",
            "-A -t192.0.2.1:80",
            "-At=192.0.2.1:80",
            "-At 192.0.2.1:80",
            "--add-service --tcp-service 192.0.2.1:80",
            "--add-service --tcp-service=192.0.2.1:80",
        ] {
            assert_eq!(words(line), (expected.clone(), vec![], None), "{line}");
        }
    }

    #[test]
    fn b_is_a_way_of_forwarding_with_servers_and_flags_with_services() {
        let verb = |line: &str| words(line).0.into_iter().skip(1).collect::<Vec<_>>();
        assert_eq!(
            verb("-a -bw 5"),
            [(Word::Fullnat, None), (Word::Opt(Opt::Weight), Some("5".into()))]
        );
        assert_eq!(verb("-A -b sh-port"), [(Word::Opt(Opt::SchedFlags), Some("sh-port".into()))]);
    }

    #[test]
    fn what_is_no_option_is_left_over() {
        let (all, left, wrong) = words("foo -L - -n -- -c bar");
        assert_eq!(all.len(), 2);
        assert_eq!(left, ["foo", "-", "-c", "bar"]);
        assert_eq!(wrong, None);
    }
}
