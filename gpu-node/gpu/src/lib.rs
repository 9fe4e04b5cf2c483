//! The forward pass of a LLaMA on a GPU, through wgpu: Vulkan, Metal or DX12.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `fault` | what can go wrong with a device |
//! | `device` | finds devices, opens one, notices when it fails |
//! | `layout` | packs a dense f32 matrix and a mask for the kernels |
//! | `programs` | the kernels (WGSL in `shaders/`), compiled for a model and a device |
//! | `matrix` | matrices on a device, bound to their inputs and outputs |
//! | `engine` | weight sets, key/value pages, and steps |
//! | `binding` | the functions and classes that Node sees |
//!
//! The check of a step's work, its split into batches, the check of masks and the reading of JavaScript's arguments are
//! compiled from the sources of the native addon (`../native`), so that both addons accept the same.

#![deny(unsafe_code)]

#[cfg(all(feature = "binding", not(test)))]
mod binding;
pub mod device;
pub mod engine;
pub mod fault;
pub mod layout;
mod matrix;
mod programs;

// Under the names that the shared sources expect.
use copal_native::{kernels, pool, storage};
