//! The Debian package, made of the programs under test: what it holds, what it wants, and how it meets a machine.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// All that is installed and not made of a folder of the repository.
const FILES: &[&str] = &[
    "/etc/shunt/shunt.toml",
    "/lib/systemd/system/shuntd.service",
    "/usr/bin/shunt",
    "/usr/bin/shunt-bench",
    "/usr/sbin/shuntd",
    "/usr/share/bash-completion/completions/shunt",
    "/usr/share/bash-completion/completions/shuntd",
    "/usr/share/doc/shunt/README.md",
    "/usr/share/doc/shunt/changelog.Debian.gz",
    "/usr/share/doc/shunt/changelog.gz",
    "/usr/share/doc/shunt/copyright",
    "/usr/share/doc/shunt/dpdk-config",
    "/usr/share/fish/vendor_completions.d/shunt.fish",
    "/usr/share/fish/vendor_completions.d/shuntd.fish",
    "/usr/share/lintian/overrides/shunt",
    "/usr/share/zsh/vendor-completions/_shunt",
    "/usr/share/zsh/vendor-completions/_shuntd",
];
/// Whose package it is, with letters that mean something to what writes them down.
const NAME: &str = "Jo O'Bloggs & Sons / Net";
const ADDRESS: &str = "jo@example.org";
/// Where man pages go, and some that must be there.
const MANUAL: &str = "/usr/share/man/";
const PAGES: [&str; 3] = ["man1/shunt.1.gz", "man1/shunt-drain.1.gz", "man8/shuntd.8.gz"];

/// What a program says that must succeed.
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// What makes the package, in this folder, for somebody of this name and address.
fn builder(folder: &Path, name: &str, address: &str) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_shuntd")).parent().unwrap();
    let mut build = Command::new("packaging/build");
    build.arg(programs).arg(folder).env("COMPRESSION", "none");
    build.env("DEBFULLNAME", name).env("DEBEMAIL", address);
    build
}

/// The package, in this folder.
fn made(folder: &Path) -> PathBuf {
    PathBuf::from(said(&mut builder(folder, NAME, ADDRESS)).trim())
}

/// Files of a folder of the repository, folders below it too.
fn files(folder: &Path, into: &mut BTreeSet<String>, place: &str) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let place = format!("{place}/{}", entry.file_name().display());
        if entry.path().is_dir() {
            files(&entry.path(), into, &place);
        } else {
            into.insert(place);
        }
    }
}

/// `-rw-r--r-- root/root 123 2026-01-01 00:00 ./usr/bin/x`, a link with ` -> ` behind: who may do what, whose, and which.
fn listed(package: &Path) -> Vec<(String, String, String)> {
    let text = said(Command::new("dpkg-deb").arg("--contents").arg(package));
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let path = words.nth(3).unwrap().trim_start_matches('.').to_owned();
        (mode, owner, path)
    };
    let rows = text.lines().map(row);
    rows.filter(|(mode, _, _)| !mode.starts_with('d')).collect()
}

#[test]
fn the_package_holds_what_is_listed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let package = made(folder.path());
    let all = listed(&package);
    let mut wanted: BTreeSet<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    files(Path::new("docs"), &mut wanted, "/usr/share/doc/shunt/docs");
    files(Path::new("dpdk-config"), &mut wanted, "/usr/share/shunt/dpdk-config");
    let (pages, others): (Vec<_>, Vec<_>) =
        all.iter().map(|(_, _, path)| path.clone()).partition(|path| path.starts_with(MANUAL));
    assert_eq!(others.into_iter().collect::<BTreeSet<_>>(), wanted);
    for page in PAGES {
        assert!(pages.contains(&format!("{MANUAL}{page}")), "{page}: {pages:?}");
    }
    for (mode, owner, path) in &all {
        let is_program = path.contains("/bin/") || path.contains("/sbin/");
        let expected = if is_program { "-rwxr-xr-x" } else { "-rw-r--r--" };
        let is_link = mode.starts_with('l');
        assert!(owner == "root/root" && (is_link || mode == expected), "{path}: {mode} {owner}");
    }

    let field = |name: &str| said(Command::new("dpkg-deb").arg("--field").arg(&package).arg(name));
    assert_eq!(field("Version").trim(), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    assert_eq!(field("Maintainer").trim(), format!("{NAME} <{ADDRESS}>"));
    let depends = field("Depends");
    for library in ["librte-meta-all", "libc6 (>=", "librte-eal"] {
        assert!(depends.contains(library), "{library}: {depends}");
    }
    assert_eq!((field("Conflicts") + &field("Replaces")).trim(), "", "ipvsadm may stay");
    let conffiles = said(Command::new("dpkg-deb").arg("--info").arg(&package).arg("conffiles"));
    assert_eq!(conffiles, "/etc/shunt/shunt.toml\n");
}

