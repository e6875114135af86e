//! Lines, right and wrong: both programs make the same of them.

use proptest::prelude::*;
use shunt::cli::ipvsadm::grammar::request;

use crate::real::ipvsadm;

/// It has understood the line; that IPv6 cannot be said with socket options came after.
const NOT_HERE: &str = "Operation not supported with specified address family\n";

/// What each says of a line: nothing, or a sentence and a code.
fn verdicts(line: &[String]) -> [Option<(String, i32)>; 2] {
    let ours = request(line.to_vec()).err();
    let ours = ours.map(|refusal| (format!("{refusal}\n"), i32::from(refusal.code())));
    let theirs = ipvsadm(line, "", "Title\n");
    let is_refused =
        theirs.code != 0 && theirs.err != NOT_HERE && theirs.err != "No such service\n";
    [ours, is_refused.then_some((theirs.err, theirs.code))]
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Each rule of the grammar, broken and kept.
const LINES: &str = include_str!("lines.txt");

#[test]
fn a_line_is_refused_with_the_same_words_and_code_or_by_neither() {
    let mut wrong = Vec::new();
    for line in LINES.lines().filter(|line| !line.starts_with('#')) {
        let [ours, theirs] = verdicts(&words(line));
        if ours != theirs {
            wrong.push(format!("ipvsadm {line}\n  ours: {ours:?}\n  theirs: {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Words that a line may have, good and bad ones.
const WORDS: &[&str] = &[
    "-t 192.0.2.1:80",
    "-u 192.0.2.1:53",
    "--sctp-service 192.0.2.1:5",
    "-t 192.0.2.1:0",
    "-t 192.0.2.1",
    "-t x",
    "-f 7",
    "-f 0",
    "-f 7 -6",
    "-6",
    "-t [2001:db8::1]:80",
    "-s rr",
    "-s sh",
    "-s mh",
    "-s",
    "-p",
    "-p 300",
    "-p 0",
    "-p x",
    "-M 255.255.255.0",
    "-M x",
    "--pe sip",
    "-o",
    "-b sh-port",
    "-b mh-port,mh-fallback",
    "-b flag-1",
    "-b foo",
    "-r 192.0.2.2",
    "-r 192.0.2.2:8080",
    "-r x",
    "-r [2001:db8::2]:80",
    "-g",
    "-i",
    "-m",
    "-w 5",
    "-w x",
    "-w 99999999999",
    "-x 5",
    "-x -1",
    "-y 2",
    "-y",
    "--tun-type ipip",
    "--tun-type gue",
    "--tun-type gre",
    "--tun-type x",
    "--tun-port 6080",
    "--tun-port 0",
    "--tun-csum",
    "--tun-nocsum",
    "--tun-remcsum",
    "-n",
    "-c",
    "--timeout",
    "--daemon",
    "--stats",
    "--rate",
    "--thresholds",
    "--persistent-conn",
    "--tun-info",
    "--nosort",
    "--sort",
    "--exact",
    "-X",
    "-nX",
    "--stats=1",
    "--nonsense",
    "--syncid 7",
    "--syncid 999",
    "--mcast-interface eth0",
    "--mcast-ttl 3",
    "--mcast-port 0",
    "--sync-maxlen 9",
    "--mcast-group 224.0.0.9",
    "--mcast-group x",
    "1",
    "20",
    "0",
    "foo",
    "-",
    "-L",
    "-A",
];

const COMMANDS: &[&str] = &[
    "-A",
    "-E",
    "-D",
    "-C",
    "-R",
    "-S",
    "-a",
    "-e",
    "-d",
    "-L",
    "-l",
    "-Z",
    "--set",
    "--set 1 2 3",
    "--start-daemon master",
    "--start-daemon x",
    "--stop-daemon backup",
    "--add-service",
    "--list",
    "-Ln",
    "-AD",
    "-n",
    "foo",
];

/// Words that belong together, so that not every line fails at the first.
const STARTS: &[&str] = &[
    "-A -t 192.0.2.1:80",
    "-E -u 192.0.2.1:53",
    "-a -t 192.0.2.1:80 -r 192.0.2.2",
    "-e -f 7 -r 192.0.2.2",
    "-a -t 192.0.2.1:80 -r 192.0.2.2 -i --tun-type gue",
    "-d -t 192.0.2.1:80 -r 192.0.2.2",
    "-Ln",
];

/// `-b` with servers is FULL-NAT here, and nothing there.
fn is_common(line: &str) -> bool {
    let first = line.split(' ').next().unwrap_or_default();
    !(matches!(first, "-a" | "-e") && line.contains(" -b "))
}

fn line() -> impl Strategy<Value = String> {
    let start = prop_oneof![proptest::sample::select(COMMANDS), proptest::sample::select(STARTS)];
    let rest = proptest::collection::vec(proptest::sample::select(WORDS), 0..5);
    (start, rest)
        .prop_map(|(start, rest)| std::iter::once(start).chain(rest).collect::<Vec<_>>().join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_line_is_refused_with_the_same_words_and_code_or_by_neither(
        line in line().prop_filter("FULL-NAT", |line| is_common(line)),
    ) {
        let [ours, theirs] = verdicts(&words(&line));
        prop_assert_eq!(ours, theirs, "ipvsadm {}", line);
    }
}
