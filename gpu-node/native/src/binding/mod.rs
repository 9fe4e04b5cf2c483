//! What Node sees; `addon.d.ts` says it in TypeScript.
//!
//! Arguments are numbers, strings, typed arrays and our own classes, never objects with properties:
//! reading one may run a getter, and that could move the memory of an array that was read before.
//! What is worked on after a call has returned is copied in the call. A panic becomes an error.

#![allow(unsafe_code)]

mod engine;
mod grammar;
mod matrix;
mod multiplier;
mod sampler;
mod steps;
mod swaps;
mod weights;

use crate::cpu::Implementation;
use napi::{Error, Result, Status};
use napi_derive::napi;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Threads that share a step: `MOST_THREADS` in `backends/backend.ts` says the same.
const MOST_THREADS: usize = 256;
/// Offsets and ids are doubles: whole numbers up to here are exact.
const MOST_BYTES: usize = 1 << 53;

/// The hash of the sources that this was built of, as `infra/local/build-native.mjs` gave it; the loader compares it with
/// that of those it finds. Empty where cargo was called without it.
#[napi]
pub fn sources() -> &'static str {
    option_env!("COPAL_SOURCES").unwrap_or_default()
}

/// Names of the kernels that this machine can run, best first.
#[napi]
pub fn kernels() -> Vec<&'static str> {
    Implementation::supported_names()
}

/// For tests: from now on freed memory is overwritten, or left alone.
#[napi]
pub fn poison_freed(on: bool) {
    crate::poison::poison_freed(on);
}

fn invalid(reason: impl Display) -> Error {
    Error::new(Status::InvalidArg, reason.to_string())
}

/// A whole number between 1 and `largest`.
fn count(name: &str, value: f64, largest: usize) -> Result<usize> {
    if value.fract() == 0.0 && value >= 1.0 && value <= largest as f64 {
        return Ok(value as usize);
    }
    Err(invalid(format!("{name} must be a whole number from 1 to {largest}, not {value}")))
}

/// Runs `work`; a panic in it becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no message".to_owned());
        Err(Error::new(Status::GenericFailure, format!("the addon panicked: {text}")))
    })
}
