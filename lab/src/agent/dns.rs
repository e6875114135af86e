//! A name server that answers every question with one address: its own (RFC 1035, section 4).
//!
//! With it `dig @VIP` is a real UDP client whose answer says which backend it reached. It copies
//! the question and appends one A record that points back at it; anything that is not one plain
//! question is not answered.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context as _, Result};

const HEADER_BYTES: usize = 12;
/// QR and AA; RD is copied from the question.
const ANSWER_FLAGS: u8 = 0x84;

/// Answers at `listen` until the process is ended.
pub fn serve(listen: SocketAddrV4) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("listening at {listen}/udp"))?;
    let mut query = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut query)?;
        if let Some(answer) = answer(query.get(..length).unwrap_or_default(), *listen.ip()) {
            socket.send_to(&answer, from)?;
        }
    }
}

/// The answer to a query, or `None` if it is not one question.
fn answer(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let header = query.get(..HEADER_BYTES)?;
    let [id_high, id_low, flags, _, 0, 1, ..] = *header else { return None };
    let recursion_desired = flags & 1;
    let question = query.get(HEADER_BYTES..HEADER_BYTES + question_length(query)?)?;
    let mut answer = vec![id_high, id_low, ANSWER_FLAGS | recursion_desired, 0];
    // One question, one answer, no authority, no additional record.
    answer.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    // Name: a pointer to the question's; type A, class IN, TTL 0, four bytes.
    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
    answer.extend_from_slice(&address.octets());
    Some(answer)
}

/// Length of the first question: labels, type and class.
fn question_length(query: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        match usize::from(*query.get(at)?) {
            0 => return Some(at + 5 - HEADER_BYTES),
            label @ 1..=63 => at += label + 1,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x03who\x02am\0\0\x01\0\x01opt";

    #[test]
    fn the_answer_copies_id_and_question_and_names_the_address() {
        let answer = answer(QUERY, Ipv4Addr::new(10, 44, 0, 11)).unwrap();
        let expected = b"\x12\x34\x85\0\0\x01\0\x01\0\0\0\0\x03who\x02am\0\0\x01\0\x01\
            \xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\x2c\0\x0b";
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_query_cut_anywhere_in_its_question_gets_no_answer() {
        for length in 0..QUERY.len() - b"opt".len() {
            assert_eq!(answer(&QUERY[..length], Ipv4Addr::LOCALHOST), None, "{length} bytes");
        }
    }
}
