//! Rules about health checks.

use std::collections::BTreeSet;

use super::*;
use crate::control::health::check::{
    Check, Http, OnFailure, Policy, Probe, Statuses, Talk, Target, Tls,
};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a kind that is none",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"htpp\""),
        says: &[
            "shunt.toml:31:8: unknown kind `htpp` of check; supported: tcp, http, https, udp, dns, smtp, ping, script",
            "   31 | kind = \"htpp\"",
            "      |        ^^^^^^",
            "      help: did you mean `http`?",
        ],
    },
    Row {
        name: "a key of another kind",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"tcp\"\npath = \"/\""),
        says: &[
            "shunt.toml:32:8: path has no meaning for a check of kind `tcp`",
            "   32 | path = \"/\"",
            "      |        ^^^",
            "      help: it is for http, https",
        ],
    },
    Row {
        name: "a status that is none",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"http\"\nstatus = [\"200\", \"2xx\"]"),
        says: &[
            "shunt.toml:32:18: status `2xx` is no status code and no range of them",
            "   32 | status = [\"200\", \"2xx\"]",
            "      |                  ^^^^^",
            "      help: for example \"200\" or \"200-299\"",
        ],
    },
    Row {
        name: "an expression that is none",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"http\"\nbody_regex = \"a(\""),
        says: &[
            "shunt.toml:32:14: body_regex is not a regular expression: unclosed group",
            "   32 | body_regex = \"a(\"",
            "      |              ^^^^",
        ],
    },
    Row {
        name: "a file of certificates that is not there",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"https\"\nca_file = \"/no/ca.pem\""),
        says: &[
            "shunt.toml:32:11: ca_file /no/ca.pem: cannot be read: No such file or directory (os error 2)",
            "   32 | ca_file = \"/no/ca.pem\"",
            "      |           ^^^^^^^^^^^^",
            "      help: certificates in PEM were expected",
        ],
    },
    Row {
        name: "a file of certificates without one",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"https\"\nca_file = \"/dev/null\""),
        says: &[
            "shunt.toml:32:11: ca_file /dev/null: there is no certificate in it",
            "   32 | ca_file = \"/dev/null\"",
            "      |           ^^^^^^^^^^^",
            "      help: certificates in PEM were expected",
        ],
    },
    Row {
        name: "bytes that are no hexadecimal",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"udp\"\nsend_hex = \"0d0\""),
        says: &[
            "shunt.toml:32:12: send_hex `0d0` is not hexadecimal",
            "   32 | send_hex = \"0d0\"",
            "      |            ^^^^^",
            "      help: for example \"0d0a\"",
        ],
    },
    Row {
        name: "a script without a command",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"script\""),
        says: &[
            "shunt.toml:31:8: a check of kind `script` needs a command",
            "   31 | kind = \"script\"",
            "      |        ^^^^^^^^",
            "      help: for example `command = [\"/usr/local/bin/check-db\", \"--fast\"]`",
        ],
    },
    Row {
        name: "a command without a path",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"script\"\ncommand = [\"true\"]"),
        says: &[
            "shunt.toml:32:11: command does not begin with the path of a program",
            "   32 | command = [\"true\"]",
            "      |           ^^^^^^^^",
            "      help: the whole path, from /",
        ],
    },
    Row {
        name: "a domain name that is none",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"dns\"\nname = \"a..b\""),
        says: &[
            "shunt.toml:32:8: name `a..b` is no domain name",
            "   32 | name = \"a..b\"",
            "      |        ^^^^^^",
            "      help: for example \"www.example.com\"",
        ],
    },
    Row {
        name: "a method that is none",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"http\"\nmethod = \"G T\""),
        says: &[
            "shunt.toml:32:10: method `G T` cannot be sent",
            "   32 | method = \"G T\"",
            "      |          ^^^^^",
            "      help: expected a method of HTTP such as GET (CONNECT is none here)",
        ],
    },
    Row {
        name: "a body of an answer to HEAD",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"http\"\nmethod = \"HEAD\"\nbody = \"ok\""),
        says: &[
            "shunt.toml:33:8: body is looked for in an answer to HEAD, which has no body",
            "   33 | body = \"ok\"",
            "      |        ^^^^",
            "      help: method = \"GET\", or only the status",
        ],
    },
    Row {
        name: "a body of an answer that has none",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"https\"\nstatus = [\"204\", \"304\"]\nbody_regex = \"ok\""),
        says: &[
            "shunt.toml:33:14: body_regex is looked for in an answer with a status that has no body",
            "   33 | body_regex = \"ok\"",
            "      |              ^^^^",
            "      help: another `status`, or no body",
        ],
    },
    Row {
        name: "a path with a line's end",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"http\"\npath = \"/a\\r\\nX: y\""),
        says: &[
            "shunt.toml:32:8: path `/a\\r\\nX: y` cannot be sent",
            "   32 | path = \"/a\\r\\nX: y\"",
            "      |        ^^^^^^^^^^^^",
            "      help: expected a path that begins with /, in ASCII, without blanks and # (%20, %23)",
        ],
    },
    Row {
        name: "a path with a part that is never sent",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"http\"\npath = \"/a#b\""),
        says: &[
            "shunt.toml:32:8: path `/a#b` cannot be sent",
            "   32 | path = \"/a#b\"",
            "      |        ^^^^^^",
            "      help: expected a path that begins with /, in ASCII, without blanks and # (%20, %23)",
        ],
    },
    Row {
        name: "a host that is a page",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"http\"\nhost = \"h/a\""),
        says: &[
            "shunt.toml:32:8: host `h/a` cannot be sent",
            "   32 | host = \"h/a\"",
            "      |        ^^^^^",
            "      help: expected the name or address of a host (and its port)",
        ],
    },
    Row {
        name: "a host in other letters",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"https\"\nhost = \"hé\""),
        says: &[
            "shunt.toml:32:8: host `hé` cannot be sent",
            "   32 | host = \"hé\"",
            "      |        ^^^^",
            "      help: expected the name or address of a host (and its port)",
        ],
    },
    Row {
        name: "a name in TLS with a port",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"https\"\nsni = \"h:443\""),
        says: &[
            "shunt.toml:32:7: sni `h:443` cannot be sent",
            "   32 | sni = \"h:443\"",
            "      |       ^^^^^^^",
            "      help: expected the bare name or address of a host",
        ],
    },
    Row {
        name: "a greeting of two words",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"smtp\"\nhelo = \"a b\""),
        says: &[
            "shunt.toml:32:8: helo `a b` cannot be sent",
            "   32 | helo = \"a b\"",
            "      |        ^^^^^",
            "      help: expected a word of ASCII characters without blanks",
        ],
    },
    Row {
        name: "a host that is no name in TLS",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"https\"\nhost = \"a,b\""),
        says: &[
            "shunt.toml:32:8: host `a,b` is no name to ask for in TLS",
            "   32 | host = \"a,b\"",
            "      |        ^^^^^",
            "      help: say it with `sni`",
        ],
    },
    Row {
        name: "a command with a NUL in it",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"script\"\ncommand = [\"/x\", \"a\\u0000\"]"),
        says: &[
            "shunt.toml:32:11: a word of command has a NUL in it",
            "   32 | command = [\"/x\", \"a\\u0000\"]",
            "      |           ^^^^^^^^^^^^^^^^^",
            "      help: no program can be given one",
        ],
    },
    Row {
        name: "an interval that is too short",
        edit: ("weight = 1", "weight = 1\n[[service.check]]\nkind = \"tcp\"\ninterval_ms = 10"),
        says: &[
            "shunt.toml:32:15: interval_ms 10 is out of range (50 to 86400000)",
            "   32 | interval_ms = 10",
            "      |               ^^",
        ],
    },
    Row {
        name: "a hysteresis that is no less than the quorum",
        edit: ("weight = 1", "weight = 1\n[service.health]\nquorum = 1\nquorum_hysteresis = 1"),
        says: &[
            "shunt.toml:32:21: quorum_hysteresis 1 is out of range (0 to 0)",
            "   32 | quorum_hysteresis = 1",
            "      |                     ^",
        ],
    },
    Row {
        name: "passive checks of backends whose answers do not pass here",
        edit: ("8080\"\nweight = 1", "80\"\nmode = \"dr\"\n[service.health]\npassive_fall = 5"),
        says: &[
            "shunt.toml:31:16: `passive_fall` cannot be had in mode `dr`: the backend's answers do not pass here, so nobody sees whether there are any",
            "   31 | passive_fall = 5",
            "      |                ^",
            "      help: `[[service.check]]` asks the backend",
        ],
    },
    Row {
        name: "passive checks of datagrams nobody waits for",
        edit: ("protocol = \"udp\"", "protocol = \"udp\"\none_packet = true\nhealth = { passive_fall = 5 }"),
        says: &[
            "shunt.toml:35:27: `passive_fall` cannot be had with `one_packet`: a datagram is not waited for",
            "   35 | health = { passive_fall = 5 }",
            "      |                           ^",
            "      help: `[[service.check]]` asks the backend",
        ],
    },
    Row {
        name: "checks of a VIP at a backend that does not know it",
        edit: ("weight = 1", "weight = 1\n[service.health]\ntarget = \"vip\"\n[[service.check]]\nkind = \"tcp\""),
        says: &[
            "shunt.toml:31:10: `target = \"vip\"` is for modes `dr` and `tunnel`: in mode `fullnat` a backend does not know the VIP",
            "   31 | target = \"vip\"",
            "      |          ^^^^^",
        ],
    },
    Row {
        name: "checks of a VIP of the other family",
        edit: ("address = \"10.44.0.11:8080\"\nweight = 1", "address = \"[fd00::11]:80\"\nmode = \"tunnel\"\n[service.health]\ntarget = \"vip\"\n[[service.check]]\nkind = \"tcp\""),
        says: &[
            "shunt.toml:31:10: `target = \"vip\"` needs the VIP and its backends of one family; [fd00::11]:80 is of the other",
            "   31 | target = \"vip\"",
            "      |          ^^^^^",
        ],
    },
    Row {
        name: "checks of a VIP, and none that could ask it",
        edit: ("weight = 1", "weight = 1\n[service.health]\ntarget = \"vip\"\n[[service.check]]\nkind = \"ping\""),
        says: &[
            "shunt.toml:31:10: nothing is asked at the VIP without a check",
            "   31 | target = \"vip\"",
            "      |          ^^^^^",
            "      help: `[[service.check]]`, of a kind with ports and without an `address`",
        ],
    },
    Row {
        name: "a sorry backend with a check",
        edit: ("weight = 1", "sorry = true\n[[service.backend.check]]\nkind = \"tcp\""),
        says: &[
            "shunt.toml:31:8: a sorry backend is not checked",
            "   31 | kind = \"tcp\"",
            "      |        ^^^^^",
            "      help: leave the check out, or `sorry`",
        ],
    },
];

