//! A balancer that is set up, changed and emptied with lines of `ipvsadm`, and the file catching up.

use std::process::{Output, Stdio};

use lab::config::Config;
use lab::network::{VIP, client_address};
use lab::{Balancer, command, programs};

use crate::harness::Rig;

/// Our program under a link of that name, as a script would call it.
fn ipvsadm(rig: &Rig, balancer: &Balancer<'_>, line: &str) -> Output {
    let link = rig.network.folder().join("ipvsadm");
    if !link.exists() {
        std::os::unix::fs::symlink(&rig.binaries.shunt, &link).unwrap();
    }
    let mut program = rig.network.balancer.command("env");
    program.arg(format!("SHUNT_SOCKET={}", balancer.config.shunt.admin_socket.display()));
    program.arg(link).args(line.split_whitespace()).stdin(Stdio::null());
    command::output(&mut program).unwrap()
}

fn done(rig: &Rig, balancer: &Balancer<'_>, line: &str) -> String {
    let output = ipvsadm(rig, balancer, line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "ipvsadm {line}");
    String::from_utf8(output.stdout).unwrap()
}

/// Names of the backends that answer so many requests.
fn who(rig: &Rig, count: u32) -> Vec<String> {
    let url = format!("http://{VIP}/");
    let answers = programs::curl_many(&rig.network.clients[0], &url, count).unwrap();
    let name = |answer: &String| answer.split_whitespace().next().unwrap_or_default().to_owned();
    let mut names: Vec<_> = answers.iter().map(name).collect();
    names.sort();
    names.dedup();
    names
}

/// After fourteen requests of one client, of which the second backend serves the next.
fn what_passed_is_counted_and_whom_persistence_sends_where_is_listed(
    rig: &Rig,
    run: impl Fn(&str) -> String,
) {
    let service = |what: &str| {
        let text = run(&format!("-Ln {what} -t {VIP}:80"));
        text.lines().find(|line| line.starts_with("TCP")).unwrap().to_owned()
    };
    let numbers = service("--stats");
    let numbers = numbers.split_whitespace().skip(2).map(|it| it.parse::<u64>().unwrap());
    let numbers: Vec<_> = numbers.collect();
    assert!(numbers[0] == 14 && numbers[1..].iter().all(|it| *it >= 14 * 4), "{numbers:?}");

    run(&format!("-E -t {VIP}:80 -s rr -p 60"));
    who(rig, 2);
    let (client, vip) = (format!("{}:0", client_address(1)), format!("{VIP}:80"));
    let row = format!("{:<11} {client:<18} {vip:<18} {}", "NONE", crate::harness::web(2));
    let listed = run("-Lnc");
    assert!(listed.contains(&row), "{listed}");
    let backend = crate::harness::web(2).to_string();
    let listed = run("-Ln --persistent-conn");
    let listed = listed.lines().find(|line| line.contains(&backend)).unwrap();
    assert_eq!(listed.split_whitespace().nth(3), Some("1"), "{listed}");

    run(&format!("-Z -t {VIP}:80"));
    let zeroed = service("--stats");
    assert_eq!(zeroed.split_whitespace().nth(2), Some("0"), "{zeroed}");
    run(&format!("-E -t {VIP}:80 -s rr"));
}

#[test]
fn a_daemon_is_set_up_changed_and_emptied_with_ipvsadm_alone_and_its_file_catches_up() {
    let rig = Rig::new(1, 2);
    let mut balancer = rig.start(Config::new(&rig.network, 1));
    let run = |line: &str| done(&rig, &balancer, line);
    let setup = [
        format!("-A -t {VIP}:80 -s rr"),
        format!("-P -t {VIP}:80 -z 10.44.0.2"),
        format!("-a -t {VIP}:80 -r {} -b", crate::harness::web(1)),
        format!("-a -t {VIP}:80 -r {} -b -w 3", crate::harness::web(2)),
    ];
    for line in &setup {
        run(line);
    }
    assert_eq!(who(&rig, 8).len(), 2, "both serve");
    let list = run("-Ln");
    assert!(list.contains(&format!("TCP  {VIP}:80 rr\n  -> {}", crate::harness::web(1))), "{list}");
    run(&format!("-e -t {VIP}:80 -r {} -b -w 0", crate::harness::web(1)));
    assert_eq!(who(&rig, 6), ["backend-2"], "weight 0 gets nothing new");

    what_passed_is_counted_and_whom_persistence_sends_where_is_listed(&rig, run);

    // Twice, and not there: said as ipvsadm says it.
    for (line, sentence, code) in [
        (setup[0].as_str(), "Service already exists\n", 255),
        (setup[2].as_str(), "Destination already exists\n", 255),
        ("-D -t 198.51.100.99:80", "No such service\n", 255),
        ("-L -t 198.51.100.99:80", "No such service\n", 1),
        ("-A -t 198.51.100.99:81 -s nonesuch", "Scheduler or persistence engine not found\n", 255),
        ("-a -t 198.51.100.99:80 -r 10.44.0.11", "Service not defined\n", 255),
    ] {
        let output = ipvsadm(&rig, &balancer, line);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((said.as_ref(), output.status.code()), (sentence, Some(code)), "{line}");
    }

    let saved = run("-Sn");
    run("-C");
    assert_eq!(run("-Sn"), "");
    programs::curl(&rig.network.clients[0], &format!("http://{VIP}/")).unwrap_err();
    let (file, socket) = (rig.network.folder().join("rules"), &balancer.config.shunt.admin_socket);
    std::fs::write(&file, &saved).unwrap();
    let restore = format!(
        "{} --socket {} ipvsadm -R < {}",
        rig.binaries.shunt.display(),
        socket.display(),
        file.display()
    );
    rig.network.balancer.run("sh", &["-c", &restore]).unwrap();
    assert_eq!(run("-Sn"), saved);
    assert_eq!(who(&rig, 2), ["backend-2"]);

    // The file has none of it, until it is told.
    balancer.shunt(&["diff"]).unwrap_err();
    balancer.shunt(&["save"]).unwrap();
    assert_eq!(balancer.shunt(&["diff"]).unwrap(), "");
    assert!(balancer.shunt(&["reload"]).unwrap().contains("nothing differs"));
    assert_eq!(run("-Sn"), saved);
    balancer.stop().unwrap();
}
