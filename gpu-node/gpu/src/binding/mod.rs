//! The functions and classes that Node sees; `addon.d.ts` describes them in TypeScript.
//!
//! The shared part of the native addon's binding, `copal_native::engine_binding`, reads arguments and runs steps.

mod calibrator;
mod devices;
mod engine;
mod errors;
mod exchanger;
mod idle;
mod stepped;
mod weights;

use napi_derive::napi;

/// The hash of the sources that the addon was built from. The loader compares it with the hash of the sources beside it.
/// Empty if cargo was called without it.
#[napi]
pub fn source_hash() -> &'static str {
    option_env!("COPAL_SOURCES").unwrap_or_default()
}
