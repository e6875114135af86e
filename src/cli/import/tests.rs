//! Whole files: what becomes of each, and what is said of it, as files beside one another.
//!
//! `SNAPSHOTS=overwrite cargo nextest run import` writes them anew; read what changed.

use std::fmt::Write as _;

use super::*;

/// What comes of a file: `shunt.toml`, what is said, and whether all of it was carried over.
fn imported(path: &Path, id: &str) -> Result<(String, String, bool), ImportError> {
    let ways = Ways { file: path.to_owned(), output: None, force: false, ports: None };
    let mut notes = Notes::default();
    let imported = if path.extension().is_some_and(|it| it == "rules") {
        ipvsadm::import(path, &mut notes)?
    } else {
        keepalived::import(path, Some(id), &mut notes)?
    };
    let outcome = outcome(&ways, &imported, notes)?;
    Ok((outcome.configuration.clone(), said(&outcome), outcome.is_whole()))
}

fn folder(dialect: &str) -> PathBuf {
    Path::new("src/cli/import/tests").join(dialect)
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == ending)).collect();
    files.sort();
    files
}

fn all_files() -> Vec<PathBuf> {
    let (conf, rules) = (files(&folder("keepalived"), "conf"), files(&folder("ipvsadm"), "rules"));
    assert!(!conf.is_empty() && !rules.is_empty());
    [conf, rules].concat()
}

fn as_recorded(got: String, path: &Path) {
    let assert = snapbox::Assert::new().action_env("SNAPSHOTS");
    assert.eq(got, snapbox::Data::read_from(path, Some(snapbox::data::DataFormat::Text)));
}

#[test]
fn every_file_becomes_what_is_beside_it() {
    let files = all_files();
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        let (configuration, said, _) = imported(&file, "lb1").unwrap();
        as_recorded(configuration, &file.with_extension("toml"));
        as_recorded(said, &file.with_extension("said"));
    }
}

#[test]
fn every_result_is_a_good_configuration() {
    let machine = Machine::with_cpus(8);
    for file in all_files() {
        let (configuration, ..) = imported(&file, "lb1").unwrap();
        let read = parse_for(&configuration, &file, &machine);
        assert!(read.is_ok(), "{}: {}", file.display(), read.unwrap_err());
    }
}

/// An import of one file's text.
fn text(text: &str) -> Result<(String, String, bool), ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lb.conf");
    fs::write(&path, text).unwrap();
    imported(&path, "lb1")
}

/// A virtual server with a line in it, and a line in its real server.
fn with(server: &str, real: &str) -> (String, String, bool) {
    text(&format!(
        "virtual_server 192.0.2.1 80 {{\n lvs_sched rr\n {server}\n \
         real_server 10.0.0.1 80 {{\n  {real}\n }}\n}}\n"
    ))
    .unwrap()
}

#[test]
fn what_is_carried_over_is_carried_over_whole() {
    let rows = [
        ("", "", "scheduler = \"rr\""),
        ("lb_algo wlc", "", "scheduler = \"wlc\""),
        ("lb_algo sh\n sh-port", "", "scheduler_flags = [\"sh-port\"]"),
        ("lb_algo mh\n flag-1\n flag-2", "", "scheduler_flags = [\"mh-fallback\", \"mh-port\"]"),
        ("lb_kind DR", "", "mode = \"dr\""),
        ("lvs_method TUN", "", "mode = \"tunnel\""),
        ("lb_kind DR", "lvs_method NAT", "mode = \"nat\""),
        ("protocol UDP", "", "protocol = \"udp\""),
        ("protocol UDP\n ops", "", "one_packet = true"),
        ("persistence_timeout", "", "persistence_s = 360"),
        ("persistence_timeout 50", "", "persistence_s = 50"),
        (
            "persistence_timeout 50\n persistence_granularity 255.255.255.0",
            "",
            "persistence_prefix = 24",
        ),
        ("snmp_name shop", "", "name = \"shop\""),
        ("", "weight 7", "weight = 7"),
        ("", "uthreshold 100\n lthreshold 80", "max_connections = 100\nresume_below = 80"),
    ];
    for (server, real, expected) in rows {
        let (configuration, said, whole) = with(server, real);
        assert!(configuration.contains(expected), "{server} {real}: {configuration}");
        assert!(whole, "{server} {real}: {said}");
        let sums = "1 service, 1 backend; 0 not carried over, 0 changed, 0 remarks\n";
        assert_eq!(said, sums, "{server} {real}");
    }
}

