//! Weight matrices stored by the bytes that survive pruning, the kernels that multiply by them, and the
//! refinement of masks.
//!
//! `storage` packs a dense f32 matrix and a mask into blocks of rows; `kernels` encodes inputs and
//! multiplies, with the best instruction set of the machine or the one that was asked for; `pool` shares
//! a multiplication by rows between fixed threads; `engine` is a LLaMA's forward pass over them; `swaps`
//! refines masks; `poison` makes freed memory tell and `allocator` counts, for tests; `binding` is what Node sees.
//! Unsafe code is in `kernels`, in `engine`, in `binding`, in `poison`, in `allocator`, in `storage/instructions.rs`,
//! and in one place each of `pool` and `swaps`.

#![deny(unsafe_code)]

pub mod allocator;
#[cfg(all(feature = "binding", not(test)))]
mod binding;
pub mod cpu;
pub mod engine;
pub mod exchange;
pub mod grammar;
pub mod kernels;
pub mod measure;
pub mod poison;
pub mod pool;
pub mod storage;
