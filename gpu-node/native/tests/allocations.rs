//! Steps of sequences that are already held allocate nothing, on any thread.

use crate::support::engine::{engine, weights};
use crate::support::model::model;
use copal_native::allocator::allocations_during;
use copal_native::cpu::Implementation;
use copal_native::engine::{Engine, Output, WeightSet, Work};
use copal_native::storage::{Format, Precision};
use std::hint::black_box;

const SEQUENCES: usize = 8;
const PROMPT: usize = 25;
const DECODED: usize = 20;
/// Lengths of works for an engine with batches of 16 tokens: less than a batch, one batch, more than one, and many small
/// works in one batch.
const CHUNKS: [&[usize]; 4] = [&[9], &[16], &[25], &[3; SEQUENCES]];

/// Four pages for each sequence.
const PAGES: [[u32; 4]; SEQUENCES] = {
    let mut pages = [[0; 4]; SEQUENCES];
    let mut page = 0;
    while page < 4 * SEQUENCES {
        pages[page / 4][page % 4] = page as u32;
        page += 1;
    }
    pages
};
static TOKENS: [u32; PROMPT] = [7; PROMPT];
static TARGETS: [i32; PROMPT] = [3; PROMPT];

fn work(sequence: usize, position: usize, tokens: usize, output: Output<'static>) -> Work<'static> {
    let (tokens, pages) = (&TOKENS[..tokens], &PAGES[sequence]);
    Work { sequence: sequence as u64, position, tokens, cached: 0, pages, output }
}

fn scores(length: usize, alternatives: usize) -> Output<'static> {
    Output::Scores { targets: &TARGETS[..length], alternatives, logits: false }
}

/// Works for the prompts of all sequences, which have different lengths.
fn prefill() -> Vec<Work<'static>> {
    (0..SEQUENCES).map(|index| work(index, 0, PROMPT - index, Output::Logits)).collect()
}

/// Steps of every kind, for an engine that holds all sequences.
fn steps() -> Vec<(&'static str, Vec<Vec<Work<'static>>>)> {
    let decode = |count: usize| {
        let step = |token: usize| {
            (0..count).map(move |index| work(index, PROMPT - index + token, 1, Output::Logits))
        };
        (0..DECODED).map(|token| step(token).collect()).collect()
    };
    let chunks = |output: fn(usize) -> Output<'static>| {
        let step = |lengths: &[usize]| {
            let works = lengths.iter().enumerate();
            works.map(|(index, &length)| work(index, 0, length, output(length))).collect()
        };
        CHUNKS.iter().map(|lengths| step(lengths)).collect()
    };
    vec![
        ("decode of one", decode(1)),
        ("decode of all", decode(SEQUENCES)),
        ("prefill", chunks(|_| Output::None)),
        ("prefill to its end", chunks(|_| Output::Logits)),
        ("scores", chunks(|length| scores(length, 0))),
        ("scores with alternatives", chunks(|length| scores(length, 5))),
        ("sums of hidden states", chunks(|_| Output::HiddenSum { targets: None })),
        // The chunks above have shortened the sequences.
        ("the prompts again", vec![prefill()]),
    ]
}

/// The kinds of steps that allocated, with the number of allocations.
fn allocating(engine: &mut Engine, weights: &WeightSet) -> Vec<(&'static str, usize)> {
    let mut results = Vec::with_capacity(4096);
    engine.step(weights, &prefill(), &mut results).unwrap();
    let mut counts = Vec::new();
    for (kind, steps) in steps() {
        let count = allocations_during(|| {
            for step in &steps {
                results.clear();
                engine.step(weights, step, &mut results).unwrap();
            }
        });
        counts.push((kind, count));
    }
    counts.retain(|(_, count)| *count > 0);
    counts
}

pub fn steps_of_held_sequences_allocate_nothing() {
    // Miri cannot map files.
    if cfg!(miri) {
        return;
    }
    assert_eq!(allocations_during(|| drop(black_box(Box::new(1)))), 1, "the counter works");
    let model = model("allocations");
    for format in [Precision::Bf16, Precision::Int8, Precision::Int4].map(Format::usual) {
        let weights = weights(&model, format);
        for kernel in Implementation::supported() {
            for threads in [1, 3] {
                let found = allocating(&mut engine(&model, kernel, threads, 4 * SEQUENCES), &weights);
                assert_eq!(found, [], "{}, {format:?}, {threads} threads", kernel.name());
            }
        }
    }
}
