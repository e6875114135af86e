//! `shunt`: see [`shunt::cli`].

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use shunt::cli::capture::CaptureError;
use shunt::cli::config::BAD_INPUT;
use shunt::cli::ipvsadm::Program;
use shunt::cli::{Arguments, RequestError, run, run_ipvsadm};

fn main() -> ExitCode {
    let out = &mut BufWriter::new(std::io::stdout().lock());
    let err = &mut std::io::stderr().lock();
    let (answer, trouble) = if let Some(program) = called_as() {
        let line = std::env::args().skip(1).collect();
        (run_ipvsadm(program, line, out, err).map_err(RequestError::Output), 1)
    } else {
        let arguments = Arguments::parse();
        (run(&arguments, out, err), arguments.trouble())
    };
    match answer {
        Ok(code) => ExitCode::from(code),
        // `shunt connections | head` closes the pipe early; that is no failure of ours.
        Err(RequestError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(err, "shunt: {error}");
            match error {
                RequestError::Schedule(_)
                | RequestError::NoJson(_)
                | RequestError::Import(_)
                | RequestError::Capture(CaptureError::Filter { .. }) => ExitCode::from(BAD_INPUT),
                _ => ExitCode::from(trouble),
            }
        }
    }
}

/// Which of `ipvsadm`'s programs, by a link of that name.
fn called_as() -> Option<Program> {
    let name = std::env::args_os().next()?;
    Program::named(Path::new(&name).file_name()?.to_str()?)
}
