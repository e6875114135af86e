//! Damage on the way: a handshake that ends here is looked at here, since what goes on has checksums
//! of our own.

use super::*;

#[test]
fn a_damaged_handshake_is_dropped_and_the_whole_one_goes_on() {
    for families in [V4, V6, Nat64] {
        let mut world = always(families, ClientAddress::None, Mode::Fullnat);
        let syn = tcp(families).flags(SYN).numbers(START, 0);
        assert_eq!(world.exchange(0, 0, &syn.clone().l4_wrong_by(1).build()), []);
        let told = Segment::read(&world.one(0, 0, &syn.build()).frame);
        let ack = tcp(families).numbers(START.wrapping_add(1), told.sequence.wrapping_add(1));
        let ack = ack.flags(ACK);
        assert_eq!(world.exchange(0, 0, &ack.clone().l4_wrong_by(1).build()), []);
        let asked = world.one(0, 0, &ack.build());
        let agree = from_backend(&asked).flags(SYN | ACK).numbers(THEIRS, START + 1);
        assert_eq!(world.exchange(0, 1, &agree.clone().l4_wrong_by(1).build()), []);
        assert_ne!(world.exchange(0, 1, &agree.build()), [], "{families:?}");
        assert_eq!(world.drops(), [(Reason::L4Checksum, 3)], "{families:?}");
    }
}
