//! `dns`: one question over UDP (RFC 1035, section 4), good if an answer comes without an error.
//!
//! ```text
//!  0      2      4       6       8       10      12
//! │ id   │ flags│ 1     │ 0     │ 0     │ 0     │ labels, 0 │ type │ class 1 │
//!          RD                                     3 www 7 example ... 0
//! ```
//!
//! An answer is good with the question's id, `QR` set and `RCODE` 0. What it says is not looked at: a name
//! that has no such record is answered well.

use super::Failure;
use super::socket::{self, Road};

const IN: u16 = 1;
const RECURSION_DESIRED: u16 = 0x0100;

pub(super) async fn ask(road: &Road<'_>, name: &str, record: u16) -> Result<(), Failure> {
    let random = getrandom::u32().map_err(|error| Failure::NotRun(error.to_string()))?;
    let id = (random >> 16) as u16;
    let socket = socket::datagrams(road).await?;
    socket.send(&question(id, name, record)).await?;
    // What answers a question before this one, from the same port by chance, is not judged.
    socket::hear(&socket, |answer| judge(answer, id)).await?
}

fn question(id: u16, name: &str, record: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18 + name.len());
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(record.to_be_bytes());
    bytes.extend(IN.to_be_bytes());
    bytes
}

/// `None` if it is not an answer to that question.
fn judge(answer: &[u8], id: u16) -> Option<Result<(), Failure>> {
    let word = |at: usize| {
        let bytes = answer.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    let (of, flags) = (word(0)?, word(2)?);
    let is_answer = of == id && flags & 0x8000 != 0;
    is_answer.then_some(match flags & 0xf {
        0 => Ok(()),
        1 => Err(Failure::Unexpected("the server finds the question malformed (FORMERR)")),
        2 => Err(Failure::Unexpected("the server failed (SERVFAIL)")),
        3 => Err(Failure::Unexpected("no such name (NXDOMAIN)")),
        5 => Err(Failure::Unexpected("the server refused (REFUSED)")),
        _ => Err(Failure::Unexpected("the server answered with an error")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_written_as_rfc_1035_has_it() {
        let expected =
            b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\x00\x1c\x00\x01";
        assert_eq!(question(0x1234, "www.example.com.", 28), expected);
        assert_eq!(&question(1, ".", 6)[12..], b"\0\x00\x06\x00\x01", "the root");
    }

    #[test]
    fn an_answer_is_good_if_it_is_one_and_has_no_error() {
        let header = |id: u16, flags: u16| [id.to_be_bytes(), flags.to_be_bytes()].concat();
        assert_eq!(judge(&header(7, 0x8180), 7), Some(Ok(())));
        assert_eq!(judge(&header(8, 0x8180), 7), None, "of another question");
        assert_eq!(judge(&header(7, 0x0100), 7), None, "a question");
        assert_eq!(judge(b"\0\x07\x81", 7), None, "too short");
        for code in 1..16 {
            assert!(judge(&header(7, 0x8180 | code), 7).unwrap().is_err(), "{code}");
        }
    }
}
