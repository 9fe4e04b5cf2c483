//! All tests that may share a process, in one binary: each binary takes seconds to compile and link.

mod engine;
mod exchange;
mod fuzz;
mod kernels;
mod packing;
mod pool;
mod rounding;
mod support;
