//! `smtp`: greeting, HELO, QUIT, each answered with its code (RFC 5321, section 4.3.2).
//!
//! ```text
//!   server                      we
//!   220 mx ESMTP   ──►
//!                  ◄──  HELO shunt
//!   250 mx         ──►
//!                  ◄──  QUIT
//!   221 bye        ──►
//! ```

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::Failure;
use super::socket::{self, Road};

/// Longer answers are no mail server's.
const ANSWER_MAX: u64 = 16 * 1024;

pub(super) async fn ask(road: &Road<'_>, helo: &str) -> Result<(), Failure> {
    let mut stream = BufReader::new(socket::connect(road).await?);
    expect(&mut stream, "220", "the greeting is not 220").await?;
    say(&mut stream, &format!("HELO {helo}\r\n")).await?;
    expect(&mut stream, "250", "HELO was not answered with 250").await?;
    say(&mut stream, "QUIT\r\n").await?;
    expect(&mut stream, "221", "QUIT was not answered with 221").await
}

async fn say(stream: &mut BufReader<TcpStream>, line: &str) -> Result<(), Failure> {
    Ok(stream.get_mut().write_all(line.as_bytes()).await?)
}

/// Reads an answer, all its lines: `250-` goes on, `250 ` is the last.
async fn expect(
    stream: &mut BufReader<TcpStream>,
    code: &str,
    otherwise: &'static str,
) -> Result<(), Failure> {
    let mut stream = stream.take(ANSWER_MAX);
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(Failure::Closed);
        }
        if !line.starts_with(code.as_bytes()) {
            return Err(Failure::Unexpected(otherwise));
        }
        if line.get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
