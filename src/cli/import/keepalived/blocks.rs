//! Words become statements, and statements blocks.
//!
//! ```text
//! real_server 10.0.0.1 80 {      Statement { words: [real_server, 10.0.0.1, 80], block: [
//!     weight 3                       Statement { words: [weight, 3] },
//! }                              ] }
//! ```
//!
//! A statement ends with its line, or with a brace. A brace may stand on the next line.

use super::super::ImportError;
use super::super::note::Place;
use super::source::Line;
use super::words::{Token, tokens};

/// Blocks within blocks: keepalived's own go four deep.
const DEPTH_MAX: usize = 32;

/// A keyword, what follows it on its line, and what follows in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Where it begins.
    pub(super) place: Place,
    /// The keyword and its values; never empty but for a block without a name.
    pub(super) words: Vec<String>,
    /// What is in its braces, if it has any.
    pub(super) block: Option<Vec<Statement>>,
}

impl Statement {
    /// What it is about.
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What is said about it.
    pub(super) fn values(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The first of its values.
    pub(super) fn value(&self) -> Option<&str> {
        self.values().first().map(String::as_str)
    }

    /// As it was written, in one line, for messages.
    pub(super) fn text(&self) -> String {
        let text = self.words.join(" ");
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(100).collect()
    }

    /// The statements in its braces.
    pub(super) fn inside(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Takes lines apart.
pub(super) fn parse(lines: &[Line]) -> Result<Vec<Statement>, ImportError> {
    // The innermost last; each with the statements around it that are complete.
    let mut open: Vec<Vec<Statement>> = vec![Vec::new()];
    for line in lines {
        let mut words = Vec::new();
        for token in tokens(&line.text) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => begin(&mut open, &line.place, std::mem::take(&mut words))?,
                Token::Close => {
                    complete(&mut open, &line.place, std::mem::take(&mut words));
                    end(&mut open, &line.place)?;
                }
            }
        }
        complete(&mut open, &line.place, words);
    }
    let whole = open.pop().unwrap_or_default();
    match open.last().and_then(|around| around.last()) {
        Some(unclosed) => {
            Err(ImportError::Unclosed { place: unclosed.place.clone(), what: unclosed.text() })
        }
        None => Ok(whole),
    }
}

fn complete(open: &mut [Vec<Statement>], place: &Place, words: Vec<String>) {
    if let (Some(inner), false) = (open.last_mut(), words.is_empty()) {
        inner.push(Statement { place: place.clone(), words, block: None });
    }
}

/// A brace opens: of the words before it, or else of the statement before that.
fn begin(
    open: &mut Vec<Vec<Statement>>,
    place: &Place,
    words: Vec<String>,
) -> Result<(), ImportError> {
    if open.len() > DEPTH_MAX {
        return Err(ImportError::TooMuch {
            place: place.clone(),
            what: format!("blocks more than {DEPTH_MAX} deep"),
        });
    }
    if let Some(inner) = open.last_mut() {
        let needs_one = inner.last().is_none_or(|last| last.block.is_some());
        if !words.is_empty() || needs_one {
            inner.push(Statement { place: place.clone(), words, block: None });
        }
        if let Some(owner) = inner.last_mut() {
            owner.block = Some(Vec::new());
        }
    }
    open.push(Vec::new());
    Ok(())
}

/// A brace closes.
fn end(open: &mut Vec<Vec<Statement>>, place: &Place) -> Result<(), ImportError> {
    if let [.., around, _] = open.as_mut_slice()
        && around.last().is_some()
    {
        let inside = open.pop();
        if let Some(owner) = open.last_mut().and_then(|around| around.last_mut()) {
            owner.block = inside;
        }
        return Ok(());
    }
    Err(ImportError::Unopened { place: place.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn parsed(text: &str) -> Result<Vec<Statement>, ImportError> {
        let file: Arc<str> = "t".into();
        let line = |(at, text): (usize, &str)| Line {
            place: Place::new(&file, at + 1),
            text: text.to_owned(),
        };
        parse(&text.lines().enumerate().map(line).collect::<Vec<_>>())
    }

    /// `keyword value(inside, inside)`.
    fn shown(statements: &[Statement]) -> String {
        let show = |statement: &Statement| match &statement.block {
            Some(block) => format!("{}({})", statement.text(), shown(block)),
            None => statement.text(),
        };
        statements.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn blocks_are_found_however_their_braces_stand() {
        let rows = [
            ("a {\n b 1\n c {\n d\n }\n}\ne", "a(b 1, c(d)), e"),
            ("a\n{\nb\n}", "a(b)"),
            ("a { b }", "a(b)"),
            ("a { b { c } d }", "a(b(c), d)"),
            ("a {\n}\nb", "a(), b"),
            ("{ a }", "(a)"),
        ];
        for (text, expected) in rows {
            assert_eq!(shown(&parsed(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_brace_without_its_other_is_told_with_its_line() {
        let rows = [
            ("a {\n b {\n }\n", "t:1: `a` has no closing brace"),
            ("a {\n}\n}\n", "t:3: a closing brace that closes nothing"),
            ("}", "t:1: a closing brace that closes nothing"),
        ];
        for (text, expected) in rows {
            let said = parsed(text).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
        let deep = "a {\n".repeat(40);
        assert!(parsed(&deep).unwrap_err().to_string().contains("32 deep"));
    }
}
