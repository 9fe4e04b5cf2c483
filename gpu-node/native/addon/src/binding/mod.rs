//! The functions and classes that Node sees; `../addon.d.ts` describes them in TypeScript.
//!
//! What the GPU addon shares is in [`copal_native::engine_binding`], with the rules for reading arguments.

#![allow(unsafe_code)]

mod engine;
mod exchange;
mod form_sample;
mod grammar;
mod matrix;
mod multiplier;
mod rounding;
mod sampler;
mod weights;

use copal_native::cpu::Implementation;
use copal_native::engine_binding::errors::{Result, invalid};
use copal_native::engine_binding::fields::Field;
use napi_derive::napi;
use std::ops::Range;

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
    copal_native::poison::poison_freed(on);
}

/// The second moment of more columns would take more than 128 GiB.
const MAX_COLS: usize = 1 << 17;

/// The addresses of an array.
fn range_of<T>(values: &[T]) -> Range<usize> {
    let Range { start, end } = values.as_ptr_range();
    start.addr()..end.addr()
}

/// Rejects an array that is written to and shares memory with another.
fn require_apart<'a>(
    name: &str,
    written: Range<usize>,
    others: impl IntoIterator<Item = &'a Range<usize>>,
) -> Result<()> {
    match others.into_iter().any(|other| written.start < other.end && other.start < written.end) {
        true => Err(invalid(format!("{name} shares memory with another array; give it its own"))),
        false => Ok(()),
    }
}

/// The kernel that a field names; the best one of the machine if the field is missing.
fn kernel_of(field: Field) -> Result<&'static Implementation> {
    let name = field.optional()?.map(|field| field.text()).transpose()?;
    Implementation::select(name.as_deref()).map_err(invalid)
}
