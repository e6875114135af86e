//! Hash vectors recorded from a kernel, and what Maglev promises.

use super::super::mh::table_of;
use super::*;
use Flag::{Fallback, Port};

/// 192.0.2.2 to .39, then 26 others.
fn sources() -> Vec<Ipv4Addr> {
    let near = (2..=39).map(|host| Ipv4Addr::new(192, 0, 2, host));
    let far = (1..=26u32).map(|i| {
        let byte = |n: u32| u8::try_from(n % 256).unwrap();
        Ipv4Addr::new(10, byte(i), byte(7 * i), byte(13 * i))
    });
    near.chain(far).collect()
}

fn choices(bed: &mut Bed, with_ports: bool) -> String {
    let sources = sources().into_iter().zip(3000..);
    let port = |port| if with_ports { port } else { 3000 };
    let flows = sources.map(|(source, n)| from(source.into(), port(n)));
    flows.map(|flow| bed.connect(0, &flow).unwrap_or('.')).collect()
}

/// Scheduler, flags, weights, what the 64 sources get.
const RECORDED: &[(&str, &[Flag], [u32; 3], &str)] = &[
    ("sh", &[], [1, 1, 1], "BCBACABACBCACBCBCCABABACACBCBCBABABCCAABCABCAABCABCABBCABABCABCA"),
    (
        "sh",
        &[Fallback],
        [1, 1, 1],
        "BCBACABACBCACBCBCCABABACACBCBCBABABCCAABCABCAABCABCABBCABABCABCA",
    ),
    ("sh", &[Port], [1, 1, 1], "AABABBCBBCCCCAACAABABBCCBCCACAAAAABBBBBACCBAACCBBBACCBAACBACCBAA"),
    (
        "sh",
        &[Port, Fallback],
        [1, 1, 1],
        "AABABBCBBCCCCAACAABABBCCBCCACAAAAABBBBBACCBAACCBBBACCBAACBACCBAA",
    ),
    ("sh", &[], [3, 2, 1], "ACAAAABACACBCBABACBABAAAAAACACAABABACBAAABBCAAAABBCAAAABBBBCAAAB"),
    ("sh", &[], [1, 0, 1], ".C.ACA.AC.CAC.C.CCA.A.ACAC.C.C.A.A.CCAA.CA.CAA.CA.CA..CA.A.CA.CA"),
    (
        "sh",
        &[Fallback],
        [1, 0, 1],
        "ACAACAAACACACACACCAAAAACACACACAAAAACCAAACAACAAACAACAAACAAAACAACA",
    ),
    ("sh", &[Port], [1, 0, 1], "AA.A..C..CCCCAACAA.A..CC.CCACAAAAA.....ACC.AACC...ACC.AAC.ACC.AA"),
    ("mh", &[], [1, 1, 1], "AACAACAACCAACCACBCBCAAABABCCAABABCAABCBCBBCACCACBBCBBACACABCCBBB"),
    (
        "mh",
        &[Fallback],
        [1, 1, 1],
        "AACAACAACCAACCACBCBCAAABABCCAABABCAABCBCBBCACCACBBCBBACACABCCBBB",
    ),
    ("mh", &[Port], [1, 1, 1], "BACABCCCCBBAACAAACBCCCCCBCAACBABCABCABBCABCBAAABACCAAACBCCBAABAC"),
    ("mh", &[], [3, 2, 1], "AACAAAAACAAACCABBCBCAAABABCCAABAAAAABCBCBBCACBABBBCABACAAABAABBB"),
    ("mh", &[], [1, 0, 1], "AACAACAACCAACCACACCCAAAAACCCAAAAACAACCCCACCACCACCCCAAACACAACCCAA"),
];

#[test]
fn sources_are_hashed_as_recorded() {
    for (scheduler, flags, weights, expected) in RECORDED {
        let got = choices(&mut Bed::of(scheduler, flags, weights), flags.contains(&Port));
        assert_eq!(&got, expected, "{scheduler} {flags:?} {weights:?}");
    }
}

