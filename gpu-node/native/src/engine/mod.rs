//! The forward pass of a LLaMA over packed weights.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `config` | the shape of the model |
//! | `weights` | loads weight sets from the mapped master file and a mask file; shares weights that no mask changes |
//! | `mapped` | files that are mapped into memory |
//! | `masked` | checks the mask of a linear |
//! | `pace` | slows down packing while steps run |
//! | `pages` | holds keys and values |
//! | `work` | the work of a step, and its check |
//! | `step` | runs a step |
//! | `batch` | splits a step into batches |
//! | `forward` | runs the blocks over a batch |
//! | `outputs` | computes logits, scores and sums from the hidden states |
//! | `sampler` | draws a token from logits |
//! | `attention`, `vector` | the loops that are compiled for each instruction set |
//!
//! Results do not depend on the number of threads, and the results of a token do not depend on the other tokens of the
//! batch: rows of a multiplication and heads of an attention are never split between threads, and every kernel adds up a
//! token in the same order whether it is alone in a batch or not.

#![allow(unsafe_code)]

mod attention;
mod batch;
mod config;
mod forward;
mod mapped;
mod masked;
mod outputs;
mod pace;
mod pages;
mod sampler;
mod step;
pub(crate) mod vector;
mod weights;
mod work;

pub use config::{ConfigError, ModelConfig};
pub use masked::MaskedPlace;
pub use pace::Pace;
pub use pages::PAGE_TOKENS;
pub use sampler::{Cuts, LogitFault, Sampler};
pub use step::{Engine, EngineError, EngineOptions, Usage};
pub(crate) use vector::VectorFns;
pub use weights::{
    LINEARS, LinearPlace, LoadError, SetForm, SharedPlaces, WeightLibrary, WeightPlaces, WeightSet,
};
pub use work::{Output, StepError, Work};
