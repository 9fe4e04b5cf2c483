//! The forward pass of a LLaMA on a device.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `weights` | loads weight sets from the mapped master file and a mask file; shares weights that no mask changes |
//! | `buffers` | activations, and the buffers that a step is transferred by |
//! | `pages` | holds keys and values |
//! | `adjustments` | the tokens whose logits biases and penalties change |
//! | `plan` | turns the work of a step into the words that are uploaded, and the calls of kernels |
//! | `record` | records the commands of a step |
//! | `step` | runs a step: one upload, one submission, one download |
//!
//! The native addon's `engine` has what does not depend on the device: the places of weights and the files, the check of
//! masks, the work of a step with its check, and its split into batches.

mod adjustments;
mod buffers;
mod fault;
mod pages;
mod plan;
mod record;
mod step;
mod weights;

pub use adjustments::Adjustments;
pub use copal_native::engine::{
    LINEARS, LinearPlace, LoadError, MaskedPlace, ModelConfig, Output, PAGE_TOKENS, SharedPlaces, StepError,
    Usage, WeightPlaces, Work,
};
pub use fault::Fault;
pub use step::{Downloads, Engine, EngineOptions, Memory, prepare};
pub use weights::{Forms, LoadFault, WeightLibrary, WeightSet};
