//! `include`: what stands in several files is as if it stood in one, and what is wrong is told where it stands.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::files::Files;
use super::super::{Machine, load_for, parse_files};

const MAIN: &str = "include = [\"services/*.toml\"]\n\n[shunt]\nworkers = [0]\n\n[[port]]\nname = \"wan\"\n\
                    device = \"net_null0\"\naddresses = [\"192.0.2.1/24\"]\n";

fn service(name: &str, port: u16) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:{port}\"\n\
         mode = \"nat\"\n\n[[service.backend]]\naddress = \"192.0.2.11:80\"\n"
    )
}

/// Files below a folder, by name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("shunt.toml")
    }

    /// What is said of it, the folder's name left out; nothing if it is good.
    fn said(&self) -> String {
        let outcome = load_for(&self.main(), &Machine::with_cpus(4));
        let said =
            outcome.map_or_else(|error| error.to_string(), |reading| reading.warnings.join("\n"));
        said.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn files_are_as_if_they_stood_at_the_end_in_the_order_of_their_names() {
    let (web, mail) = (service("web", 80), service("mail", 25));
    let list = "[[list]]\nname = \"some\"\nnetworks = [\"10.0.0.0/8\"]\n";
    let own = format!("{MAIN}\n{}", service("own", 81));
    let folder = Folder::with(&[
        ("shunt.toml", &own),
        ("services/web.toml", &web),
        ("services/mail.toml", &format!("{list}\n{mail}")),
        ("services/.mail.toml.swp", "nonsense"),
        ("services/.new.toml", "nonsense"),
        ("services/empty.toml", "# nothing yet\n"),
    ]);
    let several = load_for(&folder.main(), &Machine::with_cpus(4)).unwrap();
    let one = format!("{}\n{list}\n{mail}\n{web}", own.replace("services/*.toml", "none"));
    let one = one.replace("include = [\"none\"]", "");
    let one = parse_files(&Files::alone(Path::new("shunt.toml"), one), &Machine::with_cpus(4));
    assert_eq!(several.plan, one.unwrap().plan);
    let names: Vec<_> = several.plan.services.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["own", "mail", "web"]);
}

/// A service without backends.
const WEB: &str = "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\nmode = \"nat\"\n";

