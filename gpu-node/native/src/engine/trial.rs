//! The first run of a weight set, beside the steps of an engine.

use super::pace::Pace;
use super::step::{Engine, EngineError, EngineOptions};
use super::weights::WeightSet;
use super::work::{Output, StepError, Work};
use super::{KvPrecision, ModelConfig, PAGE_TOKENS};
use crate::cpu::Implementation;
use std::fmt;
use std::sync::Arc;

/// Why weights cannot be tried.
#[derive(Debug)]
pub enum TrialError {
    /// There is no engine to try them on.
    Engine(EngineError),
    /// A step of the trial failed.
    Step(StepError),
}

/// Runs the prompt `tokens`, 2 to [`PAGE_TOKENS`], at once, and again with its last token by the cached keys and values of
/// the others. Returns the logits of both, `[2, vocab]`.
///
/// It has an engine of its own, with the calling thread alone, which rests like a thread that packs. So the steps that run
/// meanwhile, by the same pace, wait for no step of new weights.
pub fn try_out(
    config: &ModelConfig,
    implementation: &'static Implementation,
    pace: &Arc<Pace>,
    weights: &WeightSet,
    tokens: &[u32],
) -> Result<Vec<f32>, TrialError> {
    let options =
        EngineOptions { threads: 1, pages: 2, kv_precision: KvPrecision::F16, batch_tokens: 2 * PAGE_TOKENS };
    let mut engine = Engine::new(config.clone(), implementation, &options).map_err(TrialError::Engine)?;
    engine.rest_beside(pace);
    let last = tokens.len() - 1;
    let work = |sequence, tokens, position, output| Work {
        sequence,
        position,
        tokens,
        cached: 0,
        pages: if sequence == 0 { &[0] } else { &[1] },
        output,
    };
    let mut logits = Vec::with_capacity(2 * config.vocab);
    // The whole prompt and the beginning of the other one share a pass over the weights.
    let both = [work(0, tokens, 0, Output::Logits), work(1, &tokens[..last], 0, Output::None)];
    for step in [&both[..], &[work(1, &tokens[last..], last, Output::Logits)]] {
        engine.step(weights, step, &mut Vec::new()).map_err(TrialError::Step)?;
        logits.extend_from_slice(engine.logits(0).expect("one work of the step asked for logits"));
    }
    Ok(logits)
}

impl fmt::Display for TrialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrialError::Engine(error) => error.fmt(f),
            TrialError::Step(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TrialError {}
