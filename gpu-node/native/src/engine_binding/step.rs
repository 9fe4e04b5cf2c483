//! A step as JavaScript describes it.

use super::errors::{Result, invalid};
use super::fields::{Field, read, whole};
use super::step_engine::StepEngine;
use crate::engine::{Output, Work};
use napi::bindgen_prelude::Unknown;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A step as it was requested.
pub struct Step<W> {
    weights: Arc<W>,
    items: Vec<Item>,
    tokens: Vec<u32>,
    targets: Vec<i32>,
    chances: Vec<f32>,
    pages: Vec<u32>,
    drops: Vec<u64>,
}

impl<W> Step<W> {
    /// Reads a step. Takes the weights after the last property was read, because a getter may release them.
    pub fn read(step: &Unknown<'_>, weights: impl FnOnce() -> Result<Arc<W>>) -> Result<Step<W>> {
        let [
            sequences,
            positions,
            lengths,
            outputs,
            alternatives,
            temperatures,
            chances,
            drafts,
            cached,
            page_counts,
            tokens,
            targets,
            pages,
            drops,
        ] = read(
            step,
            [
                c"sequences",
                c"positions",
                c"lengths",
                c"outputs",
                c"alternatives",
                c"temperatures",
                c"chances",
                c"drafts",
                c"cachedLengths",
                c"pageCounts",
                c"tokens",
                c"targets",
                c"pages",
                c"drops",
            ],
        )?;
        let (tokens, targets) = (tokens.i32_array()?, targets.i32_array()?);
        let (pages, drops) = (pages.i32_array()?, drops.f64_array()?);
        if targets.len() != tokens.len() {
            return Err(invalid(format!(
                "{} tokens need as many targets, not {}",
                tokens.len(),
                targets.len()
            )));
        }
        let temperatures = temperatures.optional()?.map(Field::f32_array).transpose()?;
        let chances = chances.optional()?.map(Field::f32_array).transpose()?;
        let chances = chances.as_deref().unwrap_or_default();
        let drafts = drafts.optional()?.map(Field::u8_array).transpose()?;
        let columns = ItemColumns {
            sequences: &sequences.f64_array()?,
            positions: &positions.i32_array()?,
            lengths: &lengths.i32_array()?,
            outputs: &outputs.u8_array()?,
            alternatives: &alternatives.u8_array()?,
            temperatures: temperatures.as_deref(),
            drafts: drafts.as_deref(),
            cached: &cached.i32_array()?,
            page_counts: &page_counts.i32_array()?,
        };
        Ok(Step {
            weights: weights()?,
            items: read_items(&columns, (tokens.len(), pages.len()), chances)?,
            // A negative token becomes one that no model has; a negative page likewise.
            tokens: tokens.iter().map(|&token| token as u32).collect(),
            targets: targets.to_vec(),
            chances: chances.to_vec(),
            pages: pages.iter().map(|&page| page as u32).collect(),
            drops: drops.iter().map(|&id| sequence("drops", id)).collect::<Result<_>>()?,
        })
    }

    /// Takes the step by value, so that its reference to the weights is dropped before the next request is served.
    pub(super) fn run<E: StepEngine<Weights = W>>(self, engine: &Mutex<E>) -> Result<Vec<f32>> {
        let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
        for &sequence in &self.drops {
            engine.drop_sequence(&self.weights, sequence);
        }
        let work: Vec<Work<'_>> = self.items.iter().map(|item| self.work(item)).collect();
        let mut results = Vec::new();
        engine.step(&self.weights, &work, &mut results)?;
        Ok(results)
    }

    fn work(&self, item: &Item) -> Work<'_> {
        Work {
            sequence: item.sequence,
            position: item.position,
            tokens: &self.tokens[item.tokens.clone()],
            cached: item.cached,
            pages: &self.pages[item.pages.clone()],
            output: match item.output {
                0 => Output::None,
                1 => Output::Logits,
                2 | 4 => Output::Scores {
                    targets: &self.targets[item.tokens.clone()],
                    alternatives: item.alternatives,
                    logits: item.output == 4,
                },
                5 => Output::Candidates {
                    temperature: item.temperature,
                    chances: &self.chances[item.chances.clone()],
                },
                6 => Output::Drafted { drafts: item.drafts },
                _ => Output::HiddenSum { targets: Some(&self.targets[item.tokens.clone()]) },
            },
        }
    }
}

