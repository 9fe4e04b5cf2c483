//! Compares the kernels of a device with a forward pass in double precision, and with themselves.

use super::random_model::RandomModel;
use super::shapes::{ENGINES, Set, Shape};
use crate::support::reference::{Reference, nll};
use crate::support::{bits, tokens, work};
use copal_gpu::device::Gpu;
use copal_gpu::engine::{Engine, EngineOptions, Fault, Output, PAGE_TOKENS, WeightPlaces, WeightSet};
use std::error::Error;
use std::io::Write;

/// A small shape with a wide head, and rows and columns that end within a block and a group.
const SHAPE: Shape = Shape {
    name: "check",
    layers: 2,
    hidden: 128,
    intermediate: 136,
    heads: 2,
    kv_heads: 1,
    head_dim: 128,
    vocab: 131,
};
/// Tokens of a text: more than attention takes at a time, and a part of a page.
const TOKENS: usize = 70;
/// Tokens of a text that has more than a span of attention.
const LONG_TOKENS: usize = 530;
/// Other streams of a step: with the first one they fill the largest tile of the kernels.
const OTHERS: usize = 15;
/// The largest difference of a log-likelihood from the forward pass in double precision, nats. Keys and values are f16,
/// and their last bit may differ.
const MAX_DIFFERENCE: f64 = 1e-3;

/// Checks sets of the benchmark with a small model of its random weights. Fails at the first that is wrong. Only the first set
/// gets a long text: attention is the same in all.
pub fn check(device: Option<&str>, sets: &[&Set], out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let config = SHAPE.config(SHAPE.layers, LONG_TOKENS);
    let model = RandomModel::new(config.clone())?;
    for kind in &ENGINES {
        let sets_of_kind: Vec<_> = sets.iter().filter(|set| set.engine.name == kind.name).collect();
        if sets_of_kind.is_empty() {
            continue;
        }
        let pages = pages_of(LONG_TOKENS).max((1 + OTHERS) * pages_of(TOKENS));
        let options = EngineOptions { forms: kind.forms, pages, batch_tokens: 2 * TOKENS };
        let mut engine = Engine::new(config.clone(), Gpu::open(device)?, &options)?;
        for set in sets_of_kind {
            let places = model.places(set)?;
            let reference = Reference::new(&config, &places, kind.forms);
            let lengths = if set.name == sets[0].name { &[TOKENS, LONG_TOKENS][..] } else { &[TOKENS] };
            let difference = check_set(&mut engine, &places, &reference, lengths)
                .map_err(|error| format!("the kernels are wrong: with the set {}, {error}", set.name))?;
            writeln!(
                out,
                "check of {:<15} right: log-likelihoods are within {difference:.1e} nats of those in f64, \
                 with the same bits alone and in a batch",
                set.name
            )?;
        }
    }
    Ok(())
}

/// Returns the largest difference of a log-likelihood from the reference's.
fn check_set(
    engine: &mut Engine,
    places: &WeightPlaces,
    reference: &Reference,
    lengths: &[usize],
) -> Result<f64, Box<dyn Error>> {
    let weights = engine.library().load(places, 2)?;
    let mut largest = 0f64;
    for &length in lengths {
        let text = tokens(7, length);
        let whole = scores(engine, &weights, &text, (length, 0))?;
        largest = largest.max(compare(&whole, reference, &text)?);
        let found = bits(&whole);
        // The last tokens of a long text, in a step of their own, attend to it by spans.
        let steps = if length == TOKENS { &[(1, 0), (3, 0), (5, OTHERS)][..] } else { &[(length - 3, 0)] };
        for &(chunk, others) in steps {
            if bits(&scores(engine, &weights, &text, (chunk, others))?) != found {
                let reason = format!(
                    "the log-likelihoods of {length} tokens change in steps of {chunk} beside {others} streams"
                );
                return Err(reason.into());
            }
        }
    }
    Ok(largest)
}

/// Returns the largest difference of the log-likelihoods of a text from those of the reference.
fn compare(found: &[f32], reference: &Reference, text: &[u32]) -> Result<f64, Box<dyn Error>> {
    let mut largest = 0f64;
    for (position, ((_, logits), &found)) in reference.run(text).iter().zip(found).enumerate() {
        let expected = nll(logits, text[position + 1] as usize);
        let difference = (f64::from(found) - expected).abs();
        if difference.is_nan() || difference > MAX_DIFFERENCE {
            let reason =
                format!("the log-likelihood of token {} is {found} nats, {expected} in f64", position + 1);
            return Err(reason.into());
        }
        largest = largest.max(difference);
    }
    Ok(largest)
}

/// The number of pages that `tokens` tokens need, made odd: then the order of `scores` takes each page once.
fn pages_of(tokens: usize) -> usize {
    tokens.div_ceil(PAGE_TOKENS) | 1
}

/// The log-likelihoods of a text, in steps of `chunk` tokens beside other streams.
fn scores(
    engine: &mut Engine,
    weights: &WeightSet,
    text: &[u32],
    (chunk, others): (usize, usize),
) -> Result<Vec<f32>, Fault> {
    let targets: Vec<i32> = text[1..].iter().map(|&token| token as i32).chain([-1]).collect();
    let texts: Vec<_> = (0..others as u64).map(|other| tokens(100 + other, text.len())).collect();
    // The pages of a stream are in no order.
    let count = pages_of(text.len());
    let page = |stream, page| (stream * count + (2 * page + 1) % count) as u32;
    let pages: Vec<Vec<u32>> =
        (0..=others).map(|stream| (0..count).map(|index| page(stream, index)).collect()).collect();
    let mut all = Vec::new();
    for (index, targets) in targets.chunks(chunk).enumerate() {
        let first = index * chunk;
        let part = first..first + targets.len();
        let output = Output::Scores { targets, alternatives: 0, logits: false };
        let mut works = vec![work(0, first, &text[part.clone()], &pages[0], output)];
        for (other, text) in texts.iter().enumerate() {
            works.push(work(1 + other as u64, first, &text[part.clone()], &pages[1 + other], Output::None));
        }
        engine.step(weights, &works, &[], &mut all)?;
    }
    engine.drop_sequences_of(weights);
    Ok(all)
}
