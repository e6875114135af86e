//! Rules about whole files: limits, places, keys, unreadable ones, and that no text is a panic.

use super::*;

/// Its keys are those of `[timeouts]`: neither the sample nor the documentation says them twice.
const AS_TIMEOUTS: &str = "[service.timeouts]";
/// The same of those of `[[service.check]]`.
const AS_CHECKS: &str = "[[service.backend.check]]";
/// Keys that are tables of their own.
const INNER: [&str; 6] = ["route", "backend", "tunnel", "timeouts", "health", "check"];

/// Everything up to the services of the good file.
fn without_services() -> &'static str {
    BASE.split_once("[[service]]").unwrap().0
}

fn services(count: usize, backends: usize) -> String {
    let mut text = without_services().to_owned();
    for service in 0..count {
        let (high, low) = (service / 200, service % 200);
        writeln!(
            text,
            "[[service]]\nname = \"s{service}\"\nprotocol = \"tcp\"\n\
             address = \"198.51.{high}.{low}:80\"\nlocal_addresses = [\"10.44.0.2\"]"
        )
        .unwrap();
        for backend in 0..backends {
            let (high, low) = (backend / 60_000, backend % 60_000 + 1);
            writeln!(text, "[[service.backend]]\naddress = \"10.1.{high}.1:{low}\"").unwrap();
        }
    }
    text
}

/// The first message of a refusal, without the source line.
fn first_line(text: &str) -> String {
    refusal(text).lines().next().unwrap().to_owned()
}

#[test]
fn limits_are_reached_and_not_passed() {
    assert_eq!(read(&services(limits::SERVICES, 1)).unwrap().plan.services.len(), limits::SERVICES);
    let said = first_line(&services(limits::SERVICES + 1, 1));
    assert!(said.ends_with(": more than 16384 services"), "{said}");
    let plan = read(&services(1, limits::BACKENDS)).unwrap().plan;
    assert_eq!(plan.services[0].backends.len(), limits::BACKENDS);
    let said = first_line(&services(1, limits::BACKENDS + 1));
    assert!(said.ends_with(": more than 65536 backends over all services"), "{said}");

    let ports = |count: usize| {
        (0..count).fold("[shunt]\nworkers = [1]\n".to_owned(), |text, port| {
            let link = match port {
                0 => "device = \"net_null0\"".to_owned(),
                vlan => format!("on = \"p0\"\nvlan = {vlan}"),
            };
            text + &format!("[[port]]\nname = \"p{port}\"\n{link}\n")
        })
    };
    assert_eq!(read(&ports(limits::PORTS)).unwrap().plan.ports.len(), limits::PORTS);
    assert_eq!(first_line(&ports(limits::PORTS + 1)), "shunt.toml:258:1: more than 64 ports");

    let workers = |count: usize| {
        let cpus: Vec<String> = (0..count).map(|cpu| cpu.to_string()).collect();
        let buffers = "memory_mb = 512\npacket_buffers = 1000000";
        BASE.replace("[1, 2]", &format!("[{}]", cpus.join(", ")))
            .replace("memory_mb = 512", buffers)
    };
    let read_here =
        |text: &str| parse_for(text, Path::new("shunt.toml"), &Machine::with_cpus(1000));
    assert!(read_here(&workers(limits::WORKERS)).is_ok());
    let said = read_here(&workers(limits::WORKERS + 1)).unwrap_err().to_string();
    assert!(said.starts_with("shunt.toml:2:258: more than 64 workers\n"), "{said}");
}

#[test]
fn texts_have_a_longest_length() {
    let socket = |length: usize| {
        let path = "a".repeat(length - 1);
        BASE.replace("[1, 2]", &format!("[1, 2]\nadmin_socket = \"/{path}\""))
    };
    assert!(read(&socket(107)).is_ok());
    let said = first_line(&socket(108));
    assert_eq!(said, "shunt.toml:3:16: admin_socket is longer than 107 bytes (unix(7))");
    let name = |length: usize| BASE.replace("\"web\"", &format!("\"{}\"", "w".repeat(length)));
    assert!(read(&name(63)).is_ok());
    let said = first_line(&name(64));
    assert!(said.ends_with("is too long: 64 characters, the limit is 63"), "{said}");
}

