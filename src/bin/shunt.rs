//! `shunt`: see [`shunt::cli`].

use std::io::BufWriter;
use std::process::ExitCode;

use clap::Parser;
use shunt::cli::config::BAD_INPUT;
use shunt::cli::{Arguments, RequestError, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let out = std::io::stdout().lock();
    match run(&arguments, &mut BufWriter::new(out), &mut std::io::stderr().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `shunt connections | head` closes the pipe early; that is no failure of ours.
        Err(RequestError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("shunt: {error}");
            match error {
                RequestError::Schedule(_) => ExitCode::from(BAD_INPUT),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
