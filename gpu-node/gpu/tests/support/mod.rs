//! A seeded model of two layers, and engines that run it on the first device of the machine.

#![allow(dead_code)]

pub mod block;
#[path = "../../../native/tests/support/mod.rs"]
pub mod native;
pub mod reference;
pub mod stored;

use copal_gpu::device::Gpu;
use copal_gpu::engine::{Engine, EngineOptions, Fault, Forms, Output, WeightSet, Work};
use copal_gpu::layout::Form;
use native::Random;
use native::model::Model;

pub const BF16: Forms = Forms { masked: Form::Sparse, dense: Form::Bf16, head: Form::Bf16 };

/// A part of the name of the device that the tests run on; the best one by default.
pub fn device() -> Option<String> {
    std::env::var("COPAL_GPU").ok()
}

pub fn open() -> Gpu {
    Gpu::open(device().as_deref()).expect("tests need a device; Debian's mesa-vulkan-drivers has one")
}

pub fn engine(model: &Model, forms: Forms, batch_tokens: usize) -> Engine {
    let options = EngineOptions { forms, pages: 64, batch_tokens };
    Engine::new(model.config.clone(), open(), &options).unwrap()
}

pub fn load(engine: &Engine, model: &Model) -> WeightSet {
    engine.library().load(&model.places, 2).unwrap()
}

pub fn tokens(seed: u64, count: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| (random.uniform() * 99.0) as u32).collect()
}

/// Four pages of its own for each of a few sequences, in no order.
pub fn pages_of(sequence: u64) -> Vec<u32> {
    (0..4).map(|page| (sequence % 16) as u32 * 4 + (page * 3 + 1) % 4).collect()
}

/// A work without shared pages.
pub fn work<'a>(
    sequence: u64,
    position: usize,
    tokens: &'a [u32],
    pages: &'a [u32],
    output: Output<'a>,
) -> Work<'a> {
    Work { sequence, position, tokens, cached: 0, pages, output }
}

pub fn step(engine: &mut Engine, weights: &WeightSet, works: &[Work<'_>]) -> Result<Vec<f32>, Fault> {
    let mut results = Vec::new();
    engine.step(weights, works, &[], &mut results)?;
    Ok(results)
}

/// The bits of numbers in double precision.
pub fn bits_of(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
