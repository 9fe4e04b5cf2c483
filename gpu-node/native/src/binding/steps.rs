//! Steps of an engine, on a thread of libuv and the engine's own.

use super::{MOST_BYTES, guarded, invalid};
use crate::engine::{Engine, Output, StepError, WeightSet, Work};
use napi::bindgen_prelude::{Env, Error, Float32Array, Result, Status, Task};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers that describe a work: position, tokens, output, cached tokens, pages.
const WORK_NUMBERS: usize = 5;

/// Runs a step.
pub struct StepTask {
    pub(super) engine: Arc<Mutex<Engine>>,
    pub(super) weights: Arc<WeightSet>,
    pub(super) items: Vec<Item>,
    pub(super) tokens: Vec<u32>,
    pub(super) targets: Vec<i32>,
    pub(super) pages: Vec<u32>,
    pub(super) drops: Vec<u64>,
}

/// A work; `tokens` and `pages` are where its own are among those of all.
pub struct Item {
    sequence: u64,
    position: usize,
    output: u8,
    cached: usize,
    tokens: Range<usize>,
    pages: Range<usize>,
}

impl Task for StepTask {
    type Output = Vec<f32>;
    type JsValue = Float32Array;

    fn compute(&mut self) -> Result<Vec<f32>> {
        guarded(|| {
            let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            for &sequence in &self.drops {
                engine.drop_sequence(&self.weights, sequence);
            }
            let work: Vec<Work<'_>> = self
                .items
                .iter()
                .map(|item| Work {
                    sequence: item.sequence,
                    position: item.position,
                    tokens: &self.tokens[item.tokens.clone()],
                    cached: item.cached,
                    pages: &self.pages[item.pages.clone()],
                    output: match item.output {
                        0 => Output::None,
                        1 => Output::Logits,
                        2 => Output::Nll(&self.targets[item.tokens.clone()]),
                        _ => Output::HiddenSum,
                    },
                })
                .collect();
            let mut results = Vec::new();
            engine.step(&self.weights, &work, &mut results).map_err(step_error)?;
            Ok(results)
        })
    }

    fn resolve(&mut self, _env: Env, results: Vec<f32>) -> Result<Float32Array> {
        Ok(Float32Array::new(results))
    }
}

fn step_error(error: StepError) -> Error {
    let status = match error {
        StepError::Misfit(_) => Status::InvalidArg,
        StepError::Multiply(_) => Status::GenericFailure,
    };
    Error::new(status, error.to_string())
}

/// Works that share out `tokens` tokens and `pages` pages.
pub(super) fn read_items(sequences: &[f64], works: &[i32], tokens: usize, pages: usize) -> Result<Vec<Item>> {
    let (works, rest) = works.as_chunks::<WORK_NUMBERS>();
    if works.len() != sequences.len() || !rest.is_empty() {
        return Err(invalid(format!(
            "{} sequences need {WORK_NUMBERS} numbers each, not {} altogether",
            sequences.len(),
            works.len() * WORK_NUMBERS + rest.len()
        )));
    }
    let mut items = Vec::with_capacity(works.len());
    let (mut token_end, mut page_end) = (0, 0);
    for (&id, work) in sequences.iter().zip(works) {
        let [position, token_count, output, cached, page_count] =
            work.map(|number| usize::try_from(number).ok());
        let (Some(position), Some(token_count), Some(output), Some(cached), Some(page_count)) =
            (position, token_count, output, cached, page_count)
        else {
            return Err(invalid(format!("the works have a negative number among {work:?}")));
        };
        if output > 3 {
            return Err(invalid(
                "outputs are 0 (none), 1 (logits), 2 (negative log-likelihoods) or 3 (sum of hidden states)",
            ));
        }
        let (token_start, page_start) = (token_end, page_end);
        token_end = token_start + token_count;
        page_end = page_start + page_count;
        items.push(Item {
            sequence: sequence("sequences", id)?,
            position,
            output: output as u8,
            cached,
            tokens: token_start..token_end,
            pages: page_start..page_end,
        });
    }
    if token_end != tokens || page_end != pages {
        return Err(invalid(format!(
            "works of {token_end} tokens and {page_end} pages do not share out {tokens} tokens and {pages} pages"
        )));
    }
    Ok(items)
}

/// The id of a sequence.
pub(super) fn sequence(name: &str, id: f64) -> Result<u64> {
    if id.fract() == 0.0 && (0.0..=MOST_BYTES as f64).contains(&id) {
        return Ok(id as u64);
    }
    Err(invalid(format!("{name} has the id {id}; a whole number that is not negative is expected")))
}