/// Whatever it says of its pace is written, as Shunt's own is another.
const PACE: &str =
    "interval_ms = 60000\nfast_interval_ms = 1000\ntimeout_ms = 5000\nrise = 1\nfall = 2\n";

#[test]
fn checks_become_what_shunt_asks() {
    let rows = [
        ("", "TCP_CHECK {\n }", format!("[[service.check]]\nkind = \"tcp\"\n{PACE}")),
        ("", "PING_CHECK {\n }", format!("kind = \"ping\"\n{PACE}")),
        (
            "delay_loop 6\n connect_timeout 3\n retry 4\n delay_before_retry 0.5",
            "TCP_CHECK {\n }",
            "interval_ms = 6000\nfast_interval_ms = 500\ntimeout_ms = 3000\nrise = 1\nfall = 5\n".into(),
        ),
        ("delay_loop 6", "delay_loop 7\n TCP_CHECK {\n }", "interval_ms = 7000".into()),
        ("delay_loop 6", "TCP_CHECK {\n delay_loop 8\n }", "interval_ms = 8000".into()),
        (
            "",
            "TCP_CHECK {\n connect_ip 10.0.0.9\n connect_port 81\n }",
            "kind = \"tcp\"\naddress = \"10.0.0.9\"\nport = 81\n".into(),
        ),
        (
            "",
            "HTTP_GET {\n url {\n path /a\n status_code 200-204 301\n regex \"^ok\"\n regex_options caseless\n }\n }",
            "fast_interval_ms = 3000\ntimeout_ms = 5000\nrise = 1\nfall = 2\npath = \"/a\"\n\
             status = [\"200-204\", \"301\"]\nbody_regex = \"(?i)^ok\"\n".into(),
        ),
        (
            "virtualhost shop.example",
            "SSL_GET {\n enable_sni\n url {\n path /a\n }\n }",
            "path = \"/a\"\nhost = \"shop.example\"\nsni = \"shop.example\"\n".into(),
        ),
        (
            "",
            "SSL_GET {\n sni_name s\n url {\n virtualhost h\n }\n }",
            "path = \"/\"\nhost = \"h\"\nsni = \"s\"\n".into(),
        ),
        ("", "SMTP_CHECK {\n helo_name me\n }", format!("kind = \"smtp\"\n{PACE}helo = \"me\"\n")),
        (
            "delay_loop 6",
            "DNS_CHECK {\n name www.example.com.\n type A\n }",
            "fast_interval_ms = 6000\ntimeout_ms = 5000\nrise = 1\nfall = 4\nname = \"www.example.com\"\n\
             type = \"A\"\n".into(),
        ),
        (
            "protocol UDP",
            "UDP_CHECK {\n payload \"0a FF\"\n require_reply 0b\n }",
            "send_hex = \"0aff\"\nexpect_hex = \"0b\"\n".into(),
        ),
        (
            "delay_loop 6\n connect_timeout 3",
            "MISC_CHECK {\n misc_path \"/bin/check -x 1\"\n }",
            "timeout_ms = 6000\nrise = 1\nfall = 1\ncommand = [\"/bin/check\", \"-x\", \"1\"]\n".into(),
        ),
        (
            "",
            "MISC_CHECK {\n misc_path /bin/check\n misc_timeout 9\n }",
            "timeout_ms = 9000\n".into(),
        ),
        ("alpha", "TCP_CHECK {\n }", "[service.health]\nstart = \"down\"\n".into()),
        ("", "inhibit_on_failure", "[service.health]\non_failure = \"drain\"\n".into()),
        ("quorum 2\n hysteresis 1", "", "quorum = 2\nquorum_hysteresis = 1\n".into()),
        (
            "lb_kind DR\n sorry_server 10.0.0.9 80\n sorry_server_lvs_method NAT",
            "",
            "address = \"10.0.0.9:80\"\nweight = 1\nmode = \"nat\"\nsorry = true\n".into(),
        ),
    ];
    for (server, real, expected) in rows {
        let (configuration, said, whole) = with(server, real);
        assert!(configuration.contains(&expected), "{server} {real}: {configuration}");
        assert!(whole, "{server} {real}: {said}");
        let read = parse_for(&configuration, Path::new("shunt.toml"), &Machine::with_cpus(8));
        assert!(read.is_ok(), "{server} {real}: {}", read.unwrap_err());
    }
}

