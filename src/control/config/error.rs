//! What is wrong with a configuration, and where.
//!
//! ```text
//! shunt.toml:12:1: unknown key `wieght`; known keys here: address, weight, mode, tunnel
//!    12 | wieght = 1
//!       | ^^^^^^
//!       help: did you mean `weight`?
//! ```
//!
//! Everything that can be wrong with a file is said in this one shape, by [`render`]. Text of the
//! file that is shown again is made harmless first (no control characters, no endless lines): it
//! may be any file at all, and the reader's terminal is not ours to write to.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::files::Files;

/// Most problems reported of one file; how many more there are is said below them.
pub const REPORTED_MAX: usize = 20;
/// Characters of a source line shown at most.
const LINE_MAX: usize = 96;

/// Why a configuration file could not be used. Its text is complete: file, place, reason, remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read as text.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// One sentence.
        reason: String,
    },
    /// The file was read and is wrong.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

/// Everything found wrong with one text, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// Each message rendered in full, several lines each; at least one, at most [`REPORTED_MAX`].
    pub messages: Vec<String>,
    /// Problems found beyond those.
    pub more: usize,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("\n"))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// Bytes of the files, numbered through; `None` for something that is missing from all of it.
pub(super) type Span = Option<Range<usize>>;

/// One thing wrong, or worth a warning, and the part of the file it is about.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Collects problems while validation goes on.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Problems {
    /// Something that makes the file unusable.
    pub(super) fn error(&mut self, span: impl Into<Span>, message: impl Into<String>) {
        self.errors.push(Problem { span: span.into(), message: message.into(), help: None });
    }

    /// The same, with a remedy.
    pub(super) fn error_help(
        &mut self,
        span: impl Into<Span>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let (span, message, help) = (span.into(), message.into(), Some(help.into()));
        self.errors.push(Problem { span, message, help });
    }

    /// Something that works but is probably not meant.
    pub(super) fn warn(&mut self, span: impl Into<Span>, message: impl Into<String>) {
        self.warnings.push(Problem { span: span.into(), message: message.into(), help: None });
    }
}

/// Renders problems in the order of the files. `word` is put before each message.
pub(super) fn render_all(problems: &mut [Problem], files: &Files, word: &str) -> ConfigErrors {
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
    let more = problems.len().saturating_sub(REPORTED_MAX);
    let shown = problems.iter().take(REPORTED_MAX);
    let messages = shown.map(|problem| render(problem, files, word)).collect();
    ConfigErrors { messages, more }
}

/// One problem: place and message, the line, what of it is meant, and the remedy if there is one.
fn render(problem: &Problem, files: &Files, word: &str) -> String {
    let start = problem.span.as_ref().map_or(0, |span| span.start);
    let (origin, text, at) = files.place(start);
    let (origin, message) = (origin.display(), harmless(&problem.message));
    let place = problem.span.as_ref().map(|span| Place::of(&(at..at + span.len()), text));
    let (place_text, excerpt) = match place {
        Some(place) => (format!(":{}:{}", place.line, place.column), place.to_string()),
        None => (String::new(), String::new()),
    };
    let help = problem.help.as_ref().map(|help| format!("\n{:5} help: {}", "", harmless(help)));
    format!("{origin}{place_text}: {word}{message}{excerpt}{}", help.unwrap_or_default())
}

/// The line, from 1, a byte of the text is in.
pub(super) fn line(text: &str, byte: usize) -> usize {
    text[..floor_boundary(text, byte)].matches('\n').count() + 1
}

/// Where a span is, for people: line and column from 1, columns in characters.
struct Place {
    line: usize,
    column: usize,
    excerpt: String,
    /// Characters before the carets in `excerpt`.
    caret: usize,
    carets: usize,
}

impl Place {
    fn of(span: &Range<usize>, text: &str) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let before = text[line_start..start].chars().count();
        let marked = text[start..end.min(line_end).max(start)].trim_end().chars().count();
        // A long line is shown from a little before the place.
        let skip = before.saturating_sub(LINE_MAX / 2);
        let line = text[line_start..line_end].trim_end();
        let part: String = line.chars().skip(skip).take(LINE_MAX).collect();
        let caret = before - skip;
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            excerpt: harmless(part.trim_end()),
            caret,
            carets: marked.clamp(1, LINE_MAX.saturating_sub(caret).max(1)),
        }
    }
}

/// The line, and carets below what is meant.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (blank, carets) = (" ".repeat(self.caret), "^".repeat(self.carets));
        write!(f, "\n{:>5} | {}\n{:5} | {blank}{carets}", self.line, self.excerpt, "")
    }
}

/// The nearest character boundary at or below `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The text with control characters replaced: one line, no terminal escapes.
fn harmless(text: &str) -> String {
    let replace = |c: char| match c {
        '\t' | '\n' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(replace).collect()
}
