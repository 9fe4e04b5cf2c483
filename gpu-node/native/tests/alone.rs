//! Tests that need a process without other threads, because they count its allocations or look at its memory. So they
//! run one after the other, without the standard harness, which has a thread of its own.

mod allocations;
#[cfg(target_os = "linux")]
mod poison;
mod support;

const TESTS: &[(&str, fn())] = &[
    #[cfg(target_os = "linux")]
    ("freed_memory_is_poisoned", poison::freed_memory_is_poisoned),
    ("steps_of_held_sequences_allocate_nothing", allocations::steps_of_held_sequences_allocate_nothing),
];

/// Takes the names to run and `--skip NAME` as the standard harness does, and ignores its other options.
fn main() {
    let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--skip" => skipped.extend(arguments.next()),
            option if option.starts_with('-') => {}
            _ => wanted.push(argument),
        }
    }
    let names = |names: &[String], test: &str| names.iter().any(|name| test.contains(name.as_str()));
    for (name, test) in TESTS {
        if (wanted.is_empty() || names(&wanted, name)) && !names(&skipped, name) {
            test();
            println!("test {name} ... ok");
        }
    }
}