fn with(lines: &str) -> Service {
    let text = BASE.replacen("weight = 1", &format!("weight = 1\n{lines}"), 1);
    read(&text).unwrap_or_else(|errors| panic!("{errors}")).plan.services.remove(0)
}

#[test]
fn a_check_that_says_only_its_kind_has_these_defaults() {
    let service = with("[[service.check]]\nkind = \"tcp\"");
    let check = Check {
        probe: Probe::Tcp(Talk::default()),
        address: None,
        port: None,
        interval_ms: 2000,
        fast_interval_ms: 1000,
        jitter_percent: 10,
        timeout_ms: 2000,
        rise: 2,
        fall: 3,
    };
    assert_eq!(service.checks, [check]);
    assert_eq!(service.health, Policy::default());
    let quick = with("[[service.check]]\nkind = \"tcp\"\ninterval_ms = 300");
    assert_eq!(quick.checks[0].fast_interval_ms, 300, "fast is not slower");
}

#[test]
fn every_value_of_a_check_arrives_where_it_belongs() {
    let service = with(
        "[[service.backend.check]]\nkind = \"https\"\naddress = \"10.9.9.9\"\nport = 81\n\
         interval_ms = 101\nfast_interval_ms = 102\njitter_percent = 3\ntimeout_ms = 4\nrise = 5\n\
         fall = 6\nmethod = \"POST\"\npath = \"/x\"\nhost = \"h\"\nstatus = [\"200\", \"301-302\"]\n\
         body = \"b\"\nbody_regex = \"r\"\nsni = \"s\"\n\
         [[service.check]]\nkind = \"tcp\"\nsend = \"s\\r\\n\"\nexpect_hex = \"0aff\"\n\
         [[service.check]]\nkind = \"dns\"\nname = \"n\"\ntype = \"AAAA\"\n\
         [[service.check]]\nkind = \"smtp\"\nhelo = \"me\"\n\
         [[service.check]]\nkind = \"script\"\ncommand = [\"/bin/true\", \"x\"]\n\
         [[service.check]]\nkind = \"ping\"\n\
         [service.health]\nquorum = 1\non_failure = \"drain\"\nstart = \"down\"\nflap_limit = 2\n\
         flap_window_s = 3\nslow_start_s = 4\npassive_fall = 5\npassive_rest_s = 6\ntarget = \"backend\"",
    );
    let own = &service.backend_checks[&service.backends[0].address];
    let tls = Some(Tls { sni: Some("s".into()), ca: None });
    let http = Http {
        method: "POST".into(),
        path: "/x".into(),
        host: Some("h".into()),
        authorization_file: None,
        status: Statuses(BTreeSet::from([(200, 200), (301, 302)])),
        body: Some("b".into()),
        body_regex: Some("r".into()),
        tls,
    };
    let check = Check {
        probe: Probe::Http(http),
        address: Some("10.9.9.9".parse().unwrap()),
        port: Some(81),
        interval_ms: 101,
        fast_interval_ms: 102,
        jitter_percent: 3,
        timeout_ms: 4,
        rise: 5,
        fall: 6,
    };
    assert_eq!(*own, [check]);
    let probes: Vec<Probe> = service.checks.into_iter().map(|check| check.probe).collect();
    let command = vec!["/bin/true".to_owned(), "x".to_owned()];
    let expected = [
        Probe::Tcp(Talk {
            send: b"s\r\n".to_vec(),
            send_file: None,
            expect: Some(vec![0x0a, 0xff]),
        }),
        Probe::Dns { name: "n".into(), record: 28 },
        Probe::Smtp { helo: "me".into() },
        Probe::Script { command },
        Probe::Ping,
    ];
    assert_eq!(probes, expected);
    let policy = Policy {
        quorum: 1,
        hysteresis: 0,
        on_failure: OnFailure::Drain,
        starts_up: false,
        flap_limit: 2,
        flap_window_s: 3,
        slow_start_s: 4,
        passive_fall: 5,
        passive_rest_s: 6,
        target: Target::Backend,
    };
    assert_eq!(service.health, policy);
}

