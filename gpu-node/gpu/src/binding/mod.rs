//! The functions and classes that Node sees; `addon.d.ts` describes them in TypeScript.
//!
//! Arguments are read by the native addon's `fields`, and work off the event loop runs in its `background`, both compiled
//! from its sources: see there for the rules. A panic and a fault of the device become errors.

#![allow(unsafe_code)]

#[path = "../../../native/src/binding/background.rs"]
mod background;
mod devices;
mod engine;
mod errors;
// It reads more types of arrays for the native addon.
#[allow(dead_code)]
#[path = "../../../native/src/binding/fields.rs"]
mod fields;
mod model;
mod steps;
mod weights;

use napi_derive::napi;

/// The largest number of threads that load; `serving/contract/backend.ts` has the same limit.
const MAX_THREADS: usize = 256;
/// Offsets and ids are doubles: whole numbers are exact up to here.
const MAX_EXACT: usize = 1 << 53;

/// The hash of the sources that the addon was built from. The loader compares it with the hash of the sources beside it.
/// Empty if cargo was called without it.
#[napi]
pub fn source_hash() -> &'static str {
    option_env!("COPAL_SOURCES").unwrap_or_default()
}
