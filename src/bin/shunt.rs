//! `shunt`: see [`shunt::cli`].

use std::process::ExitCode;

use clap::Parser;
use shunt::cli::{Arguments, RequestError, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments, &mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `shunt connections | head` closes the pipe early; that is no failure of ours.
        Err(RequestError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("shunt: {error}");
            ExitCode::FAILURE
        }
    }
}
