//! `shunt completion` and `shunt man`: shells read the one, groff the other, and both know every command.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{shunt, text};

const HERE: &str = ".";

/// Runs a program over a text, if the program is here.
fn judged(program: &str, arguments: &[&str], input: &[u8]) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
}

/// The commands that `shunt --help` lists.
fn commands() -> Vec<String> {
    let help = text(&shunt(Path::new(HERE), "shunt --help").stdout);
    let listed = help.split_once("Commands:\n").unwrap().1.split("\n\n").next().unwrap().to_owned();
    let names = listed.lines().filter(|line| !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn bash_reads_its_completion_and_completes_commands_and_options() {
    let script = text(&shunt(Path::new(HERE), "shunt completion bash").stdout);
    let ask = |words: &[&str], at: usize| {
        let line = format!(
            "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={at}\n_shunt shunt \"${{COMP_WORDS[{at}]}}\" x\n\
             echo \"${{COMPREPLY[@]}}\"\n",
            words.join(" ")
        );
        judged("bash", &["--norc"], line.as_bytes()).unwrap()
    };
    let (good, said) = ask(&["shunt", "''"], 1);
    assert!(good, "{said}");
    for command in commands() {
        assert!(said.split_whitespace().any(|word| word == command), "{command}: {said}");
    }
    assert_eq!(ask(&["shunt", "doctor", "--ro"], 2).1.trim(), "--root");
    assert_eq!(ask(&["shunt", "import", "keep"], 2).1.trim(), "keepalived");
}

#[test]
fn every_shell_gets_a_completion_of_both_programs_that_it_can_read() {
    for (shell, check) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        for (program, more, word) in [("shunt", "", "doctor"), ("shuntd", " --daemon", "run")] {
            let line = format!("shunt completion {shell}{more}");
            let output = shunt(Path::new(HERE), &line);
            assert_eq!(output.status.code(), Some(0), "{line}");
            let script = text(&output.stdout);
            assert!(script.contains(program) && script.contains(word), "{line}: {script}");
            if let Some((good, said)) = judged(check, &["-n"], script.as_bytes()) {
                assert!(good, "{line}: {said}");
            }
        }
    }
    assert_eq!(shunt(Path::new(HERE), "shunt completion tcsh").status.code(), Some(2));
}

#[test]
fn there_is_a_page_for_every_command_that_groff_reads_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let output = shunt(folder.path(), "shunt man --dir share/man");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let pages = folder.path().join("share/man");
    let of_the_tool = commands().into_iter().filter(|name| name != "help");
    let mut wanted: Vec<String> = of_the_tool.map(|name| format!("man1/shunt-{name}.1")).collect();
    let others =
        ["man1/shunt.1", "man1/shunt-import-keepalived.1", "man8/shuntd.8", "man8/shuntd-diff.8"];
    wanted.extend(others.map(str::to_owned));
    for name in &wanted {
        let page =
            std::fs::read(pages.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text(&page).contains(".TH"), "{name}");
        if let Some((good, said)) = judged("groff", &["-man", "-Tutf8", "-ww", "-z"], &page) {
            assert!(good && said.is_empty(), "{name}: {said}");
        }
    }
    let one = shunt(folder.path(), "shunt man");
    assert_eq!(one.stdout, std::fs::read(pages.join("man1/shunt.1")).unwrap());
}

#[test]
fn a_folder_that_cannot_be_written_to_is_told() {
    let output = shunt(Path::new(HERE), "shunt man --dir /proc/none/man");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.starts_with("shunt: cannot write /proc/none/man/man1: "), "{said}");
}

#[test]
fn a_command_without_json_says_so_and_what_is_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    for (line, instead) in [
        ("shunt top --json", "shunt rates --json"),
        ("shunt capture --json", "pcapng"),
        ("shunt --json ipvsadm -Ln", "shunt services --json"),
        ("shunt completion bash --json", "shells"),
        ("shunt man --json", "man"),
    ] {
        let output = shunt(folder.path(), line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains("expected no --json") && said.contains(instead), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}
