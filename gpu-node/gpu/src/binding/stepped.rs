//! What a step refers to beside its work.

use crate::engine::{Adjustments, WeightSet};
use copal_native::engine_binding::errors::{Result, invalid};
use copal_native::engine_binding::fields::{Field, read};
use napi::bindgen_prelude::Unknown;
use std::sync::Arc;

/// The weights of a step, and the adjustments of its logits.
pub struct Stepped {
    pub(super) weights: Arc<WeightSet>,
    pub(super) adjustments: AdjustmentLists,
}

/// The adjustments of the rows with candidates of a step, joined.
#[derive(Default)]
pub(super) struct AdjustmentLists {
    /// Adjusted tokens of each row.
    counts: Vec<usize>,
    tokens: Vec<u32>,
    biases: Vec<f32>,
    factors: Vec<f32>,
    deductions: Vec<f32>,
}

impl Stepped {
    /// Weights without a step.
    pub(super) fn alone(weights: Arc<WeightSet>) -> Arc<Stepped> {
        Arc::new(Stepped { weights, adjustments: AdjustmentLists::default() })
    }
}

impl AdjustmentLists {
    /// Reads the adjustments of a step; none where it has no such property.
    pub(super) fn read(step: &Unknown<'_>) -> Result<AdjustmentLists> {
        let [adjustments] = read(step, [c"adjustments"])?;
        let Some(adjustments) = adjustments.optional()? else { return Ok(AdjustmentLists::default()) };
        let names = [c"counts", c"tokens", c"biases", c"factors", c"deductions"];
        let [counts, tokens, biases, factors, deductions] = adjustments.read(names)?;
        let floats = |field: Field<'_>| -> Result<Vec<f32>> { Ok(field.f32_array()?.to_vec()) };
        // A negative token becomes one that no model has; a negative count likewise.
        let lists = AdjustmentLists {
            counts: counts.i32_array()?.iter().map(|&count| count as u32 as usize).collect(),
            tokens: tokens.i32_array()?.iter().map(|&token| token as u32).collect(),
            biases: floats(biases)?,
            factors: floats(factors)?,
            deductions: floats(deductions)?,
        };
        let AdjustmentLists { counts, tokens, biases, factors, deductions } = &lists;
        let total = counts.iter().sum::<usize>();
        let lengths = [tokens.len(), biases.len(), factors.len(), deductions.len()];
        if lengths.iter().any(|&length| length != total) {
            return Err(invalid(format!(
                "adjustments of {total} tokens need as many tokens, biases, factors and deductions, not {lengths:?}"
            )));
        }
        Ok(lists)
    }

    /// Those of each row.
    pub(super) fn rows(&self) -> Vec<Adjustments<'_>> {
        let mut end = 0;
        let row = |&count: &usize| {
            let part = end..end + count;
            end = part.end;
            Adjustments {
                tokens: &self.tokens[part.clone()],
                biases: &self.biases[part.clone()],
                factors: &self.factors[part.clone()],
                deductions: &self.deductions[part],
            }
        };
        self.counts.iter().map(row).collect()
    }
}
