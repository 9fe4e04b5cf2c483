//! The forward pass of a LLaMA on a GPU, and parts of calibration and selection, through wgpu: Vulkan, Metal or DX12.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `fault` | what can go wrong with a device |
//! | `device` | finds devices, opens one, notices when it fails |
//! | `layout` | packs a dense f32 matrix and a mask for the kernels |
//! | `programs` | the kernels (WGSL in `shaders/`), compiled for a model and a device |
//! | `matrix` | matrices on a device, bound to their inputs and outputs |
//! | `engine` | weight sets, key/value pages, and steps |
//! | `parts` | splits work into parts of bounded size |
//! | `exchange` | the refinement of masks by exchanges |
//! | `calibration` | decoder blocks in f32 with the sums of their statistics |
//! | `binding` | the functions and classes that Node sees |
//!
//! The native crate (`../native`) has what does not depend on the device: the check of a step's work, its split into
//! batches, the places of weights, the check of masks, and the binding without its classes. So both addons accept the same
//! arguments.

#![deny(unsafe_code)]

#[cfg(all(feature = "binding", not(test)))]
mod binding;
pub mod calibration;
pub mod device;
pub mod engine;
pub mod exchange;
pub mod fault;
pub mod layout;
mod matrix;
mod parts;
mod programs;

// The tests of devices, in the crate: as a crate of their own they would need it compiled a second time.
#[cfg(test)]
extern crate self as copal_gpu;
#[cfg(test)]
#[path = "../bench/mod.rs"]
mod bench;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(test)]
#[path = "../tests/mod.rs"]
mod tests;
