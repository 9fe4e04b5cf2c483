//! `copal-gpu-bench`: the benchmark of a GPU as a program of its own, for machines without Node and cargo.
//! `docs/measurements/gpu.md` says how to build and run it.

#[path = "mod.rs"]
mod bench;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    match bench::run(arguments, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(bench::Failure::Arguments(reason)) => {
            eprintln!("copal-gpu-bench: {reason}. Try --help.");
            ExitCode::from(2)
        }
        Err(bench::Failure::Run(error)) => {
            eprintln!("copal-gpu-bench: {error}.");
            ExitCode::FAILURE
        }
    }
}
