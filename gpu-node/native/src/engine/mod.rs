//! The forward pass of a LLaMA over packed weights.
//!
//! `config` is the model's shape; `weights` loads weight sets from the mapped master file and a
//! mask file, and shares what a mask does not change; `pages` holds keys and values; `step` checks
//! a step and reserves its pages; `forward` runs it; `attention` and `vector` are the loops that
//! are compiled for each instruction set.
//!
//! Results do not depend on the number of threads, and those of a token not on what else runs with
//! it: rows of a multiplication and heads of an attention are never split between threads, and where a
//! kernel sums one token alone in another order than in company, it is never run on one.

#![allow(unsafe_code)]

mod attention;
mod config;
mod forward;
mod mapped;
mod pages;
mod step;
mod vector;
mod weights;

pub use config::{ConfigError, ModelConfig};
pub use pages::PAGE_TOKENS;
pub use step::{Engine, EngineOptions, Output, StepError, Usage, Work};
pub use weights::{LINEARS, LinearPlace, LoadError, SharedPlaces, WeightLibrary, WeightPlaces, WeightSet};
