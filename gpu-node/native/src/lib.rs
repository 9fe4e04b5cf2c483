//! Weight matrices that store only the weights a mask keeps, the kernels that multiply by them, and the refinement of
//! masks and weights.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `storage` | packs a dense f32 matrix and a mask into blocks of rows |
//! | `cpu` | detects what the processor can run, and selects an implementation: the fastest, or the one that is named |
//! | `kernels` | encodes inputs and multiplies |
//! | `prefetch` | asks the processor to read memory before it is needed |
//! | `processor` | tells which processor a thread runs on, and moves it away |
//! | `scheduling` | tells the system which threads are urgent |
//! | `pool` | divides a multiplication by rows between a fixed number of threads |
//! | `engine` | the forward pass of a LLaMA |
//! | `exchange` | refines masks |
//! | `rounding` | rounds weights to the codes of int4 |
//! | `shape` | checks the lengths of arrays |
//! | `measure` | measurements for benchmarks |
//! | `form_sample` | measures which form of pruned weights is faster |
//! | `poison`, `allocator` | switches for tests: poison freed memory, count allocations |
//! | `engine_binding` | what the bindings of both addons share |
//!
//! Both addons link this crate: `addon`, with the functions and classes that Node sees, and `../gpu`.
//!
//! Unsafe code is in `kernels`, `engine`, `engine_binding`, `poison`, `allocator`, `prefetch`, `processor`,
//! `scheduling`, `storage/packing` and `cpu/x86.rs`, and in one place each of `pool`, `exchange` and
//! `rounding`.

#![deny(unsafe_code)]

pub mod allocator;
pub mod cpu;
pub mod engine;
#[cfg(all(feature = "engine-binding", not(test)))]
pub mod engine_binding;
pub mod exchange;
pub mod form_sample;
pub mod kernels;
pub mod measure;
pub mod poison;
pub mod pool;
mod prefetch;
mod processor;
pub mod rounding;
pub mod scheduling;
mod shape;
pub mod storage;