#[test]
fn what_is_missing_from_the_whole_file_has_no_line() {
    assert_eq!(
        refusal(""),
        "shunt.toml: no workers: `workers` names the CPU of each\n      \
         help: for example `workers = [1, 2]` under [shunt]; `lscpu -e` lists the CPUs\n\
         shunt.toml: no ports: there is nothing to receive packets from\n      \
         help: a [[port]] table names a network device; one port is enough"
    );
    let workers: Vec<String> = (0..16).map(|cpu| cpu.to_string()).collect();
    assert_eq!(
        refusal(&BASE.replace("[1, 2]", &format!("[{}]", workers.join(", ")))),
        "shunt.toml: packet_buffers 32768 is too small: the receive rings take 32768\n      \
         help: 2 ports with 16 queues each: 98304 leaves room to send and hand over"
    );
}

#[test]
fn no_more_than_twenty_problems_are_shown_and_the_rest_counted() {
    let text = services(25, 1).replace(":80\"", ":x\"");
    let errors = read(&text).unwrap_err();
    assert_eq!((errors.messages.len(), errors.more), (REPORTED_MAX, 5));
    assert!(errors.to_string().ends_with("\nand 5 more"));
    let warnings = read(&services(25, 0)).unwrap().warnings;
    assert_eq!(warnings.len(), REPORTED_MAX + 1);
    assert_eq!(warnings[REPORTED_MAX], "shunt.toml: and 5 more warnings");
}

#[test]
fn a_long_line_is_shown_around_the_place() {
    let blank = " ".repeat(300);
    let text = BASE.replace("[1, 2]", &format!("[1,{blank}-5,{blank}3]"));
    let said = refusal(&text);
    let place = said.lines().position(|line| line.contains("worker -5 is not")).unwrap();
    let lines: Vec<&str> = said.lines().skip(place).take(3).collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 110), "{lines:#?}");
    let caret = lines[2].find("^^").unwrap();
    assert_eq!(&lines[1][caret..caret + 2], "-5");
}

#[test]
fn on_another_machine_a_missing_cpu_is_a_warning() {
    let machine = Machine::with_cpus(2).elsewhere();
    let reading = parse_for(BASE, Path::new("shunt.toml"), &machine).unwrap();
    assert_eq!(reading.plan.daemon.worker_cores, [1, 2]);
    assert_eq!(
        reading.warnings,
        ["shunt.toml:2:15: warning: worker CPU 2 does not exist; CPUs here: 0-1\n    \
          2 | workers = [1, 2]\n      |               ^"]
    );
}

#[test]
fn a_machine_whose_cpus_are_unknown_is_believed_to_have_them() {
    let machine = Machine { cpus: None, ..Machine::with_cpus(0) };
    assert!(parse_for(BASE, Path::new("shunt.toml"), &machine).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("latin1"), b"# first\n# caf\xe9\n").unwrap();
    let rows = [
        (path("none"), "cannot be opened: No such file or directory (os error 2)"),
        (folder.path().to_owned(), "is a directory; a configuration file was expected"),
        (path("latin1"), "is not UTF-8 text (first bad byte in line 2)"),
        ("/dev/zero".into(), "is larger than 64 MiB"),
    ];
    for (path, reason) in rows {
        let said = load_for(&path, &Machine::with_cpus(1)).unwrap_err().to_string();
        assert_eq!(said, format!("{}: {reason}", path.display()));
    }
}