#[test]
fn mh_keeps_a_drained_backends_slots_and_gives_a_removed_ones_away() {
    let mut bed = Bed::of("mh", &[], &[1, 1, 1]);
    bed.weigh('B', 0);
    bed.publish();
    let drained = "AACAACAACCAACCAC.C.CAAA.A.CCAA.A.CAA.C.C..CACCAC..C..ACACA.CC...";
    assert_eq!(choices(&mut bed, false), drained);
    bed.remove('B');
    bed.publish();
    let removed = "AACAACAACCAACCACACCCAAAAACCCAAAAACAACCCCACCACCACCCCAAACACAACCCAA";
    assert_eq!(choices(&mut bed, false), removed);
    bed.seat('B', 1);
    bed.publish();
    // Back, but as the newest: another order, another table.
    let mut other = Bed::new("mh", &[], 1);
    "ACB".chars().for_each(|name| other.seat(name, 1));
    other.publish();
    assert_eq!(choices(&mut bed, false), choices(&mut other, false));
}

#[test]
fn destinations_are_hashed_as_recorded() {
    let mut bed = Bed::of("dh", &[], &[1, 1, 1]);
    let vips = (1..=40).map(|host| IpAddr::from([203, 0, 113, host]));
    let flows = vips.map(|vip| bed.flow(client(), 3000, vip)).collect::<Vec<_>>();
    let got: String = flows.iter().map(|flow| bed.connect(0, flow).unwrap_or('.')).collect();
    assert_eq!(got, "ACACAABCBCCABABACACBCBCAABABACACACBCACBA");
    bed.weigh('C', 0);
    bed.publish();
    let drained: String = flows.iter().map(|flow| bed.connect(0, flow).unwrap_or('.')).collect();
    assert_eq!(drained, got.replace('C', "."));
}

#[test]
fn every_worker_and_every_box_hashes_alike() {
    for (scheduler, flags) in
        [("sh", [Port].as_slice()), ("mh", &[Port, Fallback]), ("dh", &[]), ("qh", &[])]
    {
        let mut beds = [1, 4, 4].map(|workers| {
            let mut bed = Bed::new(scheduler, flags, workers);
            "ABCDE".chars().for_each(|name| bed.seat(name, 2));
            bed.publish();
            bed
        });
        for n in 0..500u16 {
            let flow = from(Ipv4Addr::from_bits(0x0a09_0000 + u32::from(n)).into(), n);
            let mut seen = vec![];
            for bed in &mut beds {
                (0..bed.workers.len()).for_each(|worker| seen.push(bed.place(worker, &flow)));
            }
            assert!(
                seen.iter().all(|choice| *choice == seen[0] && choice.is_some()),
                "{scheduler}"
            );
        }
    }
}

#[test]
fn ipv6_clients_are_hashed_by_all_of_their_address() {
    for scheduler in ["sh", "mh"] {
        let mut bed = Bed::of(scheduler, &[], &[1, 1, 1]);
        let mut shares = [0; 3];
        for n in 0..3_000u128 {
            let address =
                IpAddr::from(std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | n << (n % 3 * 32)));
            let name = bed.place(0, &from(address, 1)).unwrap();
            shares[id(name).index()] += 1;
        }
        assert!(shares.iter().all(|share| *share > 700), "{scheduler}: {shares:?}");
    }
}

fn entries(count: u32) -> Vec<Entry> {
    let address = |n: u32| (Ipv4Addr::from_bits(0x0a2c_0000 + n), 8080).into();
    let entry = |n| Entry { address: address(n), weight: 1, last_weight: 1, server_id: None };
    (1..=count).map(entry).collect()
}

#[test]
fn mh_gives_slots_by_weight() {
    let mut entries = entries(4);
    for (entry, weight) in entries.iter_mut().zip([1, 2, 4, 0]) {
        (entry.weight, entry.last_weight) = (weight, weight);
    }
    let table = table_of(&entries, 4_093);
    let share = |position| table.iter().filter(|slot| **slot == position).count();
    for (position, ideal) in [(0, 585), (1, 1169), (2, 2339), (3, 0)] {
        assert!(share(position).abs_diff(ideal) <= 1, "{position}: {}", share(position));
    }
}
