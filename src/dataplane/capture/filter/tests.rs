//! Programs against frames, with `tcpdump` as the judge of both; and programs that are refused.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// What `tcpdump` makes of an expression.
fn compiled(expression: &str) -> Program {
    let output = Command::new("tcpdump").args(["-ddd", "-y", "EN10MB", expression]).output();
    let output = output.expect("tcpdump is needed: `make deps` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().skip(1).map(|line| line.replace(' ', ".")).collect();
    lines.join("_").parse().unwrap()
}

/// Which of the frames `tcpdump` itself finds, reading them from a file.
fn found_by_tcpdump(expression: &str, frames: &[Vec<u8>]) -> Vec<bool> {
    let mut file =
        vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (number, frame) in (0_u32..).zip(frames) {
        let length = u32::try_from(frame.len()).unwrap();
        file.extend([number, 0, length, length].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    let mut tcpdump = Command::new("tcpdump")
        .args(["-n", "-tt", "-r", "-", expression])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    tcpdump.stdin.take().unwrap().write_all(&file).unwrap();
    let said = String::from_utf8(tcpdump.wait_with_output().unwrap().stdout).unwrap();
    let mut found = vec![false; frames.len()];
    for line in said.lines() {
        if let Some(number) = line.split('.').next().and_then(|second| second.parse::<usize>().ok())
        {
            found[number] = true;
        }
    }
    found
}

/// An Ethernet frame of that type.
fn frame(kind: u16, rest: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), rest].concat()
}

fn ipv4(protocol: u8, source: [u8; 4], options: usize, fragment: u16, rest: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let mut bytes = vec![0; header];
    bytes[0] = 0x40 | u8::try_from(header / 4).unwrap();
    bytes[2..4].copy_from_slice(&u16::try_from(header + rest.len()).unwrap().to_be_bytes());
    bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
    bytes[8..10].copy_from_slice(&[64, protocol]);
    bytes[12..16].copy_from_slice(&source);
    bytes[16..20].copy_from_slice(&[198, 51, 100, 10]);
    bytes.extend(rest);
    frame(0x0800, &bytes)
}

fn ipv6(protocol: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    bytes[0] = 0x60;
    bytes[4..6].copy_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes[6..8].copy_from_slice(&[protocol, 64]);
    bytes[8..12].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    bytes[24..28].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    bytes.extend(rest);
    frame(0x86dd, &bytes)
}

/// A TCP header with these ports and flags.
fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut bytes = [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0; 16]].concat();
    bytes[12..14].copy_from_slice(&[5 << 4, flags]);
    bytes
}

fn frames() -> Vec<Vec<u8>> {
    let web = tcp(40_000, 80, 0x02);
    let tagged = {
        let plain = ipv4(6, [192, 0, 2, 7], 0, 0, &web);
        [&plain[..12], &[0x81, 0, 0, 100], &plain[12..]].concat()
    };
    vec![
        ipv4(6, [192, 0, 2, 7], 0, 0, &web),
        ipv4(6, [192, 0, 2, 7], 0, 0, &tcp(40_000, 443, 0x10)),
        ipv4(6, [10, 0, 0, 1], 8, 0, &tcp(80, 40_000, 0x12)),
        ipv4(
            17,
            [192, 0, 2, 7],
            0,
            0,
            &[&40_000_u16.to_be_bytes()[..], &[0, 53, 0, 12, 0, 0, 1, 2]].concat(),
        ),
        ipv4(6, [192, 0, 2, 9], 0, 0x2005, &web),
        ipv4(1, [192, 0, 2, 9], 0, 0, &[8, 0, 0, 0, 0, 1, 0, 1]),
        ipv6(6, &web),
        ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0]),
        frame(0x0806, &[0; 46]),
        tagged,
        frame(0x0800, &[0x45, 0, 0]),
    ]
}

