//! Runs a step so many times and nothing else: what valgrind counts instructions of.
//!
//! `instructions --list` names the steps, `instructions NAME TIMES` runs one. Two runs with different
//! counts tell what a step takes: what surrounds it is the same in both.

use std::process::ExitCode;

mod subjects;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut known = subjects::all();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => known.iter().for_each(|(name, _)| println!("{name}")),
        [name, times] => {
            let subject = known.iter_mut().find(|(known, _)| *known == name);
            let (Some((_, run)), Ok(times)) = (subject, times.parse()) else {
                eprintln!("instructions: no step {name} {times}; --list names them");
                return ExitCode::from(2);
            };
            run(times);
        }
        // `cargo bench` without a name passes options of its own: there is nothing to time here.
        _ => {}
    }
    ExitCode::SUCCESS
}