/// What is wrong, the file that includes, the files it includes, and what is said of them.
type Told =
    (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const TOLD: &[Told] = &[
    (
        "a value",
        MAIN,
        &[(
            "services/web.toml",
            "[[service]]\nname = \"web\"\nprotocol = \"tpc\"\naddress = \"198.51.100.10:80\"\n",
        )],
        &["services/web.toml:3:12: unknown value `tpc` for protocol", "    3 | protocol = \"tpc\""],
    ),
    (
        "a name that another file has",
        MAIN,
        &[("services/a.toml", WEB), ("services/b.toml", WEB)],
        &["services/b.toml:2:8: service name `web` is used twice"],
    ),
    (
        "a key nobody knows",
        MAIN,
        &[("services/web.toml", "[[service]]\nnmae = \"web\"\n")],
        &["services/web.toml:2:1: unknown key `nmae`", "did you mean `name`?"],
    ),
    (
        "no TOML",
        MAIN,
        &[("services/web.toml", "[[service]]\nname = \n")],
        &["services/web.toml:2:8: "],
    ),
    (
        "what is one box's",
        MAIN,
        &[("services/web.toml", "\n[shunt]\nworkers = [1]\n")],
        &[
            "services/web.toml:2:2: `shunt` cannot stand in an included file",
            "only [[service]] and [[list]] may",
        ],
    ),
    (
        "an include",
        MAIN,
        &[("services/web.toml", "include = [\"x.toml\"]\n")],
        &["services/web.toml:1:1: `include` cannot stand in an included file"],
    ),
    (
        "a backend of the file before",
        MAIN,
        &[("services/web.toml", "[[service.backend]]\naddress = \"192.0.2.11:80\"\n")],
        &["services/web.toml:1:3: expected an array of tables, found a table", "[[service]]"],
    ),
    (
        "a list that is none",
        MAIN,
        &[("services/web.toml", "service = \"web\"\n")],
        &["services/web.toml:1:1: expected an array of tables, found string"],
    ),
    (
        "no file",
        MAIN,
        &[],
        &["shunt.toml:1:12: include `services/*.toml` matches no file", "may be empty"],
    ),
    (
        "no pattern",
        "include = [\"a[.toml\"]\n",
        &[],
        &["shunt.toml:1:12: include `a[.toml` is no pattern", "for example"],
    ),
    (
        "folders of any depth",
        "include = [\"**/*.toml\"]\n",
        &[("services/web.toml", "")],
        &["shunt.toml:1:12: include `**/*.toml` looks through folders of any depth"],
    ),
    (
        "itself",
        "include = [\"*.toml\"]\n",
        &[],
        &["shunt.toml:1:12: include `*.toml` matches this very file", "a folder of their own"],
    ),
    (
        "a folder",
        "include = [\"services\"]\n",
        &[("services/web.toml", "")],
        &["shunt.toml:1:12: included file services is a directory"],
    ),
    (
        "a pattern that is none",
        "include = \"services/*.toml\"\n",
        &[],
        &["shunt.toml:1:11: expected an array"],
    ),
];

#[test]
fn a_problem_is_told_with_the_file_it_is_in() {
    for (name, main, files, says) in TOLD {
        let mut all = vec![("shunt.toml", *main)];
        all.extend(*files);
        let said = Folder::with(&all).said();
        for expected in *says {
            assert!(said.contains(expected), "{name}: not {expected:?} but {said}");
        }
    }
}

#[test]
fn a_file_that_several_patterns_match_is_read_once() {
    let main = MAIN.replace("[\"services/*.toml\"]", "[\"services/w*\", \"services/*.toml\"]");
    let (web, mail) = (service("web", 80), service("mail", 25));
    let files =
        [("shunt.toml", &*main), ("services/web.toml", &web), ("services/mail.toml", &mail)];
    let reading = load_for(&Folder::with(&files).main(), &Machine::with_cpus(4)).unwrap();
    let names: Vec<_> = reading.plan.services.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["web", "mail"]);
}

#[test]
fn no_more_files_are_included_than_said() {
    let folder = Folder::with(&[("shunt.toml", MAIN)]);
    fs::create_dir(folder.0.path().join("services")).unwrap();
    for number in 0..=1000 {
        fs::write(folder.0.path().join(format!("services/{number}.toml")), "").unwrap();
    }
    assert!(folder.said().contains("shunt.toml:1:12: more than 1000 included files"));
    fs::remove_file(folder.0.path().join("services/7.toml")).unwrap();
    assert_eq!(folder.said(), "");
}

#[test]
fn no_more_patterns_are_looked_for_than_said() {
    let patterns = |count: usize| {
        let all = vec!["\"services/*.toml\""; count].join(", ");
        let main = MAIN.replace("\"services/*.toml\"", &all);
        Folder::with(&[("shunt.toml", &main), ("services/web.toml", "")]).said()
    };
    assert_eq!(patterns(64), "");
    assert!(patterns(65).contains("more than 64 patterns in include"));
}

#[test]
fn a_pipe_is_not_waited_for() {
    let folder = Folder::with(&[("shunt.toml", MAIN), ("services/web.toml", "")]);
    let pipe = folder.0.path().join("services/pipe.toml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let said = folder.said();
    let expected = "shunt.toml:1:12: included file services/pipe.toml is no ordinary file";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_folder_whose_name_looks_like_a_pattern_is_a_folder() {
    let main = MAIN.replace("services/*.toml", "*.toml");
    let folder = Folder::with(&[("[a]*/shunt.conf", &main), ("[a]*/web.toml", "nonsense")]);
    let file = folder.0.path().join("[a]*/shunt.conf");
    let said = load_for(&file, &Machine::with_cpus(4)).unwrap_err().to_string();
    assert!(said.contains("[a]*/web.toml:1:"), "{said}");
}

#[test]
fn the_word_in_a_comment_includes_nothing() {
    let main = MAIN.replace("include = [\"services/*.toml\"]", "# include nothing");
    assert_eq!(Folder::with(&[("shunt.toml", &main)]).said(), "");
}
