//! The forward pass of a LLaMA over packed weights.
//!
//! `config` is the model's shape; `weights` loads weight sets from the mapped master file and a
//! mask file, which `masked` checks, shares what a mask does not change, and keeps `pace` with the steps; `pages` holds
//! keys and values; `work` is what a step is asked and checks it; `batch` cuts it and `step` runs it; `forward` runs a
//! batch; `outputs` makes logits, scores and sums of what comes out, `sampler` a token of logits; `attention` and
//! `vector` are the loops that are compiled for each instruction set.
//!
//! Results do not depend on the number of threads, and those of a token not on what else runs with
//! it: rows of a multiplication and heads of an attention are never split between threads, and every kernel sums
//! a token alone in the same order as in company.

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
pub use step::{Engine, EngineOptions, Usage};
pub(crate) use vector::VectorFns;
pub use weights::{LINEARS, LinearPlace, LoadError, SharedPlaces, WeightLibrary, WeightPlaces, WeightSet};
pub use work::{Output, StepError, Work};
