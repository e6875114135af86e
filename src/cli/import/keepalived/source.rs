//! From files to lines: includes opened, conditions decided, parameters put in.
//!
//! ```text
//! @lb1 priority 200                 only where the configuration's id is `lb1`; `@^lb1` only elsewhere
//! $NET=10.44.0                      a parameter: `$NET` before a blank, `${NET}` anywhere
//! $RS= \                            one of several lines, put in as lines
//!   real_server ${NET}.${N} 80 { \
//!   }
//! ~SEQ(N, 11, 13) $RS               once for each number
//! include conf.d/*.conf             in the including file's folder
//! ```
//!
//! Parameters are put in where they are used, not where they are defined, so the same text may mean
//! something else each time; that is keepalived's rule. What is not defined stays as it is. A line that
//! came out of a parameter has the place of the line that used it.
//!
//! Such a language can write a book in ten lines, so all of it is bounded: files within files, lines in
//! all, the length of one, and how often something is put into it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::ImportError;
use super::super::note::{Notes, Place};
use super::sequences;
use super::words::{Token, tokens, uncommented};

/// Files within files. keepalived has no limit, and a file that includes itself would have none.
const INCLUDES_MAX: usize = 32;
/// Files in all.
const FILES_MAX: usize = 10_000;
/// Lines in all, after everything was put in.
const LINES_MAX: usize = 2_000_000;
/// Bytes of one line, or of one parameter's several.
const LINE_MAX: usize = 1 << 20;
/// How often something is put into what was put in.
const NESTING_MAX: usize = 200;
/// Largest file read.
const FILE_MAX: u64 = 64 << 20;

/// What opens another file. All but the first have keepalived refuse when there is none.
const INCLUDES: [&str; 6] = ["include", "includer", "includem", "includew", "includeb", "includea"];

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it is written.
    pub(super) place: Place,
    /// Without its comment.
    pub(super) text: String,
}

/// Reads a file and those it includes. `-` is standard input.
pub(super) fn read(path: &Path, id: &str, notes: &mut Notes) -> Result<Vec<Line>, ImportError> {
    read_at_most(LINES_MAX, path, id, notes)
}

fn read_at_most(
    lines_max: usize,
    path: &Path,
    id: &str,
    notes: &mut Notes,
) -> Result<Vec<Line>, ImportError> {
    let text = super::super::input::read(path, FILE_MAX)?;
    let mut reader = Reader {
        id,
        parameters: HashMap::new(),
        open: None,
        folder: path.parent().unwrap_or(Path::new("")).to_owned(),
        files: 1,
        budget: lines_max,
        lines_max,
        lines: Vec::new(),
        notes,
    };
    reader.text(&path.display().to_string().into(), &text, 0)?;
    Ok(reader.lines)
}

struct Reader<'a> {
    /// Which of the lines with `@` are meant.
    id: &'a str,
    parameters: HashMap<String, String>,
    /// A parameter of several lines that has not ended.
    open: Option<(String, String)>,
    /// Where the file that is being read is.
    folder: PathBuf,
    files: usize,
    budget: usize,
    lines_max: usize,
    lines: Vec<Line>,
    notes: &'a mut Notes,
}