/// The rules of `shuntd check`: nothing is written that it would refuse.
#[test]
fn what_a_check_says_is_carried_over_as_it_can_be_sent() {
    let rows = [
        (
            "",
            "MISC_CHECK {\n misc_path \"/bin/check 'a b' \\\"c d\\\"\"\n }",
            "command = [\"/bin/check\", \"a b\", \"c d\"]\n",
        ),
        (
            "virtualhost shop.example:8443",
            "SSL_GET {\n enable_sni\n url {\n }\n }",
            "path = \"/\"\nhost = \"shop.example:8443\"\n",
        ),
        (
            "virtualhost a,b",
            "SSL_GET {\n sni_name s\n url {\n }\n }",
            "host = \"a,b\"\nsni = \"s\"\n",
        ),
        ("", "DNS_CHECK {\n name .\n }", "name = \".\"\n"),
    ];
    for (server, real, expected) in rows {
        let (configuration, said, whole) = with(server, real);
        assert!(
            configuration.contains(expected) && whole,
            "{server} {real}: {configuration}{said}"
        );
    }
    let rows = [
        (
            "",
            "HTTP_GET {\n url {\n path \"/a#b\"\n }\n }",
            ":7: not carried over: `path /a#b`: a path",
        ),
        ("virtualhost h/a", "", ":3: not carried over: `virtualhost h/a`: the name or address"),
        (
            "",
            "HTTP_GET {\n url {\n virtualhost \"a b\"\n }\n }",
            ":7: not carried over: `virtualhost a b`: the name or address",
        ),
        (
            "",
            "SSL_GET {\n sni_name h:443\n url {\n }\n }",
            ":6: not carried over: `sni_name h:443`: the bare name",
        ),
        (
            "",
            "SSL_GET {\n url {\n virtualhost a,b\n }\n }",
            ":7: not carried over: `virtualhost a,b`: a host with a name",
        ),
        (
            "virtualhost a,b:8443",
            "SSL_GET {\n url {\n }\n }",
            ":5: not carried over: `SSL_GET`: `virtualhost a,b:8443` is no name to ask for in TLS",
        ),
        (
            "",
            "SMTP_CHECK {\n helo_name \"a b\"\n }",
            ":6: not carried over: `helo_name a b`: a word",
        ),
        ("", "DNS_CHECK {\n name a..b\n }", ":6: not carried over: `name a..b`: a domain name"),
        (
            "",
            "MISC_CHECK {\n misc_path \"/x \\\\0\"\n }",
            ":5: not carried over: `MISC_CHECK`: a program",
        ),
    ];
    for (server, real, expected) in rows {
        let (configuration, said, whole) = with(server, real);
        assert!(said.contains(expected) && !whole, "{server} {real}: {said}");
        let read = parse_for(&configuration, Path::new("shunt.toml"), &Machine::with_cpus(8));
        assert!(read.is_ok(), "{server} {real}: {}", read.unwrap_err());
    }
}

