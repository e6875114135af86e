//! `[[list]]`: networks of clients, written in the file itself or one a line in a file beside it;
//! and the names of lists where `allow` and `deny` use them.
//!
//! ```text
//! # comment                      a line holds one network or nothing
//! 192.0.2.0/24                   host bits must be zero: a typing error must not block a country
//! 203.0.113.7                    an address is a network of one
//! 2001:db8::/32   # and why
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::super::error::Problems;
use super::super::explain::did_you_mean;
use super::super::plan::ClientList;
use super::super::schema::{self, List, Spanned};
use super::super::{SIZE_MAX, text};
use super::value::name;
use crate::control::prefix::{base, width};
use crate::dataplane::access::ListSet;
use crate::ids::limits;

const NAME_MAX: usize = 63;
/// Wrong lines of one file that are told of.
const WRONG_MAX: usize = 5;

/// First address and prefix length.
pub(super) type Network = (IpAddr, u8);

/// Checks all lists, in file order. `origin` is the configuration's own path.
pub(super) fn lists(
    problems: &mut Problems,
    written: &[Spanned<schema::ClientList>],
    origin: &Path,
) -> Vec<ClientList> {
    if let Some(excess) = written.get(ListSet::LISTS_MAX) {
        problems.error(excess.span(), format!("more than {} lists", ListSet::LISTS_MAX));
    }
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut lists = Vec::new();
    for list in written {
        let (span, list) = (list.span(), list.get_ref());
        let named = list.name.get_ref();
        name(problems, "list name", &list.name, NAME_MAX);
        if !seen.insert(named) {
            problems.error(list.name.span(), format!("list name `{named}` is used twice"));
        }
        if list.networks.is_none() && list.file.is_none() {
            let message = format!("list `{named}` has neither `networks` nor a `file` of them");
            problems.error(span.clone(), message);
        }
        let mut networks = inline(problems, list.networks.as_ref());
        if let Some(file) = &list.file {
            networks.extend(from_file(problems, file, origin));
        }
        networks.sort_unstable();
        networks.dedup();
        total += networks.len();
        if total > limits::NETWORKS {
            let message = format!("more than {} networks over all lists", limits::NETWORKS);
            problems.error(span, message);
            return lists;
        }
        lists.push(ClientList { name: named.clone(), networks: networks.into() });
    }
    lists
}

/// The lists named by `key`, each once.
pub(super) fn names(
    problems: &mut Problems,
    key: &str,
    written: Option<&List<String>>,
    known: &[&str],
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for value in written.map(Spanned::get_ref).into_iter().flatten() {
        let named = value.get_ref();
        if names.contains(named) {
            problems.error(value.span(), format!("list `{named}` is named twice by {key}"));
        } else if known.contains(&named.as_str()) {
            names.push(named.clone());
        } else {
            let message = format!("{key}: there is no list `{named}`");
            let help = did_you_mean(named, known);
            let help = help.unwrap_or_else(|| "lists are [[list]] tables with a `name`".into());
            problems.error_help(value.span(), message, help);
        }
    }
    names
}

fn inline(problems: &mut Problems, written: Option<&List<String>>) -> Vec<Network> {
    let mut networks = Vec::new();
    for value in written.map(Spanned::get_ref).into_iter().flatten() {
        match network(value.get_ref()) {
            Ok(network) => networks.push(network),
            Err(Wrong { message, help }) => problems.error_help(value.span(), message, help),
        }
    }
    networks
}

/// The networks of a file beside `origin`. Its problems are told at the place that names it.
fn from_file(problems: &mut Problems, named: &Spanned<String>, origin: &Path) -> Vec<Network> {
    let path = origin.parent().map_or_else(PathBuf::new, Path::to_path_buf).join(named.get_ref());
    let file = path.display();
    let text = match contents(&path) {
        Ok(text) => text,
        Err(reason) => {
            problems.error(named.span(), format!("list file {file} {reason}"));
            return Vec::new();
        }
    };
    let (mut networks, mut wrong) = (Vec::new(), 0);
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split('#').next().unwrap_or_default().trim();
        match network(entry) {
            _ if entry.is_empty() => {}
            Ok(network) => networks.push(network),
            Err(Wrong { message, help }) => {
                wrong += 1;
                if wrong <= WRONG_MAX {
                    problems.error_help(named.span(), format!("{file}:{number}: {message}"), help);
                }
            }
        }
    }
    if wrong > WRONG_MAX {
        let message = format!("{file}: and {} more lines are wrong", wrong - WRONG_MAX);
        problems.error(named.span(), message);
    }
    networks
}

fn contents(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    let read = file.take(SIZE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    text(bytes)
}

/// What is wrong with an entry, and what helps.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: String,
}

/// A network, or an address alone.
pub(super) fn network(entry: &str) -> Result<Network, Wrong> {
    let (address, length) = match entry.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (entry, None),
    };
    let parsed = address.parse::<IpAddr>().ok().and_then(|address| {
        let length = length.map_or(Some(width(address)), |length| length.parse().ok())?;
        (length <= width(address)).then_some((address, length))
    });
    let Some((address, length)) = parsed else {
        let message = format!("`{entry}` is not a network");
        return Err(Wrong { message, help: "for example 192.0.2.0/24 or 2001:db8::1".into() });
    };
    let first = base(address, length);
    if first != address {
        let message = format!("`{entry}` has bits set beyond its prefix");
        let all = width(address);
        let help = format!("{first}/{length} is the network, {address}/{all} the address alone");
        return Err(Wrong { message, help });
    }
    Ok((address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_its_first_address_and_a_length() {
        let table = [
            ("192.0.2.0/24", Some(("192.0.2.0", 24))),
            ("0.0.0.0/0", Some(("0.0.0.0", 0))),
            ("203.0.113.7", Some(("203.0.113.7", 32))),
            ("2001:db8::/32", Some(("2001:db8::", 32))),
            ("2001:db8::1", Some(("2001:db8::1", 128))),
            ("192.0.2.1/24", None),
            ("192.0.2.0/33", None),
            ("2001:db8::1/64", None),
            ("192.0.2/24", None),
            ("office", None),
            ("192.0.2.0/", None),
            ("/24", None),
            ("192.0.2.0/-1", None),
        ];
        for (entry, expected) in table {
            let read = network(entry).ok();
            let expected = expected.map(|(base, length)| (base.parse().unwrap(), length));
            assert_eq!(read, expected, "{entry}");
        }
    }
}
