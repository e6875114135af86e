//! `shunt completion` and `shunt man`: what shells complete and man pages say, from the definitions that
//! read the command line. There is no second list that could be wrong.
//!
//! ```text
//! Arguments of shunt ──┬─► bash, zsh, fish: words and options of every command
//! Arguments of shuntd ─┴─► shunt.1, shunt-status.1, …, shuntd.8, shuntd-run.8, …
//! ```

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Arguments, daemon};

/// Which shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum For {
    /// For `/usr/share/bash-completion/completions/shunt`
    Bash,
    /// For a folder of `$fpath`, as `_shunt`
    Zsh,
    /// For `/usr/share/fish/vendor_completions.d/shunt.fish`
    Fish,
}

/// What completion is printed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Completion {
    /// The shell that reads it
    shell: For,
    /// Complete `shuntd` instead
    #[arg(long)]
    daemon: bool,
}

/// Which man pages are written.
#[derive(Debug, clap::Args)]
pub struct Manual {
    /// Write a page for each command below this folder (man1, man8), instead of one to standard output
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Man pages cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}", path = path.display())]
pub struct ManualError {
    path: PathBuf,
    source: io::Error,
}

/// Our programs: what each understands, and its manual's section.
fn programs() -> [(Command, &'static str); 2] {
    let (tool, daemon) = (Arguments::command(), daemon::Arguments::command());
    [(tool, "1"), (daemon, "8")].map(|(command, section)| (whole(command), section))
}

/// With what clap adds by itself, and names of commands within commands.
fn whole(mut command: Command) -> Command {
    command.build();
    command
}

/// Prints what a shell completes.
pub(super) fn completion(asked: Completion, out: &mut impl Write) -> io::Result<()> {
    let mut command =
        if asked.daemon { daemon::Arguments::command() } else { Arguments::command() };
    let name = command.get_name().to_owned();
    let shell = match asked.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    out.write_all(&text).and_then(|()| out.flush())
}

/// Prints the page of `shunt`, or writes all pages.
pub(super) fn manual(asked: &Manual, out: &mut impl Write) -> Result<(), ManualError> {
    let Some(folder) = &asked.dir else {
        let [(tool, section), _] = programs();
        let failed = |source| ManualError { path: "standard output".into(), source };
        return page(&tool, section, out).and_then(|()| out.flush()).map_err(failed);
    };
    for (program, section) in programs() {
        let folder = folder.join(format!("man{section}"));
        std::fs::create_dir_all(&folder)
            .map_err(|source| ManualError { path: folder.clone(), source })?;
        pages(&program, section, &folder)?;
    }
    Ok(())
}

/// The page of a command, and those of the commands within it.
fn pages(command: &Command, section: &str, folder: &Path) -> Result<(), ManualError> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = folder.join(format!("{name}.{section}"));
    let mut text = Vec::new();
    let written = page(command, section, &mut text).and_then(|()| std::fs::write(&path, text));
    written.map_err(|source| ManualError { path, source })?;
    let within =
        command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help");
    within.into_iter().try_for_each(|command| pages(command, section, folder))
}

fn page(command: &Command, section: &str, out: &mut impl Write) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let source = concat!("Shunt ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).title(name.to_uppercase()).section(section).source(source).render(out)
}
