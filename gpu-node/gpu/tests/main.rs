//! All tests in one binary: each binary takes seconds to compile and link.

#[path = "../bench/mod.rs"]
mod bench;
mod benchmark;
mod calibration;
mod engine;
mod exchange;
mod faults;
mod support;
