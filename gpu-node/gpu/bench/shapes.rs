//! Shapes of models, ways to store their weights, and how many layers fit a device.

use copal_gpu::engine::{Forms, ModelConfig};
use copal_gpu::layout::Form;

/// The shape of a published LLaMA; the embedding is also the head.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub layers: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
}

/// SmolLM2-135M, TinyLlama 1.1B and Llama 2 7B.
pub static SHAPES: [Shape; 3] = [
    Shape {
        name: "smollm2",
        layers: 30,
        hidden: 576,
        intermediate: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocab: 49_152,
    },
    Shape {
        name: "1.1b",
        layers: 22,
        hidden: 2048,
        intermediate: 5632,
        heads: 32,
        kv_heads: 4,
        head_dim: 64,
        vocab: 32_000,
    },
    Shape {
        name: "7b",
        layers: 32,
        hidden: 4096,
        intermediate: 11_008,
        heads: 32,
        kv_heads: 32,
        head_dim: 128,
        vocab: 32_000,
    },
];

impl Shape {
    /// The configuration of a model with these layers, for sequences of up to `context` tokens.
    pub fn config(&self, layers: usize, context: usize) -> ModelConfig {
        let Shape { hidden, intermediate, heads, kv_heads, head_dim, vocab, .. } = *self;
        let exponent = |pair: usize| -(pair as f64) / (head_dim / 2) as f64;
        let rope = (0..head_dim / 2).map(|pair| 10_000f64.powf(exponent(pair))).collect();
        ModelConfig {
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            intermediate,
            vocab,
            context,
            eps: 1e-5,
            rope,
        }
    }
}

/// A way to store the weights of a model on a GPU.
#[derive(Debug)]
pub struct Set {
    pub name: &'static str,
    /// Sets with the same forms share an engine.
    pub engine: &'static EngineForms,
    /// The part of each row that is pruned; 0 for a dense set.
    pub pruned: f64,
    /// Bytes a weight of the linears.
    bytes: f64,
}

/// The forms of an engine's matrices, with a name. The head is int8, as on a node by default.
#[derive(Debug)]
pub struct EngineForms {
    pub name: &'static str,
    pub forms: Forms,
}

const fn engine(name: &'static str, masked: Form, dense: Form) -> EngineForms {
    EngineForms { name, forms: Forms { masked, dense, head: Form::Int8 } }
}

/// Every engine of the benchmark.
pub static ENGINES: [EngineForms; 3] = [
    engine("bf16", Form::Sparse, Form::Bf16),
    engine("int8", Form::Int8, Form::Int8),
    engine("int4", Form::SparseInt4, Form::Int4),
];

/// Every set of the benchmark.
pub static SETS: [Set; 6] = [
    Set { name: "dense", engine: &ENGINES[0], pruned: 0.0, bytes: 2.0 },
    Set { name: "50%", engine: &ENGINES[0], pruned: 0.5, bytes: 1.125 },
    Set { name: "60%", engine: &ENGINES[0], pruned: 0.6, bytes: 0.925 },
    Set { name: "int8", engine: &ENGINES[1], pruned: 0.0, bytes: 1.0 + 1.0 / 32.0 },
    Set { name: "int4", engine: &ENGINES[2], pruned: 0.0, bytes: 0.625 },
    Set { name: "int4-50%", engine: &ENGINES[2], pruned: 0.5, bytes: 0.447 },
];

/// Part of the device's memory that weights may take, and part that weights, keys and values may take together.
/// Activations need the rest.
const WEIGHT_SHARE: f64 = 0.7;
const TOTAL_SHARE: f64 = 0.9;

/// The memory of the device, and the keys and values that take a part of it.
pub struct Limits {
    pub device_bytes: u64,
    /// Tokens whose keys and values each engine holds.
    pub cache_tokens: usize,
}

/// Returns how many layers of a shape fit a device with all sets loaded at once.
pub fn layers_that_fit(shape: &Shape, sets: &[&Set], limits: &Limits) -> usize {
    let Shape { hidden, intermediate, heads, kv_heads, head_dim, vocab, layers, .. } = *shape;
    let weights = (hidden * (2 * head_dim * (heads + kv_heads) + 3 * intermediate)) as f64;
    let engines = ENGINES.iter().filter(|engine| sets.iter().any(|set| set.engine.name == engine.name));
    let engines = engines.count() as f64;
    // Each engine has an embedding in bf16 and a head in int8.
    let tables = engines * (3 * vocab * hidden) as f64;
    let layer = weights * sets.iter().map(|set| set.bytes).sum::<f64>();
    // Keys and values in f16.
    let cache = engines * (4 * kv_heads * head_dim * limits.cache_tokens) as f64;
    let room = |share: f64| share * limits.device_bytes as f64 - tables;
    let fitting = (room(WEIGHT_SHARE) / layer).min(room(TOTAL_SHARE) / (layer + cache));
    // A negative number becomes 0.
    layers.min(fitting as usize)
}