/// Else each has its own.
#[test]
fn what_all_are_asked_is_the_services() {
    let check = "TCP_CHECK {\n }";
    for (other, own, shared) in [(check, 0, 1), ("PING_CHECK {\n }", 2, 0), ("weight 2", 1, 0)] {
        let second = format!("{check}\n}}\nreal_server 10.0.0.2 80 {{\n {other}");
        let (configuration, said, _) = with("sorry_server 10.0.0.9 80", &second);
        let count = |head| configuration.matches(head).count();
        let counted = (count("[[service.backend.check]]"), count("[[service.check]]"));
        assert_eq!(counted, (own, shared), "{other}: {configuration}\n{said}");
    }
}

#[test]
fn what_is_not_carried_over_is_told_with_its_line_and_matters() {
    let rows = [
        ("lb_algo fastest", "", ":3: not carried over: `fastest`: Shunt has no such scheduler"),
        ("lb_kind VXLAN", "", ":3: not carried over: `lb_kind VXLAN`: NAT, DR, or TUN"),
        ("protocol ICMP", "", ":3: not carried over: `protocol ICMP`: TCP, UDP or SCTP was"),
        ("persistence_engine sip", "", ":3: not carried over: `persistence_engine sip`"),
        (
            "persistence_timeout 50\n persistence_granularity 255.0.255.0",
            "",
            ":4: not carried over: `255.0.255.0`: it is no mask",
        ),
        ("quorum_up /bin/true", "", ":3: not carried over: `quorum_up /bin/true`: Shunt starts no"),
        ("no_such_keyword 3", "", ":3: not carried over: `no_such_keyword 3`: this keyword is not"),
        ("", "BFD_CHECK {\n name b\n }", ":5: not carried over: `BFD_CHECK`: Shunt has no such"),
        ("", "FILE_CHECK {\n track_file f\n }", ":5: not carried over: `FILE_CHECK`"),
        ("", "TCP_CHECK {\n bindto 10.0.0.1\n }", ":6: not carried over: `bindto 10.0.0.1`"),
        ("", "TCP_CHECK {\n no_such 1\n }", ":6: not carried over: `no_such 1`: this keyword"),
        ("", "HTTP_GET {\n }", ":5: not carried over: `HTTP_GET`: no `url` says"),
        ("", "HTTP_GET {\n url {\n digest 09\n }\n }", ":7: not carried over: `digest 09`"),
        ("", "HTTP_GET {\n url {\n path a\n }\n }", ":7: not carried over: `path a`: a path that"),
        ("", "HTTP_GET {\n url {\n status_code 2xx\n }\n }", ":7: not carried over: `status_code"),
        (
            "",
            "HTTP_GET {\n url {\n regex (?=a)\n }\n }",
            ":7: not carried over: `regex (?=a)`: it is no",
        ),
        ("", "HTTP_GET {\n url {\n regex a\n regex_no_match\n }\n }", ":8: not carried over"),
        ("", "DNS_CHECK {\n type AXFR\n }", ":6: not carried over: `type AXFR`: one of A, NS"),
        ("", "UDP_CHECK {\n require_reply 0aXX\n }", ":6: not carried over: `require_reply 0aXX`"),
        ("", "UDP_CHECK {\n min_reply_length 3\n }", ":6: not carried over: `min_reply_length 3`"),
        ("", "MISC_CHECK {\n misc_path check\n }", ":5: not carried over: `MISC_CHECK`: a program"),
        (
            "",
            "MISC_CHECK {\n misc_path /x\n misc_dynamic\n }",
            ":7: not carried over: `misc_dynamic`",
        ),
        (
            "",
            "MISC_CHECK {\n misc_path /x\n user nobody nogroup\n }",
            "as the user of shuntd; begin `command` with `/usr/bin/setpriv`, `--reuid=nobody`, \
             `--regid=nogroup`, `--init-groups`",
        ),
        ("delay_loop often", "", ":3: not carried over: `delay_loop often`: seconds was expected"),
        (
            "sorry_server www.example.org",
            "",
            ":3: not carried over: `sorry_server www.example.org`",
        ),
        (
            "sorry_server 10.0.0.1 80",
            "",
            ":3: not carried over: `sorry_server 10.0.0.1 80`: backend",
        ),
        ("", "weight heavy", ":5: not carried over: `weight heavy`: a whole number was expected"),
        ("", "notify_down \"/bin/x y\"", ":5: not carried over: `notify_down /bin/x y`"),
        ("real_server www.example.org 80 {\n }", "", ":3: not carried over: `real_server www"),
        ("real_server 127.0.0.1 80 {\n }", "", ":3: not carried over: `real_server 127.0.0.1 80`"),
        ("real_server 192.0.2.1 80 {\n }", "", "192.0.2.1 is a VIP as well: a loop"),
        ("real_server 2001:db8::1 80 {\n }", "", "2001:db8::1 is IPv6, and its mode needs the"),
        ("real_server 10.0.0.1 80 {\n }", "", ":5: not carried over: `real_server 10.0.0.1 80`"),
    ];
    for (server, real, expected) in rows {
        let (_, said, whole) = with(server, real);
        assert!(said.contains(expected), "{server} {real}: {said}");
        assert!(!whole, "{server} {real}: {said}");
    }
}

