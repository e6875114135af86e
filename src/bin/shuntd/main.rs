//! `shuntd`: the balancer itself.

mod log;
mod members;
mod serve;
mod workers;

use std::process::ExitCode;

use clap::Parser;
use shunt::cli::config::{self, BAD_INPUT, Outcome};
use shunt::cli::daemon::{Arguments, Command};
use shunt::control::ControlError;
use shunt::control::config::Machine;

/// Exit code of a daemon that ran and did not end well: worth starting again. What was refused
/// before it ran is [`BAD_INPUT`], and starting again would not help.
pub(crate) const FAILED: u8 = 1;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { file, json, elsewhere } => {
            print(&config::check(&file, &machine(elsewhere), json))
        }
        Command::Diff { old, new, json, elsewhere } => {
            print(&config::compare(&old, &new, &machine(elsewhere), json))
        }
        Command::Schema => print(&config::schema()),
    }
}

fn run(config: &std::path::Path) -> ExitCode {
    match log::begin().and_then(|()| serve::serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shuntd: {}", sentence(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// What is refused before packets flow is bad input: trying again gives the same answer. What the
/// machine or the runtime does to a daemon after that is worth another try.
fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        None | Some(ControlError::Punt(_) | ControlError::Compile(_)) => BAD_INPUT,
        Some(ControlError::Io(_) | ControlError::Neighbors(_) | ControlError::Stuck(_)) => FAILED,
    }
}

/// The error and its causes, each once: many messages have their cause in them already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |said, cause| {
        let cause = cause.to_string();
        if said.contains(&cause) { said } else { said + ": " + &cause }
    })
}

fn machine(elsewhere: bool) -> Machine {
    let here = Machine::here();
    if elsewhere { here.elsewhere() } else { here }
}

fn print(outcome: &Outcome) -> ExitCode {
    print!("{}", outcome.out);
    eprint!("{}", outcome.err);
    ExitCode::from(outcome.code)
}

#[cfg(test)]
mod tests {
    use std::io;

    use shunt::control::admin::ClaimError;

    use super::*;

    #[test]
    fn no_message_gives_its_cause_twice_and_none_leaves_it_out() {
        let cause = || io::Error::other("the cause");
        let address = ([192, 0, 2, 99], 9777).into();
        let errors = [
            ClaimError::Metrics { address, source: cause() }.into(),
            ClaimError::Socket { path: "a.sock".into(), source: cause() }.into(),
            ClaimError::Folder { path: "a.sock".into(), source: cause() }.into(),
            ControlError::Io(cause()).into(),
            anyhow::Error::new(cause()).context("what was being done"),
            anyhow::Error::new(cause()).context("the middle").context("the outside"),
        ];
        for error in errors {
            let said = sentence(&error);
            assert_eq!(said.matches("the cause").count(), 1, "{said}");
        }
    }

    #[test]
    fn only_what_failed_after_the_start_is_worth_another_try() {
        let io = || io::Error::other("the cause");
        let taken = shunt::control::punt::PuntError::Taken { port: "a".into(), tap: "b".into() };
        let errors: [(anyhow::Error, u8); 6] = [
            (anyhow::anyhow!("shunt.toml:1:1: not understood"), BAD_INPUT),
            (ClaimError::Running("a.sock".into()).into(), BAD_INPUT),
            (ControlError::Punt(taken).into(), BAD_INPUT),
            (ControlError::Compile("too many".into()).into(), BAD_INPUT),
            (ControlError::Io(io()).into(), FAILED),
            (ControlError::Stuck("0".into()).into(), FAILED),
        ];
        for (error, code) in errors {
            assert_eq!(exit_code(&error), code, "{error}");
        }
    }

    #[test]
    fn the_unit_starts_again_after_a_failure_and_not_after_a_refusal() {
        let unit = include_str!("../../../dpdk-config/systemd/shuntd.service");
        let prevented = unit.lines().find_map(|l| l.strip_prefix("RestartPreventExitStatus="));
        assert_eq!(prevented, Some(BAD_INPUT.to_string().as_str()));
        assert!(unit.lines().any(|line| line == "Restart=on-failure"));
        assert_ne!(BAD_INPUT, FAILED);
    }
}
