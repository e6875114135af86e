//! Cookies by themselves: who takes which, and what options survive.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const SECRETS: [Secret; 2] = [Secret([1, 2]), Secret([3, 4])];
const NOW: u32 = 5 << PERIOD_BITS;

fn v4(client: u32, port: u16) -> FlowKey<Ipv4Addr> {
    FlowKey::new(6, (client.into(), port), (Ipv4Addr::new(198, 51, 100, 10), 80))
}

fn v6(client: u128, port: u16) -> FlowKey<Ipv6Addr> {
    FlowKey::new(6, (client.into(), port), (Ipv6Addr::LOCALHOST, 80))
}

proptest! {
    #[test]
    fn a_cookie_is_taken_from_the_client_it_was_made_for(
        client: u32, port: u16, start: u32, now: u32, late in 0..1_u32 << PERIOD_BITS, index in 0u32..8,
    ) {
        let then = now.wrapping_add(late);
        let cookie = make(SECRETS[0], v4(client, port), start, index, now);
        let verdict = Verdict::Right(MSS_V4[index as usize]);
        prop_assert_eq!(check(SECRETS, v4(client, port), start, cookie, then), verdict);
        let cookie = make(SECRETS[1], v6(client.into(), port), start, index, now);
        let verdict = Verdict::Right(MSS_V6[index as usize]);
        prop_assert_eq!(check(SECRETS, v6(client.into(), port), start, cookie, then), verdict);
    }

    #[test]
    fn options_survive_in_our_timestamp(
        scale in prop::option::of(0..=SCALE_MAX), sack: bool, value: u32, now: u32,
    ) {
        let offer = Offer { mss: Some(1460), scale, sack, stamps: Some((value, 0)) };
        let back = Offer::from_stamps(Some((value, offer.stamp(now))), 1460);
        prop_assert_eq!((back.scale, back.sack, back.mss), (scale, sack, Some(1460)));
    }
}

#[test]
fn age_says_what_becomes_of_a_cookie() {
    let period = 1 << PERIOD_BITS;
    let rows = [
        (0, Verdict::Right(1460)),
        (period - 1, Verdict::Right(1460)),
        (2 * period - 1, Verdict::Right(1460)),
        (2 * period, Verdict::Old),
        (3 * period - 1, Verdict::Old),
        // Told apart from the next period's by nothing but the hash.
        (3 * period, Verdict::Wrong),
        (4 * period, Verdict::Wrong),
    ];
    let cookie = make(SECRETS[0], v4(7, 7), 99, 6, NOW);
    for (age, verdict) in rows {
        assert_eq!(check(SECRETS, v4(7, 7), 99, cookie, NOW + age), verdict, "{age}");
    }
    assert_eq!(
        check(SECRETS, v4(7, 7), 99, cookie, NOW - 1),
        Verdict::Right(1460),
        "another's clock"
    );
}

#[test]
fn what_differs_in_anything_but_the_number_is_wrong() {
    let cookie = make(SECRETS[0], v4(7, 7), 99, 6, NOW);
    let check = |secrets, key, start, cookie| check(secrets, key, start, cookie, NOW);
    assert_eq!(check(SECRETS, v4(8, 7), 99, cookie), Verdict::Wrong, "address");
    assert_eq!(check(SECRETS, v4(7, 8), 99, cookie), Verdict::Wrong, "port");
    assert_eq!(check(SECRETS, v4(7, 7), 99, cookie ^ 1), Verdict::Wrong, "low half");
    assert_eq!(check(SECRETS, v4(7, 7), 99, cookie ^ 1 << 27), Verdict::Wrong, "MSS");
    assert_eq!(check([Secret([9, 9]); 2], v4(7, 7), 99, cookie), Verdict::Wrong, "secret");
    assert_eq!(check(SECRETS, v4(7, 7), 100, cookie), Verdict::Early, "a later segment");
}

#[test]
fn guessing_is_as_hopeless_as_it_should_be() {
    let tries = 400_000_u32;
    let guess = |i: u32| i.wrapping_mul(0x9e37_79b9);
    let verdicts = (0..tries).map(|i| check(SECRETS, v4(7, 7), 99, guess(i), NOW));
    let (mut right, mut early) = (0, 0);
    for verdict in verdicts {
        right += u32::from(matches!(verdict, Verdict::Right(_)));
        early += u32::from(verdict == Verdict::Early);
    }
    assert!(right <= 1, "{right} of {tries} guesses");
    // One of 2^13, of three periods in four, for either secret.
    assert!((40..120).contains(&early), "{early} of {tries} guesses");
}

#[test]
fn the_size_is_never_more_than_the_clients_but_for_those_below_all() {
    for (mss, v4, v6) in [
        (None, 536, 1220),
        (Some(100), 536, 1220),
        (Some(1459), 1440, 1440),
        (Some(1460), 1460, 1440),
        (Some(65_535), 8960, 8940),
    ] {
        assert_eq!(MSS_V4[mss_index::<Ipv4Addr>(mss) as usize], v4);
        assert_eq!(MSS_V6[mss_index::<Ipv6Addr>(mss) as usize], v6);
    }
}
