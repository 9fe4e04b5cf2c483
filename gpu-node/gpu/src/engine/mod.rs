//! The forward pass of a LLaMA on a device.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `weights` | loads weight sets from the mapped master file and a mask file; shares weights that no mask changes |
//! | `buffers` | activations, and the buffers that a step is transferred by |
//! | `pages` | holds keys and values |
//! | `plan` | turns the work of a step into the words that are uploaded, and the calls of kernels |
//! | `record` | records the commands of a step |
//! | `step` | runs a step: one upload, one submission, one download |
//!
//! From the native addon: `work` (the work of a step, and its check), `batch` (splits a step into batches), `masked`
//! (checks the mask of a linear), `mapped` (files that are mapped into memory).

// The forward pass of the processor reads more of a batch.
#[allow(dead_code)]
#[path = "../../../native/src/engine/batch.rs"]
mod batch;
mod buffers;
// `MappedFile` has an unsafe block for each use of mapped memory.
#[allow(unsafe_code)]
#[path = "../../../native/src/engine/mapped.rs"]
mod mapped;
// This crate takes its places from the library.
#[allow(dead_code)]
#[path = "../../../native/src/engine/masked.rs"]
mod masked;
mod pages;
mod plan;
mod record;
mod step;
mod weights;
#[path = "../../../native/src/engine/work.rs"]
mod work;

pub use copal_native::engine::{
    LINEARS, LinearPlace, LoadError, MaskedPlace, ModelConfig, PAGE_TOKENS, SharedPlaces, WeightPlaces,
};
pub use step::{Engine, EngineOptions, Fault, Memory, Usage};
pub use weights::{Forms, LoadFault, WeightLibrary, WeightSet};
pub use work::{Output, StepError, Work};