#[test]
fn what_is_changed_or_left_to_keepalived_does_not_matter() {
    let rows = [
        ("persistence_timeout 5", "", ":3: changed: `persistence 5`: persistence_s is 20 to"),
        ("ops", "", ":3: changed: `ops`: it is for UDP"),
        ("warmup 3", "", ":3: remark: `warmup 3`: first checks are spread"),
        ("omega", "", ":3: remark: `omega`: Shunt starts no scripts"),
        ("hysteresis 3", "", ":1: changed: `hysteresis 3`: it is less than the quorum: 0 is"),
        (
            "delay_loop 0.01",
            "",
            ":3: changed: `delay_loop 0.01`: it is 50 to 86400000 milliseconds",
        ),
        ("sorry_server_inhibit", "", ":3: changed: `sorry_server_inhibit`"),
        (
            "",
            "inhibit_on_failure\n}\nreal_server 10.0.0.2 80 {",
            ":5: changed: `inhibit_on_failure`",
        ),
        ("", "alpha\n}\nreal_server 10.0.0.2 80 {", ":4: changed: `alpha`: every backend"),
        ("", "HTTP_GET {\n http_protocol 1.0\n url {\n }\n }", ":6: changed: `http_protocol 1.0`"),
        ("", "UDP_CHECK {\n }", ":5: changed: `UDP_CHECK`: without a `payload` keepalived sends"),
        ("", "MISC_CHECK {\n misc_path /x a\n }", ":6: changed: `misc_path /x a`: what is not in"),
        ("flag-3", "", ":3: remark: `flag-3`: scheduler rr has no such flag"),
        ("ha_suspend", "", ":3: remark: `ha_suspend`"),
        ("smtp_alert", "", ":3: remark: `smtp_alert`: Shunt sends no mail"),
        ("", "weight 70000", ":4: changed: `weight 70000`: weights end at 65535"),
        ("", "uthreshold 5\n lthreshold 9", ":4: changed: `lower threshold 9`"),
        ("lb_kind DR", "}\nreal_server 10.0.0.2 8080 {", ":6: remark: `real_server 10.0.0.2 8080`"),
    ];
    for (server, real, expected) in rows {
        let (_, said, whole) = with(server, real);
        assert!(said.contains(expected), "{server} {real}: {said}");
        assert!(whole, "{server} {real}: {said}");
    }
}

#[test]
fn a_file_of_another_dialect_is_refused() {
    let others = [
        "",
        "# nothing\n",
        "[shunt]\nworkers = [1]\n",
        "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m\n",
        "server {\n listen 80;\n}\n",
        "virtual 192.0.2.1:80 {\n}\n",
    ];
    for other in others {
        let error = text(other).unwrap_err();
        assert!(matches!(error, ImportError::Dialect { .. }), "{other}: {error}");
        assert!(error.to_string().contains("no block of keepalived's is in it"), "{error}");
    }
}

#[test]
fn a_file_without_a_rule_of_ipvsadms_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lb.rules");
    for other in ["", "# -A -t 192.0.2.1:80\n", "virtual_server 192.0.2.1 80 {\n}\n"] {
        fs::write(&path, other).unwrap();
        let error = imported(&path, "").unwrap_err();
        assert!(error.to_string().contains("no rule of ipvsadm's is in it"), "{other}: {error}");
    }
}