#[test]
fn backends_whose_answers_do_not_pass_here_may_be_asked_at_the_vip() {
    for mode in ["dr", "tunnel"] {
        let edit = format!(
            "weight = 1\nmode = \"{mode}\"\n[service.health]\ntarget = \"vip\"\n[[service.check]]\nkind = \"tcp\""
        );
        let text =
            BASE.replacen("10.44.0.11:8080", "10.44.0.11:80", 1).replacen("weight = 1", &edit, 1);
        let service =
            read(&text).unwrap_or_else(|errors| panic!("{errors}")).plan.services.remove(0);
        assert_eq!(service.health.target, Target::Vip, "{mode}");
    }
}

#[test]
fn a_backend_on_every_port_must_be_told_which_to_check() {
    let text = BASE
        .replace("address = \"198.51.100.10:80\"", "address = \"198.51.100.10:0\"")
        .replace("10.44.0.11:8080", "10.44.0.11:0")
        .replace("weight = 1", "weight = 1\n[[service.check]]\nkind = \"tcp\"");
    let said = refusal(&text);
    assert!(said.contains("backend 10.44.0.11:0 has no port of its own"), "{said}");
    for edit in ["kind = \"tcp\"\nport = 80", "kind = \"ping\""] {
        let good = text.replace("kind = \"tcp\"", edit);
        assert!(read(&good).is_ok_and(|reading| reading.warnings.is_empty()), "{edit}");
    }
}