/// A machine of its own: the namespace's `/etc`, `/usr` and `/var` are layers above the machine's, and gone with it.
const LAY: &str = r#"
set -e
mount -t tmpfs tmpfs "$1"
for folder in etc usr var; do
  mkdir -p "$1/$folder" "$1/$folder.work"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/$folder,workdir=$1/$folder.work" "/$folder"
done
rm -f /usr/sbin/ipvsadm /usr/sbin/ipvsadm-save /usr/sbin/ipvsadm-restore
"#;

/// Runs a script where the package may be installed, and nothing of the machine is changed.
fn on_a_machine(script: &str, package: &Path) -> String {
    let layers = tempfile::tempdir().unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &format!("{LAY}{script}"), "sh"]);
    said(shell.arg(layers.path()).arg(package))
}

/// Is what it depends on here? That is apt's business, and not of these tests.
const INSTALL: &str = "dpkg --force-depends --install \"$2\" >/dev/null 2>&1\n";

#[test]
fn a_machine_without_ipvsadm_gets_ours_and_loses_it_with_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let package = made(folder.path());
    let script = format!(
        "{INSTALL}ipvsadm --help | head -1\nreadlink -f /usr/sbin/ipvsadm-save\nshuntd check \
         --elsewhere /etc/shunt/shunt.toml >/dev/null && echo checked\n\
         dpkg --remove shunt >/dev/null 2>&1\nls /usr/sbin/ipvsadm /usr/bin/shunt 2>/dev/null || echo gone\n\
         ls /etc/shunt\ndpkg --purge shunt >/dev/null 2>&1\nls /etc/shunt 2>/dev/null || echo purged"
    );
    let said = on_a_machine(&script, &package);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("ipvsadm"), "{said}");
    assert_eq!(lines[1..], ["/usr/bin/shunt", "checked", "gone", "shunt.toml", "purged"], "{said}");
}

#[test]
fn an_ipvsadm_that_is_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let package = made(folder.path());
    let script = format!(
        "printf '#!/bin/sh\\necho the real one\\n' > /usr/sbin/ipvsadm\nchmod 755 /usr/sbin/ipvsadm\n{INSTALL}\
         ipvsadm\ndpkg --remove shunt >/dev/null 2>&1\nipvsadm"
    );
    assert_eq!(on_a_machine(&script, &package), "the real one\nthe real one\n");
}

#[test]
fn the_changelog_is_one_that_debians_tools_read() {
    let folder = tempfile::tempdir().unwrap();
    let package = made(folder.path());
    let (tree, place) = (folder.path().join("tree"), "usr/share/doc/shunt/changelog.Debian.gz");
    said(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&tree));
    let text = said(Command::new("gzip").arg("-dc").arg(tree.join(place)));
    let file = folder.path().join("changelog");
    fs::write(&file, text).unwrap();
    for (field, value) in [
        ("Source", "shunt".to_owned()),
        ("Version", concat!(env!("CARGO_PKG_VERSION"), "-1").to_owned()),
        ("Maintainer", format!("{NAME} <{ADDRESS}>")),
    ] {
        let mut read = Command::new("dpkg-parsechangelog");
        read.arg("--all").arg("-S").arg(field).arg("-l").arg(&file);
        assert_eq!(said(&mut read).trim(), value, "{field}");
    }
}

#[test]
fn a_maintainer_that_is_none_is_refused_before_anything_is_made() {
    for (name, address) in
        [("Jo", "nowhere"), ("Jo <x>", "jo@example.org"), ("Jo\nSection: x", ADDRESS)]
    {
        let folder = tempfile::tempdir().unwrap();
        let Output { status, stderr, .. } = builder(folder.path(), name, address).output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(2), "{name} {address}: {stderr}");
        assert!(stderr.contains("set DEBFULLNAME and DEBEMAIL"), "{stderr}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{name} {address}");
    }
}
