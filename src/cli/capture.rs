//! `shunt capture`: frames as the balancer sees them, into a file or straight into `tcpdump`.
//!
//! ```text
//! --filter EXPR ─► tcpdump -ddd ─► numbers ─► shuntd ─► pcapng ─┬─► -w FILE, -w - (stdout)
//!                                                               └─► tcpdump -r -   (without -w)
//! ```
//!
//! The expression is compiled here, by the program whose language it is: the daemon gets numbers, which it
//! checks. What comes back is passed on as it is, and counted on the way.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::request::{RequestError, Socket};
use crate::control::admin::answers::capture::pcapng::Reader;
use crate::control::admin::answers::capture::{
    AskedMoment, FRAMES_MAX, Parameters, SECONDS, SECONDS_MAX, SNAP_LEN, SNAP_LEN_MAX,
};
use crate::control::words::count;

mod target;

use target::Target;

/// What compiles filters and shows frames.
const TCPDUMP: &str = "tcpdump";
/// What a daemon may take beyond the capture's own time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing, or not all, was captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The expression is wrong.
    #[error("the filter `{expression}` is not understood: {said}")]
    Filter {
        /// What was asked for.
        expression: String,
        /// What is wrong with it.
        said: String,
    },
    /// No `tcpdump`.
    #[error("cannot run {TCPDUMP}: {0}; install it, or leave --filter away and write with -w")]
    NoTcpdump(io::Error),
    /// The file cannot be opened.
    #[error(
        "cannot write {path}: {source}; nothing was captured, give -w a file that can be written"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written any further.
    #[error("cannot write {path}: {source}; the capture has ended, what is there can be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `tcpdump` takes no more.
    #[error("{TCPDUMP} takes no more frames: {0}")]
    Unread(io::Error),
    /// The stream ended before the daemon said so.
    #[error("the capture broke off after {0} frames; is shuntd still running?")]
    Broken(u64),
}

/// What to capture.
#[derive(Debug, clap::Args)]
pub struct Capture {
    /// Only frames of this port
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Only frames of this service's connections
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only frames as received, before they are rewritten
    #[arg(long, conflicts_with = "after")]
    before: bool,
    /// Only frames as sent, after they were rewritten
    #[arg(long)]
    after: bool,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=FRAMES_MAX))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "S", default_value_t = SECONDS,
          value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Keep so many bytes of a frame
    #[arg(long, value_name = "BYTES", default_value_t = SNAP_LEN,
          value_parser = clap::value_parser!(u64).range(1..=SNAP_LEN_MAX as u64))]
    snap_len: u64,
    /// Of the frames that match, take one in so many
    #[arg(long, value_name = "1/N", value_parser = share)]
    sample: Option<NonZeroU32>,
    /// Only frames this expression finds, as for tcpdump
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Write a pcapng file, `-` to the standard output; without it tcpdump prints
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// `1/100`, or `100`.
fn share(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_prefix("1/").unwrap_or(text);
    number.parse().map_err(|_| "expected 1/N, one frame in N".to_owned())
}

/// Captures until the end, and says on `err` how much. The exit code: that of the `tcpdump` which prints, if one does.
pub fn run(
    asked: &Capture,
    socket: &Socket,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<u8, RequestError> {
    let parameters = parameters(asked)?;
    let mut target = Target::new(asked.write.as_deref(), out);
    let patience = Duration::from_secs(asked.seconds) + PATIENCE;
    let mut reader = Reader::default();
    let done = socket.stream("/capture", &parameters, patience, |bytes| {
        reader.read(bytes);
        target.write(bytes)
    });
    let finished = target.finish();
    match done {
        // It ended first: why is its own to say.
        Err(RequestError::Capture(CaptureError::Unread(_))) => {}
        done => done.and_then(|()| whole(&reader))?,
    }
    let code = finished?;
    told(&reader, code, err).map_err(RequestError::Output)?;
    Ok(code)
}

/// Did the stream come to its end?
fn whole(reader: &Reader) -> Result<(), RequestError> {
    if reader.is_whole() { Ok(()) } else { Err(CaptureError::Broken(reader.frames).into()) }
}

/// The last line.
fn told(reader: &Reader, code: u8, err: &mut impl Write) -> io::Result<()> {
    if code != 0 {
        writeln!(err, "shunt: {TCPDUMP} ended with exit code {code}; -w FILE keeps the frames")?;
    }
    let frames = count(usize::try_from(reader.frames).unwrap_or(usize::MAX), "frame");
    let missed = reader.missed.unwrap_or_default();
    writeln!(err, "{frames} captured, {missed} missed for want of room")
}

fn parameters(asked: &Capture) -> Result<Parameters, CaptureError> {
    let moment = match (asked.before, asked.after) {
        (true, _) => Some(AskedMoment::Before),
        (_, true) => Some(AskedMoment::After),
        _ => None,
    };
    Ok(Parameters {
        port: asked.port.clone(),
        service: asked.service.clone(),
        moment,
        count: asked.count,
        seconds: Some(asked.seconds),
        snap_len: Some(asked.snap_len),
        one_in: asked.sample,
        filter: asked.filter.as_deref().map(compiled).transpose()?,
    })
}

/// The program of an expression, as the daemon wants it: `code.jt.jf.k` joined by `_`.
fn compiled(expression: &str) -> Result<String, CaptureError> {
    let output = Command::new(TCPDUMP).args(["-ddd", "-y", "EN10MB", "--", expression]).output();
    let output = output.map_err(CaptureError::NoTcpdump)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("tcpdump: ").to_owned();
        return Err(CaptureError::Filter { expression: expression.to_owned(), said });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // The first line says how many follow.
    Ok(text.lines().skip(1).map(|line| line.replace(' ', ".")).collect::<Vec<_>>().join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_becomes_a_program_the_daemon_takes_and_a_wrong_one_is_named() {
        let program = compiled("tcp port 80").unwrap();
        assert!(program.parse::<crate::dataplane::capture::filter::Program>().is_ok(), "{program}");
        let error = compiled("no such thing").unwrap_err().to_string();
        assert!(error.starts_with("the filter `no such thing` is not understood: "), "{error}");
    }

    #[test]
    fn a_share_is_one_in_so_many() {
        for (text, wanted) in [("1/100", Some(100)), ("7", Some(7)), ("1/0", None), ("2/3", None)] {
            assert_eq!(share(text).ok().map(NonZeroU32::get), wanted, "{text}");
        }
    }
}
