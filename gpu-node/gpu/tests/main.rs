//! All tests in one binary: each binary takes seconds to compile and link.

mod engine;
mod exchange;
mod faults;
mod moments;
mod support;
