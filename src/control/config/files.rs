//! The files a configuration is made of: the one that is named, and those it includes.
//!
//! ```text
//! shunt.toml                     services/mail.toml      services/web.toml
//! include = ["services/*.toml"]  [[service]] …           [[list]] …
//! [shunt] … [[service]] …                                [[service]] …
//! 0 ─────────────────────── n │ n+1 ──────────────── m │ m+1 ─────────────     every byte has one number
//! ```
//!
//! What an included file says is as if it stood at the end of the file that includes it, one file after the other in the
//! order of their names. Each is a document of TOML by itself, and may hold services and lists only: ports, workers
//! and limits are one box's, and belong where everybody looks for them. It includes no others. Which files those are is
//! [`include`]'s.
//!
//! **Places.** The bytes of all files are numbered through, so that a problem needs no more than its span to be told
//! with file, line and column.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{ConfigError, ConfigErrors, Problem};
use super::explain::explain;
use super::{read, schema};

mod include;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// How many services are in it.
    pub services: usize,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Where the one is that includes the others.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// The others, in order.
    pub included: Vec<File>,
}

impl Files {
    /// A file that includes none.
    pub fn alone(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text, included: Vec::new() }
    }

    /// Reads a file and all it includes.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self::around(path, read(path)?)?)
    }

    /// A text in the place of a file, with all that it includes.
    pub fn around(path: &Path, text: String) -> Result<Self, ConfigErrors> {
        let mut files = Self::alone(path, text);
        files.included = include::read_all(&files)?;
        Ok(files)
    }

    /// The same with another text of the file that includes the others.
    #[must_use]
    pub fn with_text(&self, text: String) -> Self {
        Self { path: self.path.clone(), text, included: self.included.clone() }
    }

    /// The file of a byte: its path, its text, and which byte of it that is.
    pub(super) fn place(&self, byte: usize) -> (&Path, &str, usize) {
        let mut first = self.text.len() + 1;
        if byte < first {
            return (&self.path, &self.text, byte);
        }
        for File { path, text, .. } in &self.included {
            if byte <= first + text.len() {
                return (path, text, byte - first);
            }
            first += text.len() + 1;
        }
        (&self.path, &self.text, self.text.len())
    }

    /// What they say together, in the shape of a file.
    pub(super) fn shape(&self) -> Result<schema::File, Problem> {
        let mut whole = DeTable::parse(&self.text).map_err(|error| explain(&error))?;
        let mut first = self.text.len() + 1;
        for file in &self.included {
            let table = DeTable::parse(&file.text);
            let table = table.map_err(|error| shifted_problem(explain(&error), first))?;
            for (key, value) in table.into_inner() {
                append(whole.get_mut(), moved(key, first, |key| key), shifted(value, first));
            }
            first += file.text.len() + 1;
        }
        serde::Deserialize::deserialize(Deserializer::from(whole)).map_err(|error| explain(&error))
    }
}

/// A problem of an included file, by the numbers of all.
fn shifted_problem(problem: Problem, first: usize) -> Problem {
    let span = problem.span.map(|span| span.start + first..span.end + first);
    Problem { span, ..problem }
}

fn moved<T, U>(value: Spanned<T>, first: usize, inner: impl FnOnce(T) -> U) -> Spanned<U> {
    let Range { start, end } = value.span();
    Spanned::new(start + first..end + first, inner(value.into_inner()))
}

/// A value, and all that is in it, so many bytes further on.
fn shifted(value: Spanned<DeValue<'_>>, first: usize) -> Spanned<DeValue<'_>> {
    moved(value, first, |value| match value {
        DeValue::Array(values) => {
            DeValue::Array(values.into_iter().map(|value| shifted(value, first)).collect())
        }
        DeValue::Table(table) => {
            let entries = table.into_iter();
            let entry = |(key, value)| (moved(key, first, |key| key), shifted(value, first));
            DeValue::Table(entries.map(entry).collect())
        }
        other => other,
    })
}

/// Puts the elements of a list behind those that are there. What is no list is told of when it is read.
fn append<'a>(whole: &mut DeTable<'a>, key: Spanned<Cow<'a, str>>, value: Spanned<DeValue<'a>>) {
    match whole.get_mut::<str>(key.get_ref()).map(Spanned::get_mut) {
        None => drop(whole.insert(key, value)),
        Some(DeValue::Array(there)) => {
            if let DeValue::Array(more) = value.into_inner() {
                more.into_iter().for_each(|one| there.push(one));
            }
        }
        Some(_) => {}
    }
}