#[test]
fn every_expression_finds_the_frames_that_tcpdump_finds() {
    let frames = frames();
    for expression in [
        "tcp",
        "tcp port 80",
        "udp port 53",
        "host 192.0.2.7",
        "src net 192.0.2.0/24 and not port 443",
        "tcp[tcpflags] & tcp-syn != 0",
        "tcp[13] & 0x12 = 0x12 or icmp",
        "ip6",
        "ip6 and tcp dst port 80",
        "arp or vlan 100",
        "vlan and tcp port 80",
        "less 60",
        "greater 55 and ip",
        "ip[6:2] & 0x1fff != 0",
        "tcp[(tcp[12] >> 4) * 2 - 8:2] % 7 = 3",
        "ether[0] = 2 and ip[8] / 2 = 32",
        "portrange 1-1023 and ip[2:2] - 20 > 0",
    ] {
        let program = compiled(expression);
        let found: Vec<_> = frames.iter().map(|frame| program.wants(frame)).collect();
        assert_eq!(found, found_by_tcpdump(expression, &frames), "{expression}");
    }
}

#[test]
fn a_program_that_could_go_wrong_is_refused() {
    let yes = "6.0.0.1";
    for (text, wanted) in [
        (String::new(), FilterError::Text(0)),
        ("6.0.0".into(), FilterError::Text(0)),
        ("6.0.0.1.2".into(), FilterError::Text(0)),
        (format!("6.256.0.1_{yes}"), FilterError::Text(0)),
        ([yes; INSTRUCTIONS_MAX + 1].join("_"), FilterError::Length(INSTRUCTIONS_MAX + 1)),
        (format!("21.1.0.5_{yes}"), FilterError::Jump(0)),
        (format!("{yes}_21.0.1.5_{yes}"), FilterError::Jump(1)),
        (format!("5.0.0.4294967295_{yes}"), FilterError::Jump(0)),
        ("40.0.0.12".into(), FilterError::Endless),
        (format!("52.0.0.0_{yes}"), FilterError::Code(0)),
        (format!("148.0.0.0_{yes}"), FilterError::Code(0)),
        (format!("2.0.0.16_{yes}"), FilterError::Code(0)),
        (format!("96.0.0.16_{yes}"), FilterError::Code(0)),
        (format!("255.0.0.0_{yes}"), FilterError::Code(0)),
        (format!("40.0.0.4294963204_{yes}"), FilterError::NotTheFrame(0)),
    ] {
        assert_eq!(text.parse::<Program>(), Err(wanted), "{text}");
    }
    assert!(yes.parse::<Program>().unwrap().wants(&[]));
    assert!(!"6.0.0.0".parse::<Program>().unwrap().wants(&[1]));
}

#[test]
fn what_a_program_reads_behind_the_end_or_divides_by_nothing_is_no() {
    let frame = [0; 64];
    for text in [
        // A word, a half and a byte behind the end; a header's length; from X on.
        "32.0.0.61_6.0.0.1",
        "40.0.0.63_6.0.0.1",
        "48.0.0.64_6.0.0.1",
        "177.0.0.64_6.0.0.1",
        "1.0.0.4294967295_80.0.0.2147483647_6.0.0.1",
        // By X, which is zero.
        "60.0.0.0_6.0.0.1",
        "156.0.0.0_6.0.0.1",
    ] {
        assert!(!text.parse::<Program>().unwrap().wants(&frame), "{text}");
    }
    assert!("32.0.0.60_6.0.0.1".parse::<Program>().unwrap().wants(&frame));
}

fn instruction() -> impl Strategy<Value = Instruction> {
    let codes = [
        0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02, 0x03,
        0x05, 0x06, 0x16, 0x07, 0x87, 0x84, 0x04, 0x0c, 0x14, 0x24, 0x3c, 0x4c, 0x5c, 0x6c, 0x7c,
        0x9c, 0xac, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x99, 0xfe,
    ];
    let code = prop::sample::select(codes.to_vec());
    let k = prop_oneof![0_u32..80, any::<u32>()];
    (code, 0_u8..4, 0_u8..4, k).prop_map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
}

proptest! {
    /// Whatever is taken runs to its end.
    #[test]
    fn no_program_that_is_taken_panics_or_runs_on(
        instructions in prop::collection::vec(instruction(), 1..40),
        frame in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let with_end = [&instructions[..], &[Instruction { code: 6, jt: 0, jf: 0, k: 1 }]].concat();
        for program in [Program::new(&instructions), Program::new(&with_end)].into_iter().flatten() {
            let _ = program.wants(&frame);
        }
    }
}
