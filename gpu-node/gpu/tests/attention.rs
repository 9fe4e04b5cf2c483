//! Attention in steps: however it is divided, a token has the same bits.

use crate::support::native::model::{Model, model};
use crate::support::{BF16, bits, engine, load, pages_of, step, tokens, work};
use copal_gpu::device::{AttentionLimits, Gpu};
use copal_gpu::engine::{Engine, Output, PAGE_TOKENS, WeightSet, Work};
use std::sync::Arc;

const TOKENS: usize = 45;

#[test]
fn attention_in_many_commands_has_the_same_bits() {
    let model = model("gpu-attention");
    let mut engine = engine(&model, BF16, 64);
    let weights = load(&engine, &model);
    let texts: Vec<_> = (0..3).map(|seed| tokens(seed, TOKENS)).collect();
    let pages: Vec<_> = (0..3).map(pages_of).collect();
    let works: Vec<_> = (0..3)
        .map(|index| work(index as u64, 0, &texts[index], &pages[index], Output::Drafted { drafts: 40 }))
        .collect();
    let mut logits = Vec::new();
    // No limit is reached; then no command has several rows, then some have.
    for command in [u64::MAX, 1, 500] {
        engine.limit_attention(AttentionLimits { command, head: 4 });
        step(&mut engine, &weights, &works).unwrap();
        let rows = (0..3 * 41).map(|row| bits(engine.logits(row).unwrap()));
        logits.push(rows.collect::<Vec<_>>());
    }
    assert!(logits[1..].iter().all(|other| *other == logits[0]));
}

/// A model with a long context.
fn long_model(name: &str) -> Model {
    let mut model = model(name);
    model.config.context = 4096;
    model
}

/// The pages of a sequence that begins with `cached` tokens, all on page 63, and goes on on pages of its own.
fn long_pages(sequence: u64, cached: usize) -> Vec<u32> {
    [vec![63; cached / PAGE_TOKENS], pages_of(sequence)].concat()
}

/// Fills page 63.
fn fill(engine: &mut Engine, weights: &WeightSet) {
    let own = tokens(99, PAGE_TOKENS);
    step(engine, weights, &[work(99, 0, &own, &[63], Output::None)]).unwrap();
}

#[test]
fn a_long_context_has_the_same_bits_in_spans_beside_any_sequences_and_with_drafts() {
    let model = long_model("gpu-spans");
    let mut engine = engine(&model, BF16, 64);
    let weights = load(&engine, &model);
    fill(&mut engine, &weights);
    // Across the end of the first span; in the second one; in the third one.
    let cached = [496, 512, 1024];
    let pages: Vec<_> = (0..3).map(|index| long_pages(index as u64, cached[index])).collect();
    let texts: Vec<_> = (0..3).map(|seed| tokens(seed, 20)).collect();
    let item = |index: usize| Work {
        cached: cached[index],
        ..work(index as u64, cached[index], &texts[index], &pages[index], Output::Drafted { drafts: 19 })
    };
    let run = |engine: &mut Engine, works: &[Work<'_>]| {
        step(engine, &weights, works).unwrap();
        engine.drop_sequences_of(&weights);
        let rows: usize = works.iter().map(|item| item.output.logit_rows()).sum();
        (0..rows).map(|row| bits(engine.logits(row).unwrap())).collect::<Vec<_>>()
    };
    let max_spans = engine.limit_spans(0);
    let expected = run(&mut engine, &[item(0), item(1), item(2)]);
    engine.limit_spans(max_spans);
    assert_eq!(run(&mut engine, &[item(0), item(1), item(2)]), expected);
    for index in 0..3 {
        let own = &expected[20 * index..][..20];
        assert_eq!(run(&mut engine, &[item(index)]), own, "{index} alone");
        // One token after another.
        for at in 0..20 {
            let single = Work {
                cached: if at == 0 { cached[index] } else { 0 },
                ..work(
                    index as u64,
                    cached[index] + at,
                    &texts[index][at..=at],
                    &pages[index],
                    Output::Logits,
                )
            };
            step(&mut engine, &weights, &[single]).unwrap();
            assert_eq!(bits(engine.logits(0).unwrap()), own[at], "{index}, token {at}");
        }
        engine.drop_sequences_of(&weights);
    }
}

#[test]
fn a_context_that_grows_has_two_graphs() {
    let model = long_model("gpu-span-graphs");
    let mut engine = engine(&model, BF16, 64);
    let gpu = Arc::clone(engine.gpu());
    // Only CUDA has graphs.
    let Gpu::Cuda(device) = &*gpu else { return };
    let weights = load(&engine, &model);
    fill(&mut engine, &weights);
    let before = device.lists_without_graph();
    for cached in [16, 256, 480, 512, 1024, 1536, 3072] {
        let pages = long_pages(0, cached);
        let item = Work { cached, ..work(1, cached, &[7], &pages, Output::Logits) };
        step(&mut engine, &weights, &[item]).unwrap();
        engine.drop_sequences_of(&weights);
    }
    assert_eq!(
        device.lists_without_graph() - before,
        4,
        "two lists, each of which has a graph the second time"
    );
}
