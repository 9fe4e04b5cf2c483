//! What kernels compute. Every driver has all of them, with the same buffers in the same order.

use crate::layout::Form;
use copal_native::engine::ModelConfig;

/// Rows and columns of a tile of [`CalibrationKind::Linear`], [`CalibrationKind::Statistic`] and [`ExchangeKind::Product`].
pub(crate) const SQUARE_TILE: usize = 64;

/// Bytes from one call of a step to the next: no device wants uniforms further apart.
pub(crate) const CALL_STRIDE: u64 = 256;
/// Bytes of a call.
pub(crate) const CALL_BYTES: u64 = 48;
/// Candidates of a row of logits, unless the vocabulary is smaller: one for each thread of the kernel.
pub(crate) const CANDIDATES: usize = 256;
/// Parts of a vocabulary, of as many tokens each: one for each thread of the kernel that lists candidates.
pub(crate) const VOCAB_PARTS: usize = 256;
/// Adjusted tokens of a row of logits, at most: as many as the penalties of a long prompt have. Longer lists cost about as much
/// as a row.
pub(crate) const MAX_ADJUSTED: usize = 2048;
/// Positions of a span of attention. Results depend on it, so that it is the same whatever runs.
pub(crate) const ATTENTION_SPAN: usize = 512;
/// Groups of threads that fill the largest cards, about two for each of their multiprocessors.
pub(crate) const FILLING_GROUPS: usize = 512;
/// The widest head that the attention kernel takes.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// A kernel of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelKind {
    /// Copies embeddings into the residual stream: `[table, stream, shape]`.
    Embed,
    /// Norms all rows, `[x, gamma, out]`.
    Norm,
    /// Norms the rows that a call picks.
    NormPicked,
    /// Rotates queries and keys, and stores keys and values: `[queries, keys, values, key pages, value pages]`.
    Place,
    /// Attention of the rows from the first one of the call on: `[queries, key pages, value pages, out]`.
    Attention,
    /// Attention of each span of all rows: `[queries, key pages, value pages, spans]`.
    AttentionSpans,
    /// Adds the spans of each row: `[spans, out]`.
    AttentionJoin,
    /// `gate ← silu(gate) · up`: `[gate, up]`.
    Gate,
    /// Log-likelihoods: `[logits, results]`.
    Score,
    /// What sampling needs of logits, which are the same before and after: `[logits, results]`.
    Candidates,
    /// Adds rows to a sum: `[rows, sums]`.
    Sum,
    /// The product with a matrix, of some tokens at a time: `[x, y, shape]`, then the arrays of the form.
    Product(Form, u32),
    /// A step of the calibration of a block.
    Calibration(CalibrationKind),
    /// A step of the refinement of masks, with the second moment in this number of parts:
    /// `[rows, weights, bits, gradient, figures, shape, diagonal]`, then the parts. It has no call, and needs no model.
    Exchange(ExchangeKind, usize),
}

impl KernelKind {
    /// The kernels of a step but for products: each model has every one of them once.
    pub(crate) const OF_STEPS: [KernelKind; 11] = {
        use KernelKind::*;
        [
            Embed,
            Norm,
            NormPicked,
            Place,
            Attention,
            AttentionSpans,
            AttentionJoin,
            Gate,
            Score,
            Candidates,
            Sum,
        ]
    };
}

/// A step of the calibration of a block, in f32. Their calls are not those of the forward pass: the kernels declare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CalibrationKind {
    /// The product of inputs with a part of a matrix: `[inputs, weights, outputs]`.
    Linear,
    /// Rotates queries or keys in place: `[states, angles, positions]`.
    Rotate,
    /// Attention of queries, which their results replace: `[tiles, keys, values, queries]`.
    Attention,
    /// Adds to the residual stream: `[added, stream]`.
    Residual,
    /// Adds to a part of a second moment or of a sensitivity: `[left, right, part]`.
    Statistic,
    /// Marks inputs of which a value is not finite: `[inputs, marks]`.
    Check,
}

/// Queries of a tile of [`CalibrationKind::Attention`].
pub(crate) const QUERY_TILE: usize = 8;

/// A step of the refinement of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    /// Computes the gradient `E H`.
    Product,
    /// Computes the error of each row.
    Error,
    /// Exchanges weights anywhere in a row.
    Whole,
    /// Exchanges weights within groups.
    Groups,
}

/// The numbers of a model that its kernels are compiled with, by name.
pub(crate) struct Constants {
    pub(crate) counts: [(&'static str, usize); 10],
    pub(crate) numbers: [(&'static str, f32); 2],
}

/// The numbers of a model.
pub(crate) fn constants(config: &ModelConfig) -> Constants {
    let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, vocab, eps, .. } = *config;
    let counts = [
        ("HIDDEN", hidden),
        ("HEADS", heads),
        ("KV_HEADS", kv_heads),
        ("HEAD_DIM", head_dim),
        ("HALF", head_dim / 2),
        ("SPAN", ATTENTION_SPAN),
        ("INTERMEDIATE", intermediate),
        ("VOCAB", vocab),
        ("COUNT", vocab.min(CANDIDATES)),
        ("PART", vocab.div_ceil(VOCAB_PARTS)),
    ];
    Constants { counts, numbers: [("EPS", eps), ("SCALE", 1.0 / (head_dim as f32).sqrt())] }
}