/// The work of one sequence. `tokens`, `chances` and `pages` are ranges of those of the whole step.
struct Item {
    sequence: u64,
    position: usize,
    output: u8,
    alternatives: usize,
    /// Only with output 5.
    temperature: f32,
    chances: Range<usize>,
    /// Only with output 6.
    drafts: usize,
    cached: usize,
    tokens: Range<usize>,
    pages: Range<usize>,
}

/// The arrays that have one element for each item of a step.
struct ItemColumns<'a> {
    sequences: &'a [f64],
    positions: &'a [i32],
    lengths: &'a [i32],
    outputs: &'a [u8],
    alternatives: &'a [u8],
    /// `None` if no item has output 5.
    temperatures: Option<&'a [f32]>,
    /// `None` if no item has drafts.
    drafts: Option<&'a [u8]>,
    cached: &'a [i32],
    page_counts: &'a [i32],
}

/// The items of a step, which divide up `tokens` tokens, `pages` pages, and the random numbers.
fn read_items(
    columns: &ItemColumns<'_>,
    (tokens, pages): (usize, usize),
    chances: &[f32],
) -> Result<Vec<Item>> {
    let count = columns.sequences.len();
    for (name, found) in [
        ("positions", columns.positions.len()),
        ("lengths", columns.lengths.len()),
        ("outputs", columns.outputs.len()),
        ("alternatives", columns.alternatives.len()),
        ("temperatures", columns.temperatures.map_or(count, <[f32]>::len)),
        ("drafts", columns.drafts.map_or(count, <[u8]>::len)),
        ("cachedLengths", columns.cached.len()),
        ("pageCounts", columns.page_counts.len()),
    ] {
        if found != count {
            return Err(invalid(format!("{name} has {found} elements for {count} sequences")));
        }
    }
    let mut items = Vec::with_capacity(count);
    if let Some(chance) = chances.iter().find(|chance| !(0.0..=1.0).contains(*chance)) {
        return Err(invalid(format!("chances must be numbers from 0 to 1, not {chance}")));
    }
    let (mut token_end, mut page_end, mut chance_end) = (0, 0, 0);
    for (index, &id) in columns.sequences.iter().enumerate() {
        let output = columns.outputs[index];
        if output > 6 {
            return Err(invalid(
                "outputs are 0 (none), 1 (logits), 2 (negative log-likelihoods), 3 (sum of hidden states), 4 (1 and 2), 5 (candidates) or 6 (logits after drafts)",
            ));
        }
        let temperature = columns.temperatures.map_or(f32::NAN, |temperatures| temperatures[index]);
        if output == 5 && !(temperature > 0.0 && temperature.is_finite()) {
            return Err(invalid(format!(
                "temperatures must be numbers above 0 for output 5, not {temperature}"
            )));
        }
        let drafts: usize = columns.drafts.map_or(0, |drafts| drafts[index].into());
        let (token_start, page_start, chance_start) = (token_end, page_end, chance_end);
        chance_end += if output == 5 { 1 + drafts } else { 0 };
        token_end = token_start + not_negative("lengths", columns.lengths[index])?;
        page_end = page_start + not_negative("pageCounts", columns.page_counts[index])?;
        items.push(Item {
            sequence: sequence("sequences", id)?,
            position: not_negative("positions", columns.positions[index])?,
            output,
            alternatives: columns.alternatives[index].into(),
            temperature,
            chances: chance_start..chance_end,
            drafts,
            cached: not_negative("cachedLengths", columns.cached[index])?,
            tokens: token_start..token_end,
            pages: page_start..page_end,
        });
    }
    if chance_end != chances.len() {
        return Err(invalid(format!(
            "items with output 5 and their drafts need {chance_end} chances, not {}",
            chances.len()
        )));
    }
    if token_end != tokens || page_end != pages {
        return Err(invalid(format!(
            "the items have {token_end} tokens and {page_end} pages, the step has {tokens} tokens and {pages} pages"
        )));
    }
    Ok(items)
}

fn not_negative(name: &str, number: i32) -> Result<usize> {
    usize::try_from(number).map_err(|_| invalid(format!("{name} has the negative number {number}")))
}

/// The id of a sequence.
fn sequence(name: &str, id: f64) -> Result<u64> {
    whole(id).ok_or_else(|| invalid(format!("{name} has the id {id}; a whole number from 0 is expected")))
}