/// The keys the reader itself says it knows in the table that ends `text`.
fn known_keys(text: &str) -> Vec<String> {
    let said = first_line(&format!("{text}\nno_such_key = 1\n"));
    let (_, keys) = said.split_once("known keys here: ").unwrap_or_else(|| panic!("{said}"));
    keys.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_list_of_tables_and_keys_is_what_the_reader_knows() {
    let tables: Vec<&str> = schema::TABLES.iter().map(|(table, _)| *table).collect();
    for (table, keys) in schema::TABLES {
        let outer = match *table {
            "[[port.route]]" => "[[port]]\n",
            "[[service.backend]]"
            | "[service.tunnel]"
            | "[service.timeouts]"
            | "[service.health]"
            | "[[service.check]]" => "[[service]]\n",
            "[service.backend.tunnel]" | "[[service.backend.check]]" => {
                "[[service]]\n[[service.backend]]\n"
            }
            _ => "",
        };
        assert_eq!(&known_keys(&format!("{outer}{table}")), keys, "{table}");
    }
    for key in known_keys("").into_iter().filter(|key| key != "include") {
        let named = [format!("[{key}]"), format!("[[{key}]]")];
        assert!(tables.iter().any(|table| named.iter().any(|name| name == table)), "{key}");
    }
}

#[test]
fn the_sample_is_good_and_shows_every_key_of_every_table() {
    let machine = Machine::with_cpus(4);
    let reading = parse_for(SAMPLE, Path::new("shunt.toml"), &machine).unwrap();
    assert_eq!(reading.warnings, Vec::<String>::new());
    let is_own = |table: &str| table != AS_TIMEOUTS && table != AS_CHECKS;
    for (table, keys) in schema::TABLES.iter().filter(|(table, _)| is_own(table)) {
        // A kind of table may be there several times, with other keys each time.
        let heading = format!("\n{table}\n");
        let sections = SAMPLE.split(&heading).skip(1).filter_map(|it| it.split("\n[").next());
        let lines: Vec<&str> = sections.flat_map(str::lines).collect();
        for key in keys.iter().filter(|key| !INNER.contains(key)) {
            let set = |line: &&str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            assert!(lines.iter().any(set), "{table} {key} is not in the sample");
        }
    }
}

#[test]
fn what_the_sample_shows_commented_is_the_default() {
    let plain = parse_for(SAMPLE, Path::new("shunt.toml"), &Machine::with_cpus(4)).unwrap();
    let is_setting = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(uncommented.matches("\nmtu = ").count() == 1, "uncommenting works");
    let full = parse_for(&uncommented, Path::new("shunt.toml"), &Machine::with_cpus(4)).unwrap();
    assert_eq!(full.plan, plain.plan);
}

#[test]
fn the_documentation_explains_every_key_under_its_table() {
    for (table, keys) in schema::TABLES {
        let heading = format!("\n## `{table}`\n");
        let (_, section) = DOCUMENTATION.split_once(&heading).expect(table);
        let section = section.split("\n## ").next().unwrap();
        if *table == AS_TIMEOUTS {
            assert!(section.contains("[`[timeouts]`](#timeouts)"), "it says where they are");
            continue;
        }
        if *table == AS_CHECKS {
            assert!(section.contains("[`[[service.check]]`](#servicecheck)"), "the same");
            continue;
        }
        for key in keys.iter().filter(|key| !INNER.contains(key)) {
            assert!(section.contains(&format!("\n| `{key}` |")), "{table} {key} is not explained");
        }
    }
}

/// The good file with some bytes gone, doubled or replaced.
fn damaged() -> impl Strategy<Value = String> {
    let edit = (0..BASE.len(), 0..6usize, "[ -~\u{e9}\u{1b}\n\t]{0,4}");
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text: Vec<char> = BASE.chars().collect();
        for (at, gone, new) in edits {
            let at = at.min(text.len());
            let end = (at + gone).min(text.len());
            text.splice(at..end, new.chars());
        }
        text.into_iter().collect()
    })
}

fn is_a_refusal_with_places_in(text: &str, errors: &ConfigErrors) {
    assert!(!errors.messages.is_empty());
    let lines = text.split('\n').count();
    for message in &errors.messages {
        assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
        let rest = message.strip_prefix("shunt.toml:").unwrap();
        if let Some((line, _)) = rest.split_once(':')
            && let Ok(line) = line.parse::<usize>()
        {
            assert!((1..=lines).contains(&line), "{message}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in any::<String>()) {
        if let Err(errors) = read(&text) {
            is_a_refusal_with_places_in(&text, &errors);
        }
    }

    #[test]
    fn no_damage_to_a_good_file_is_a_panic(text in damaged()) {
        if let Err(errors) = read(&text) {
            is_a_refusal_with_places_in(&text, &errors);
        }
    }
}

#[test]
fn no_depth_of_nesting_overflows_the_stack() {
    let deep = |open: &str| format!("x = {}", open.repeat(200_000));
    let dotted = format!("x{} = 1", ".x".repeat(200_000));
    let headers = format!("[x{}]", ".x".repeat(200_000));
    for text in [deep("["), deep("{a="), dotted, headers] {
        is_a_refusal_with_places_in(&text, &read(&text).unwrap_err());
    }
}