impl Reader<'_> {
    fn text(&mut self, file: &Arc<str>, text: &str, depth: usize) -> Result<(), ImportError> {
        for (at, line) in text.lines().enumerate() {
            let place = Place::new(file, at + 1);
            let line = uncommented(line).trim();
            let keyword = line.split_whitespace().next().unwrap_or_default();
            if self.open.is_none() && INCLUDES.contains(&keyword) {
                self.include(&place, line, depth)?;
            } else {
                self.line(&place, line, 0)?;
            }
        }
        Ok(())
    }

    /// A line as written, or as it came out of a parameter.
    fn line(&mut self, place: &Place, line: &str, depth: usize) -> Result<(), ImportError> {
        self.spend(place, line, depth)?;
        if let Some((name, value)) = self.open.take() {
            self.define(name, value + "\n", line);
            return Ok(());
        }
        let Some(line) = self.chosen(place, line.trim()) else { return Ok(()) };
        if let Some((name, value)) = definition(line) {
            self.define(name.to_owned(), String::new(), value);
        } else if line.starts_with("~SEQ") || line.starts_with("~LST") {
            self.repeat(place, line, depth)?;
        } else if let Some(line) = self.substituted(line) {
            for line in line.split('\n') {
                self.line(place, line.trim(), depth + 1)?;
            }
        } else if !line.is_empty() {
            self.lines.push(Line { place: place.clone(), text: line.to_owned() });
        }
        Ok(())
    }

    fn spend(&mut self, place: &Place, line: &str, depth: usize) -> Result<(), ImportError> {
        let refuse = |what: String| Err(ImportError::TooMuch { place: place.clone(), what });
        if depth > NESTING_MAX {
            return refuse(format!("parameters more than {NESTING_MAX} deep"));
        }
        if line.len() > LINE_MAX {
            return refuse(format!("a line of more than {LINE_MAX} bytes"));
        }
        self.budget = self.budget.saturating_sub(1);
        if self.budget == 0 {
            return refuse(format!("more than {} lines, parameters put in", self.lines_max));
        }
        Ok(())
    }

    /// The line without its conditions, if they are met.
    fn chosen<'l>(&mut self, place: &Place, mut line: &'l str) -> Option<&'l str> {
        while let Some(condition) = line.strip_prefix('@') {
            let (wanted, rest) =
                condition.split_once(char::is_whitespace).unwrap_or((condition, ""));
            let why =
                format!("lines with `@` are read as on `{}`; --config-id says otherwise", self.id);
            self.notes.remark(place, &format!("@{wanted}"), &why);
            let meant = match wanted.strip_prefix('^') {
                Some(other) => other != self.id,
                None => wanted == self.id,
            };
            if !meant {
                return None;
            }
            line = rest.trim_start();
        }
        Some(line)
    }

    /// Adds a line to a parameter; a backslash at its end says that there are more.
    fn define(&mut self, name: String, before: String, line: &str) {
        match line.strip_suffix('\\') {
            Some(line) => self.open = Some((name, before + line.trim_end())),
            None => {
                self.parameters.insert(name, before + line);
            }
        }
    }

    /// `~SEQ` and `~LST`: what follows, once for each value.
    fn repeat(&mut self, place: &Place, line: &str, depth: usize) -> Result<(), ImportError> {
        let Some((rounds, rest)) = sequences::rounds(line) else {
            let mend = "write the lines it stands for";
            self.notes.lost(place, line, "not understood", mend);
            return Ok(());
        };
        for round in rounds {
            let names: Vec<String> = round.iter().map(|(name, _)| name.clone()).collect();
            self.parameters.extend(round);
            self.line(place, rest, depth + 1)?;
            for name in &names {
                self.parameters.remove(name);
            }
        }
        Ok(())
    }

    /// The line with its first parameter put in, if it has one that is known.
    fn substituted(&self, line: &str) -> Option<String> {
        line.match_indices('$').find_map(|(at, _)| {
            let rest = &line[at + 1..];
            let (name, after) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}')?,
                None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
            };
            let value = self.parameter(name)?;
            Some([&line[..at], &value, after].concat())
        })
    }

    fn parameter(&self, name: &str) -> Option<String> {
        Some(match name {
            "_PWD" => self.folder.display().to_string(),
            "_INSTANCE" => self.id.to_owned(),
            "_HASH" => "#".to_owned(),
            "_BANG" => "!".to_owned(),
            _ => self.parameters.get(name)?.clone(),
        })
    }

    fn include(&mut self, place: &Place, line: &str, depth: usize) -> Result<(), ImportError> {
        let named = tokens(line).into_iter().skip(1).filter_map(|token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        });
        let pattern: String = named.collect::<Vec<_>>().join(" ");
        if depth >= INCLUDES_MAX {
            let what = format!("files included more than {INCLUDES_MAX} deep");
            return Err(ImportError::TooMuch { place: place.clone(), what });
        }
        let found = matches(&self.folder, &pattern);
        if found.is_empty() {
            self.nothing_included(place, line, &pattern);
        }
        for path in found {
            self.files += 1;
            if self.files > FILES_MAX {
                let what = format!("more than {FILES_MAX} files");
                return Err(ImportError::TooMuch { place: place.clone(), what });
            }
            self.included(place, line, &path, depth)?;
        }
        Ok(())
    }

    fn nothing_included(&mut self, place: &Place, line: &str, pattern: &str) {
        if pattern.contains(['*', '?', '[']) {
            self.notes.remark(place, line, "no file has such a name");
        } else {
            let mend = "import on the box it is from, or copy the files it includes";
            self.notes.lost(place, line, "there is no such file", mend);
        }
    }

    fn included(
        &mut self,
        place: &Place,
        line: &str,
        path: &Path,
        depth: usize,
    ) -> Result<(), ImportError> {
        let text = match super::super::input::read(path, FILE_MAX) {
            Ok(text) => text,
            Err(error) => {
                self.notes.lost(place, line, &error.to_string(), "");
                return Ok(());
            }
        };
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        let around = std::mem::replace(&mut self.folder, parent);
        self.text(&path.display().to_string().into(), &text, depth + 1)?;
        self.folder = around;
        Ok(())
    }
}