#[test]
fn a_quorum_nobody_can_reach_is_warned_of() {
    for (lines, expected) in [
        ("quorum = 2", "quorum 2 is more than all weights together: 1 will do"),
        ("quorum = 1", ""),
    ] {
        let text =
            BASE.replacen("weight = 1", &format!("weight = 1\n[service.health]\n{lines}"), 1);
        let warnings = read(&text).unwrap().warnings.join("\n");
        assert_eq!(warnings.is_empty(), expected.is_empty(), "{warnings}");
        assert!(warnings.contains(expected), "{warnings}");
    }
}

#[test]
fn a_program_that_cannot_be_run_is_warned_of_on_the_machine_that_is_to_run_it() {
    let here = Machine { is_here: true, ..Machine::with_cpus(4) };
    for (program, expected) in [
        ("/bin/sh", ""),
        (
            "/no/such/program",
            "shunt.toml:32:12: warning: /no/such/program: it cannot be run: No such file",
        ),
        (
            "/etc/passwd",
            "/etc/passwd: nobody may run it; chmod +x /etc/passwd: its checks will fail",
        ),
        ("/etc", "/etc: it is no file"),
    ] {
        let lines = format!("[[service.check]]\nkind = \"script\"\ncommand = [\"{program}\"]");
        let text = BASE.replacen("weight = 1", &format!("weight = 1\n{lines}"), 1);
        for (machine, expected) in [(&here, expected), (&here.clone().elsewhere(), "")] {
            let reading = parse_for(&text, Path::new("shunt.toml"), machine).unwrap();
            let said = reading.warnings.join("\n");
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        }
    }
}

