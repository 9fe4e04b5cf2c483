//! The functions and classes that Node sees; `addon.d.ts` describes them in TypeScript.
//!
//! An argument that is an object is read by [`fields`]: every property once, before anything is checked. A getter may
//! run JavaScript, which could detach an array buffer, so typed arrays are borrowed only after the last property was
//! read. Arrays that are used after a call has returned are copied during the call. A panic becomes an error.

#![allow(unsafe_code)]

mod background;
mod engine;
mod errors;
mod exchange;
mod fields;
mod form_sample;
mod grammar;
mod matrix;
mod multiplier;
mod sampler;
mod steps;
mod weights;

use crate::cpu::Implementation;
use errors::{Result, invalid};
use fields::Field;
use napi_derive::napi;

/// The largest number of threads that share a step; `serving/contract/backend.ts` has the same limit.
const MAX_THREADS: usize = 256;
/// Offsets and ids are doubles: whole numbers are exact up to here.
const MAX_EXACT: usize = 1 << 53;

/// The hash of the sources that the addon was built from, as `infra/local/build-native.mjs` computed it. The loader
/// compares it with the hash of the sources beside it. Empty if cargo was called without it.
#[napi]
pub fn source_hash() -> &'static str {
    option_env!("COPAL_SOURCES").unwrap_or_default()
}

/// Names of the kernels that this machine can run, best first.
#[napi]
pub fn kernels() -> Vec<&'static str> {
    Implementation::supported_names()
}

/// For tests: switches the overwriting of freed memory on or off.
#[napi]
pub fn poison_freed(on: bool) {
    crate::poison::poison_freed(on);
}

/// The kernel that a field names; the best one of the machine if the field is missing.
fn kernel_of(field: Field) -> Result<&'static Implementation> {
    let name = field.optional()?.map(|field| field.text()).transpose()?;
    Implementation::select(name.as_deref()).map_err(invalid)
}