#[test]
fn fullnat_needs_local_addresses_and_is_a_comment_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lb.rules");
    let rules = "-A -t [2001:db8::1]:80 -s rr\n-a -t [2001:db8::1]:80 -r 10.0.0.1:80 --fullnat\n";
    fs::write(&path, rules).unwrap();
    let (configuration, said, whole) = imported(&path, "").unwrap();
    assert!(configuration.contains("# local_addresses = []\n"), "{configuration}");
    assert!(said.contains("mode `fullnat` needs addresses of this box") && !whole, "{said}");
    fs::write(&path, [rules, "-P -t [2001:db8::1]:80 -z 10.0.0.9\n"].concat()).unwrap();
    let (configuration, said, whole) = imported(&path, "").unwrap();
    assert!(configuration.contains("\nlocal_addresses = [\"10.0.0.9\"]\n"), "{configuration}");
    assert!(whole, "{said}");
}

#[test]
fn rules_are_read_as_ipvsadm_reads_them_and_what_is_wrong_is_told_with_the_line() {
    let service = "-A -t 192.0.2.1:80 -s rr -p 50 -M 255.255.255.0";
    let server = "-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m";
    let rows = [
        (server, "", "persistence_prefix = 24"),
        ("--add-server --tcp-service=192.0.2.1:80 -r10.0.0.1 -g -w3", "", "weight = 3"),
        ("-e -t 192.0.2.1:80 -r 10.0.0.2 -m", "no line before it adds its real server", ""),
        ("-a -t 192.0.2.1:80 -m", "You need to supply the 'real-server' option", ""),
        ("-a -t 192.0.2.1:80 -r localhost -m", "it in numbers, as `ipvsadm -S -n` does", ""),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1 -w heavy", "illegal weight specified", ""),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1 -w3 --no-such 3", "--no-such: unknown option", ""),
        ("-E -t 192.0.2.1:80 -p 50 -M 255.0.255.0", "it is no mask of leading ones", ""),
        ("--set 1 2", "--set option requires 3 timeout values", ""),
        ("-X", "it begins with no command of ipvsadm's", ""),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lb.rules");
    for (line, told, written) in rows {
        fs::write(&path, [service, line, server].join("\n")).unwrap();
        let (configuration, said, whole) = imported(&path, "").unwrap();
        let is_told = if told.is_empty() { !said.contains("lb.rules:2: not") } else { !whole };
        assert!(is_told && said.contains(told), "{line}: {said}");
        assert!(configuration.contains(written), "{line}: {configuration}");
    }
}

#[test]
fn a_wrong_name_for_a_service_is_made_a_right_one() {
    let long = "x".repeat(90);
    let rows = [
        ("snmp_name \"my shop/1\"", "name = \"my-shop-1\""),
        ("snmp_name ...", "name = \"tcp-192.0.2.1-80\""),
        (&*format!("snmp_name {long}"), &*format!("name = \"{}\"", &long[..51])),
    ];
    for (line, expected) in rows {
        let (configuration, said, _) = with(line, "");
        assert!(configuration.contains(expected), "{line}: {configuration}");
        assert!(said.starts_with("1 service"), "{line}: {said}");
    }
}

#[test]
fn ten_thousand_backends_with_a_mistake_each_are_told_of_in_time() {
    let mut whole = String::new();
    for service in 0..100_u32 {
        let _ = writeln!(whole, "virtual_server 192.0.2.{service} 80 {{");
        for backend in 0..100_u32 {
            let _ = writeln!(whole, "real_server 10.{service}.0.{backend} 80 {{");
            let _ = writeln!(whole, "notify_up /bin/{service}-{backend}\n}}");
        }
        whole += "}\n";
    }
    let (_, said, _) = text(&whole).unwrap();
    assert!(said.contains("10000 not carried over"), "{}", said.lines().last().unwrap());
}