/// `$NAME=value`, taken apart.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.chars().all(plain) && !name.is_empty();
    (is_name && !name.starts_with(|c: char| c.is_ascii_digit()))
        .then_some((name, value.trim_start()))
}

/// The files a pattern means, in order.
fn matches(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    // A folder's own name may look like a pattern; only what is included is one.
    let folder = glob::Pattern::escape(&folder.display().to_string());
    let whole = |one: String| match (one.starts_with('/'), folder.is_empty()) {
        (true, _) | (_, true) => one,
        (false, false) => format!("{folder}/{one}"),
    };
    let each = sequences::braces(pattern).into_iter().map(whole);
    let found = each.filter_map(|one| glob::glob(&one).ok());
    found.flatten().filter_map(Result::ok).filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lines(files: &[(&str, &str)], id: &str) -> Result<Vec<String>, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let path = folder.path().join(files[0].0);
        let read = read_at_most(5000, &path, id, &mut Notes::default())?;
        Ok(read.into_iter().map(|line| line.text).collect())
    }

    fn one(text: &str) -> Vec<String> {
        lines(&[("a.conf", text)], "lb1").unwrap()
    }

    #[test]
    fn conditions_choose_lines_by_the_configurations_id() {
        let text = "@lb1 one\n@lb2 two\n@^lb1 three\n@^lb2 four\n$IF=@lb1\n$IF five\n@lb1 @lb2 six";
        assert_eq!(one(text), ["one", "four", "five"]);
    }

    #[test]
    fn parameters_are_put_in_where_they_are_used() {
        let text = "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100\n$SUB=10\n${BASE}.100\n$NONE ${NONE}";
        assert_eq!(one(text), ["10.2.0.100", "10.2.10.100", "$NONE ${NONE}"]);
        assert_eq!(one("$A=\na $A b\n$B\t= 5\n${_HASH}${_BANG} # no"), ["a  b", "$B\t= 5", "#!"]);
        // A price is no parameter, and neither is a name with something behind it.
        assert_eq!(one("$A=1\n$AB $A. costs 5$"), ["$AB $A. costs 5$"]);
    }

    #[test]
    fn parameters_of_several_lines_become_lines() {
        let text = "$RS= \\\n real_server ${NET}.${N} 80 { \\\n  weight ${W} \\\n }\n$NET=10.0.0\n\
                    $W=3\n$N=1\n$RS\n$ALL= \\\n$N=2 \\\n$RS \\\n$N=3 \\\n$RS\n$ALL";
        let server = |n| [format!("real_server 10.0.0.{n} 80 {{"), "weight 3".into(), "}".into()];
        assert_eq!(one(text), [server(1), server(2), server(3)].concat());
    }

    #[test]
    fn sequences_and_lists_repeat_what_follows_them() {
        let text = "~SEQ(N, 1, 2) ~LST({A, B}, {x, y}, {z, w}) $N ${A}${B}\n~SEQ(N) $N";
        assert_eq!(one(text), ["1 xy", "1 zw", "2 xy", "2 zw"]);
    }

    #[test]
    fn files_are_included_from_the_folder_of_the_including_file() {
        let files = [
            ("a.conf", "first\ninclude sub/*.conf\nincluder sub/deep/{x,y}.conf\nlast"),
            ("sub/2.conf", "second"),
            ("sub/1.conf", "include deep/x.conf # beside it\n$P=${_INSTANCE}"),
            ("sub/deep/x.conf", "x"),
            ("sub/deep/y.conf", "$P y"),
        ];
        assert_eq!(lines(&files, "lb9").unwrap(), ["first", "x", "second", "x", "lb9 y", "last"]);
    }

    #[test]
    fn what_would_never_end_is_refused_with_its_line() {
        let rows = [
            ("x\ninclude a.conf", "a.conf:2: files included more than 32 deep"),
            ("$A=$A\n$A", "a.conf:2: parameters more than 200 deep"),
            ("~SEQ(A,1,9999) ~SEQ(B,1,9999) x", "a.conf:1: more than 5000 lines"),
            ("$A=${B}${B}\n$B=${A}${A}\n$A", "a.conf:3: "),
        ];
        for (text, expected) in rows {
            let said = lines(&[("a.conf", text)], "lb1").unwrap_err().to_string();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn an_include_that_finds_nothing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        fs::write(&path, "include none.conf\ninclude conf.d/*.conf\nx").unwrap();
        let mut notes = Notes::default();
        assert_eq!(read(&path, "", &mut notes).unwrap().len(), 1);
        let said: Vec<String> = notes.into_inner().iter().map(ToString::to_string).collect();
        assert!(
            said[0].contains("1: not carried over: `include none.conf`: there is no such file")
        );
        assert!(said[1].contains("2: remark: `include conf.d/*.conf`: no file"), "{said:?}");
    }
}