/// A check with a secret, in a configuration beside its file; the plan, or what is said.
fn with_secret(keys: &str, name: &str, bytes: &[u8], mode: u32) -> Result<Plan, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    let text = BASE.replace("weight = 1", &format!("weight = 1\n[[service.check]]\n{keys}"));
    let origin = folder.path().join("shunt.toml");
    let reading = parse_for(&text, &origin, &Machine::with_cpus(4));
    let said = reading.map(|reading| reading.plan).map_err(|errors| errors.to_string());
    said.map_err(|said| said.replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn what_a_check_says_may_be_in_a_file_that_few_may_open() {
    let http = "kind = \"http\"\nauthorization_file = \"web.auth\"";
    let plan = with_secret(http, "web.auth", b" Bearer s3cret\n", 0o640).unwrap();
    let Probe::Http(probe) = &plan.services[0].checks[0].probe else { panic!("{plan:?}") };
    assert_eq!(&*probe.authorization_file.as_ref().unwrap().bytes, b"Bearer s3cret");
    let tcp = "kind = \"tcp\"\nsend_file = \"redis\"";
    let plan = with_secret(tcp, "redis", b"AUTH s3cret\r\n", 0o600).unwrap();
    let Probe::Tcp(talk) = &plan.services[0].checks[0].probe else { panic!("{plan:?}") };
    assert_eq!(talk.said(), b"AUTH s3cret\r\n", "as it is, to the last byte");
}

#[test]
fn what_is_in_such_a_file_is_shown_nowhere_and_another_one_is_a_difference() {
    for (keys, name) in [
        ("kind = \"https\"\nauthorization_file = \"web.auth\"", "web.auth"),
        ("kind = \"udp\"\nsend_file = \"web.auth\"", "web.auth"),
    ] {
        let one = with_secret(keys, name, b"s3cret", 0o600).unwrap();
        let two = with_secret(keys, name, b"an0ther", 0o600).unwrap();
        let diff = diff::diff(&one, &two);
        assert_eq!(diff.changes.len(), 1, "{diff}");
        let json = serde_json::to_string(&(&diff, &one.services)).unwrap();
        for shown in [diff.to_string(), format!("{diff:?}"), format!("{one:?}"), json] {
            assert!(!shown.contains("s3cret") && !shown.contains("an0ther"), "{shown}");
            assert!(!shown.contains("115,51,99"), "not as numbers either: {shown}");
            assert!(shown.contains("web.auth #"), "{shown}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_said_is_refused_with_what_mends_it() {
    let http = "kind = \"http\"\nauthorization_file = \"web.auth\"";
    let tcp = "kind = \"tcp\"\nsend_file = \"web.auth\"";
    let both = "kind = \"tcp\"\nsend = \"x\"\nsend_file = \"web.auth\"";
    let dns = "kind = \"dns\"\nsend_file = \"web.auth\"";
    let long = [b'x'; 4097];
    let table: [(&str, &str, &[u8], u32, &str); 7] = [
        (
            http,
            "web.auth",
            b"x",
            0o644,
            "web.auth: anybody may open it (mode 0644); chmod o= web.auth",
        ),
        (tcp, "web.auth", b"x", 0o602, "anybody may open it (mode 0602); chmod o= web.auth"),
        (http, "other", b"x", 0o600, "web.auth: cannot be opened: No such file"),
        (http, "web.auth", b"two\nlines", 0o600, "it is no header's value"),
        (tcp, "web.auth", &long, 0o600, "longer than 4096 bytes"),
        (both, "web.auth", b"x", 0o600, "send_file says what is said, and so does another key"),
        (dns, "web.auth", b"x", 0o600, "send_file has no meaning for a check of kind `dns`"),
    ];
    for (keys, name, bytes, mode, expected) in table {
        let said = with_secret(keys, name, bytes, mode).unwrap_err();
        assert!(said.contains(expected), "not {expected} but {said}");
    }
}
