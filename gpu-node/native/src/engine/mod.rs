//! The forward pass of a LLaMA over packed weights.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `config` | the shape of the model |
//! | `places` | the files and places that weight sets are loaded from |
//! | `weights` | loads weight sets from the mapped master file and a mask file; shares weights that no mask changes |
//! | `mapped` | files that are mapped into memory |
//! | `masked` | checks the mask of a linear |
//! | `pace` | slows down packing and trials while steps run |
//! | `pages` | holds keys and values |
//! | `work` | the work of a step, and its check |
//! | `step` | runs a step |
//! | `trial` | runs new weights for the first time, beside the steps |
//! | `usage` | the sequences and pages in use |
//! | `batch` | splits a step into batches |
//! | `forward` | runs the blocks over a batch |
//! | `outputs` | computes logits, scores and sums from the hidden states |
//! | `sampler` | draws a token from logits |
//! | `attention`, `vector` | the loops that are compiled for each instruction set |
//! | `lanes` | vectors of each instruction set |
//!
//! The GPU addon has its own `weights`, `pages`, `step` and forward pass, and uses the rest of what is public here.
//!
//! Results do not depend on the number of threads, and the results of a token do not depend on the other tokens of the
//! batch: rows of a multiplication and heads of an attention are never split between threads, and every kernel adds up a
//! token in the same order whether it is alone in a batch or not.

#![allow(unsafe_code)]

mod attention;
mod batch;
mod config;
mod forward;
mod lanes;
mod mapped;
mod masked;
mod outputs;
mod pace;
mod pages;
mod places;
mod sampler;
mod step;
mod trial;
mod usage;
pub(crate) mod vector;
mod weights;
mod work;

pub use batch::{Batch, Span, batches};
pub use config::{ConfigError, ModelConfig};
pub use mapped::Source;
pub use masked::{check_bits, check_count, values_error};
pub use pace::{Pace, StepUnderWay};
pub use pages::{KvPrecision, PAGE_TOKENS};
pub use places::{LINEARS, LinearPlace, LoadError, MaskedPlace, SharedPlaces, WeightPlaces, linear_name};
pub use sampler::{Cuts, LogitFault, Sampler};
pub use step::{Engine, EngineError, EngineOptions};
pub use trial::TrialError;
pub use usage::Usage;
pub(crate) use vector::VectorFns;
pub use weights::{SetForm, WeightLibrary, WeightSet};
pub use work::{Output, StepError, Work, check_work};
