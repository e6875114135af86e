//! `shunt import` from outside: what its page in the documents shows, exit codes, and files.

use std::fs;

use super::{block, lines, shunt, text};

const PAGE: &str = include_str!("../../docs/import-from-keepalived.md");

/// A folder with the page's example in it.
fn example() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keepalived.conf"), block(PAGE, "conf")).unwrap();
    folder
}

#[test]
fn the_page_shows_what_its_example_becomes() {
    let folder = example();
    let shown = block(PAGE, "text");
    let (command, said) = shown.split_once('\n').unwrap();
    let output = shunt(folder.path(), command.strip_prefix("$ ").unwrap());
    assert_eq!(text(&output.stdout), block(PAGE, "ini"));
    assert_eq!(text(&output.stderr), said);
    assert_eq!(output.status.code(), Some(1), "a script was not carried over");
}

#[test]
fn the_pages_commands_work() {
    let folder = example();
    let ports = block(PAGE, "ini");
    fs::write(folder.path().join("ports.toml"), ports.split_once("# keepalived").unwrap().0)
        .unwrap();
    let lines = lines(PAGE);
    assert!(lines.len() >= 4, "{lines:?}");
    // What ipvsadm prints of a table.
    let rules = "-A -t 192.0.2.10:80 -s wlc\n-a -t 192.0.2.10:80 -r 10.44.0.11:80 -m -w 1\n\
                 -A -f 3 -s rr\n";
    fs::write(folder.path().join("rules"), rules).unwrap();
    for line in lines.into_iter().filter(|line| line.starts_with("shunt")) {
        let line = line.replace("/etc/keepalived/", "").replace("check", "check --elsewhere");
        let output = shunt(folder.path(), &line);
        let expected = i32::from(!line.starts_with("shuntd"));
        assert_eq!(output.status.code(), Some(expected), "{line}: {}", text(&output.stderr));
    }
}

#[test]
fn a_whole_import_exits_with_0_and_one_that_is_none_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let run = |conf: &str| {
        fs::write(folder.path().join("lb.conf"), conf).unwrap();
        shunt(folder.path(), "shunt import keepalived lb.conf")
    };
    let good = "virtual_server 192.0.2.1 80 {\nreal_server 10.0.0.1 80 {\n}\n}\n";
    let output = run(good);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for (conf, said) in [
        ("server { listen 80; }", "shunt: lb.conf: no block of keepalived's is in it"),
        (
            "virtual_server 192.0.2.1 80 {\n",
            "shunt: lb.conf:1: `virtual_server 192.0.2.1 80` has no",
        ),
        ("a\0b", "shunt: lb.conf: cannot be imported: it is no text"),
    ] {
        let output = run(conf);
        assert_eq!(output.status.code(), Some(2), "{conf}");
        assert!(text(&output.stderr).starts_with(said), "{conf}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    let missing = shunt(folder.path(), "shunt import keepalived none.conf");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("none.conf: cannot be imported: No such file"));
}

#[test]
fn a_file_that_is_there_is_only_replaced_when_told_to() {
    let folder = example();
    let path = folder.path().join("out.toml");
    fs::write(&path, "mine").unwrap();
    let line = "shunt import keepalived keepalived.conf -o out.toml";
    let output = shunt(folder.path(), line);
    assert_eq!(output.status.code(), Some(2));
    let said =
        "shunt: out.toml is there already: choose another name, or say --force to replace it\n";
    assert_eq!(text(&output.stderr), said);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    let output = shunt(folder.path(), &format!("{line} --force"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert_eq!(fs::read_to_string(&path).unwrap(), block(PAGE, "ini"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
    let nowhere = shunt(folder.path(), &line.replace("out.toml", "no/such/out.toml"));
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere.stderr));
}

#[test]
fn ports_come_from_a_file_that_is_good_by_itself() {
    let folder = example();
    let line = "shunt import keepalived keepalived.conf --ports ports.toml";
    let ports = folder.path().join("ports.toml");
    let good =
        "# ours\n[shunt]\nworkers = [0]\n\n[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\n";
    fs::write(&ports, good).unwrap();
    let result = text(&shunt(folder.path(), line).stdout);
    assert!(
        result.starts_with(&format!("# Imported from keepalived.conf.\n\n{good}\n")),
        "{result}"
    );
    fs::write(&ports, "[shunt]\nworkers = [0]\nprot = 1\n").unwrap();
    let output = shunt(folder.path(), line);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("unknown key `prot`"), "{}", text(&output.stderr));
}

#[test]
fn what_shuntd_would_refuse_is_told() {
    let folder = example();
    // The address of a backend: that is only known with the ports.
    let own = "[shunt]\nworkers = [0]\n[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\n\
               addresses = [\"10.44.0.11/24\"]\n";
    fs::write(folder.path().join("ports.toml"), own).unwrap();
    let line = "shunt import keepalived keepalived.conf --ports ports.toml";
    let output = shunt(folder.path(), line);
    let said = text(&output.stderr);
    assert!(said.contains("backend 10.44.0.11 is a port's address: this host itself"), "{said}");
    assert!(said.contains("the result cannot be used as it is"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.is_empty());
}

#[test]
fn json_has_the_result_and_what_is_said_of_it() {
    let folder = example();
    let output = shunt(folder.path(), "shunt --json import keepalived keepalived.conf");
    assert!(output.stderr.is_empty());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["configuration"], block(PAGE, "ini"));
    assert_eq!(json["notes"][0]["weight"], "remark");
    assert_eq!(
        json["notes"][2]["places"][0],
        serde_json::json!({
            "file": "keepalived.conf", "line": 5,
        })
    );
    assert!(json["refused"].is_null());
}
