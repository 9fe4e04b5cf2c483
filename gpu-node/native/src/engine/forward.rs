//! The blocks of a LLaMA over a batch of tokens.

use super::ModelConfig;
use super::attention::{Attention, AttentionBuffers, MAX_QUERY_TOKENS, query_tokens};
use super::batch::Batch;
use super::pages::{PAGE_TOKENS, PagePool};
use super::weights::WeightSet;
use crate::cpu::Implementation;
use crate::kernels::{CHUNK_TOKENS, Disjoint, Encoding, Multiplier, MultiplyError, Product};
use crate::pool::{Panicked, Pool};
use crate::storage::Matrix;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Some consecutive tokens of one work, whose attention is computed together.
struct Unit {
    /// Index among the works of the step.
    work: usize,
    /// Row of the first token in the batch, and its position in the sequence.
    row: usize,
    position: usize,
    tokens: usize,
}

/// Runs batches in buffers that are allocated once.
pub(crate) struct Forward {
    config: ModelConfig,
    multiplier: Multiplier,
    cpu: &'static Implementation,
    max_tokens: usize,
    /// The residual stream, `[tokens, hidden]`.
    stream: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// Cosines and sines, `[tokens, head_dim]`.
    angles: Vec<f32>,
    units: Vec<Unit>,
    /// One for each thread.
    buffers: Vec<Mutex<AttentionBuffers>>,
}

impl Forward {
    pub(crate) fn new(
        config: &ModelConfig,
        multiplier: Multiplier,
        threads: usize,
        max_tokens: usize,
    ) -> Forward {
        let widest = config.hidden.max(config.query_width());
        let attention_rows = MAX_QUERY_TOKENS * config.group();
        let cpu = multiplier.implementation();
        let buffers = || Mutex::new(AttentionBuffers::new(config.head_dim, attention_rows));
        Forward {
            multiplier,
            cpu,
            max_tokens,
            stream: vec![0.0; max_tokens * config.hidden],
            normed: vec![0.0; max_tokens * widest],
            queries: vec![0.0; max_tokens * config.query_width()],
            keys: vec![0.0; max_tokens * config.key_width()],
            values: vec![0.0; max_tokens * config.key_width()],
            gate: vec![0.0; max_tokens * config.intermediate],
            up: vec![0.0; max_tokens * config.intermediate],
            angles: vec![0.0; max_tokens * config.head_dim],
            units: Vec::with_capacity(max_tokens),
            buffers: (0..threads).map(|_| buffers()).collect(),
            config: config.clone(),
        }
    }

    /// The largest number of tokens of a batch.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    pub(crate) fn multiplier(&mut self) -> &mut Multiplier {
        &mut self.multiplier
    }

    pub(crate) fn cpu(&self) -> &'static Implementation {
        self.cpu
    }

    /// Norms the residual stream after the last block, of a row of the last batch, into `out`.
    pub(crate) fn norm_row(&self, row: usize, gamma: &[f32], out: &mut [f32]) {
        let hidden = self.config.hidden;
        self.cpu.norm(&self.stream[row * hidden..][..hidden], gamma, self.config.eps, out);
    }

    /// Runs all blocks over a batch and writes its keys and values.
    pub(crate) fn run(
        &mut self,
        weights: &WeightSet,
        pool: &mut PagePool,
        batch: &Batch<'_>,
    ) -> Result<(), MultiplyError> {
        let tokens = batch.len();
        assert!((1..=self.max_tokens).contains(&tokens), "a batch of {tokens} tokens");
        self.begin(weights, batch);
        for (layer, linears) in weights.linears(tokens).chunks_exact(7).enumerate() {
            let (attention_norm, mlp_norm) = &weights.shared.norms[layer];
            self.attention_inputs(attention_norm, linears, tokens)?;
            self.rotate(tokens)?;
            self.store(pool, batch, layer);
            self.attend(pool, batch, layer)?;
            let Forward { config, multiplier, stream, normed, queries, .. } = self;
            linear(multiplier, config.query_width(), queries, tokens, &mut [(&linears[3], normed)])?;
            add(stream, normed, tokens * config.hidden);
            self.mlp(mlp_norm, linears, tokens)?;
        }
        Ok(())
    }

    /// Embeds the tokens, splits them into units and computes the rotary angles.
    fn begin(&mut self, weights: &WeightSet, batch: &Batch<'_>) {
        let ModelConfig { hidden, head_dim, .. } = self.config;
        self.units.clear();
        let most = query_tokens(batch.len() * self.config.kv_heads, self.multiplier.pool().threads());
        let mut row = 0;
        for span in batch.spans() {
            let first = span.work.position + span.tokens.start;
            for offset in (0..span.tokens.len()).step_by(most) {
                let tokens = most.min(span.tokens.len() - offset);
                let (row, position) = (row + offset, first + offset);
                self.units.push(Unit { work: span.index, row, position, tokens });
            }
            for (position, &token) in (first..).zip(&span.work.tokens[span.tokens]) {
                weights.shared.embed(token as usize, &mut self.stream[row * hidden..][..hidden]);
                let angles = &mut self.angles[row * head_dim..][..head_dim];
                let (cosines, sines) = angles.split_at_mut(head_dim / 2);
                for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&self.config.rope) {
                    let (exact_sine, exact_cosine) = (position as f64 * frequency).sin_cos();
                    (*cosine, *sine) = (exact_cosine as f32, exact_sine as f32);
                }
                row += 1;
            }
        }
    }

    fn attention_inputs(
        &mut self,
        gamma: &[f32],
        linears: &[Arc<Matrix>],
        tokens: usize,
    ) -> Result<(), MultiplyError> {
        self.norm(gamma, tokens)?;
        let Forward { config, multiplier, normed, queries, keys, values, .. } = self;
        let products: &mut [Product<'_>] =
            &mut [(&linears[0], queries), (&linears[1], keys), (&linears[2], values)];
        linear(multiplier, config.hidden, normed, tokens, products)
    }

    fn mlp(&mut self, gamma: &[f32], linears: &[Arc<Matrix>], tokens: usize) -> Result<(), MultiplyError> {
        self.norm(gamma, tokens)?;
        let Forward { config, multiplier, cpu, stream, normed, gate, up, .. } = self;
        let width = config.intermediate;
        let products: &mut [Product<'_>] = &mut [(&linears[4], gate), (&linears[5], up)];
        linear(multiplier, config.hidden, normed, tokens, products)?;
        let gated = |row: usize, gate: &mut [f32]| cpu.gate(gate, &up[row * width..][..gate.len()]);
        by_rows(multiplier.pool(), &mut gate[..tokens * width], width, &gated)?;
        linear(multiplier, width, gate, tokens, &mut [(&linears[6], normed)])?;
        add(stream, normed, tokens * config.hidden);
        Ok(())
    }

    fn norm(&mut self, gamma: &[f32], tokens: usize) -> Result<(), Panicked> {
        let Forward { config, multiplier, cpu, stream, normed, .. } = self;
        let hidden = config.hidden;
        let norm = |first: usize, out: &mut [f32]| {
            let rows = stream[first * hidden..].chunks_exact(hidden).zip(out.chunks_exact_mut(hidden));
            rows.for_each(|(x, out)| cpu.norm(x, gamma, config.eps, out));
        };
        by_rows(multiplier.pool(), &mut normed[..tokens * hidden], hidden, &norm)
    }

    /// Rotates queries and keys (Su et al. 2021), the first half of a head paired with the second, and scales the queries.
    fn rotate(&mut self, tokens: usize) -> Result<(), Panicked> {
        let Forward { config, multiplier, queries, keys, angles, .. } = self;
        let head_dim = config.head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        for (heads, width, scale) in [(queries, config.query_width(), scale), (keys, config.key_width(), 1.0)]
        {
            let rotate = |first: usize, heads: &mut [f32]| {
                for (row, heads) in heads.chunks_exact_mut(width).enumerate() {
                    let (cosines, sines) =
                        angles[(first + row) * head_dim..][..head_dim].split_at(head_dim / 2);
                    for head in heads.chunks_exact_mut(head_dim) {
                        let (low, high) = head.split_at_mut(head_dim / 2);
                        for (((low, high), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines)
                        {
                            let (a, b) = (*low, *high);
                            *low = (a * cosine - b * sine) * scale;
                            *high = (b * cosine + a * sine) * scale;
                        }
                    }
                }
            };
            by_rows(multiplier.pool(), &mut heads[..tokens * width], width, &rotate)?;
        }
        Ok(())
    }

    fn store(&self, pool: &mut PagePool, batch: &Batch<'_>, layer: usize) {
        let width = self.config.key_width();
        let mut rows = self.keys.chunks_exact(width).zip(self.values.chunks_exact(width));
        for unit in &self.units {
            let pages = batch.work(unit.work).pages;
            for (position, (keys, values)) in (unit.position..).zip(rows.by_ref().take(unit.tokens)) {
                pool.write(pages[position / PAGE_TOKENS], layer, position % PAGE_TOKENS, keys, values);
            }
        }
    }

    /// Replaces the queries by the outputs of attention.
    fn attend(&mut self, pool: &PagePool, batch: &Batch<'_>, layer: usize) -> Result<(), Panicked> {
        let Forward { config, multiplier, cpu, queries, units, buffers, .. } = self;
        let (group, head_dim, width) = (config.group(), config.head_dim, config.query_width());
        let threads = multiplier.pool().threads();
        // Reading a page once for all heads that share it is fastest. If that leaves threads without work, each head
        // becomes a piece of its own. The outputs are the same.
        let whole = units.len() * config.kv_heads >= threads || group == 1;
        let (pieces, heads) = if whole { (config.kv_heads, group) } else { (config.heads, 1) };
        let total = units.len() * pieces;
        let next = AtomicUsize::new(0);
        let queries = Disjoint::new(queries);
        let (units, buffers) = (&*units, &*buffers);
        multiplier.pool().run(&|part| {
            let mut own = buffers[part].lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                if piece >= total {
                    return;
                }
                // The last tokens of a prompt attend to the most positions, so they go first.
                let unit = &units[units.len() - 1 - piece / pieces];
                let head = piece % pieces * heads;
                let row_of = |token: usize| -> Range<usize> {
                    let start = (unit.row + token) * width + head * head_dim;
                    start..start + heads * head_dim
                };
                let length = heads * head_dim;
                for (token, inputs) in own.queries.chunks_exact_mut(length).take(unit.tokens).enumerate() {
                    // SAFETY: the heads of the tokens of one piece; every piece is taken once.
                    inputs.copy_from_slice(unsafe { queries.range(row_of(token)) });
                }
                cpu.attend(&mut Attention {
                    pool,
                    pages: batch.work(unit.work).pages,
                    layer,
                    kv_head: head / group,
                    position: unit.position,
                    heads,
                    rows: unit.tokens * heads,
                    head_dim,
                    buffers: &mut own,
                });
                for (token, outputs) in own.outputs.chunks_exact(length).take(unit.tokens).enumerate() {
                    // SAFETY: as above.
                    unsafe { queries.range(row_of(token)) }.copy_from_slice(outputs);
                }
            }
        })
    }
}

/// Multiplies the same inputs, `[tokens, cols]`, by matrices of one format.
pub(crate) fn linear(
    multiplier: &mut Multiplier,
    cols: usize,
    inputs: &[f32],
    tokens: usize,
    products: &mut [Product<'_>],
) -> Result<(), MultiplyError> {
    multiplier.encode(Encoding::of(products[0].0.format()), cols, &inputs[..tokens * cols])?;
    for (matrix, outputs) in products.iter_mut() {
        let buffer = std::mem::take(outputs);
        *outputs = &mut buffer[..tokens * matrix.rows()];
    }
    multiplier.multiply_all(products)
}

fn add(stream: &mut [f32], addend: &[f32], length: usize) {
    for (sum, value) in stream[..length].iter_mut().zip(addend) {
        *sum += value;
    }
}

/// Calls `work` with contiguous rows of `data`, `[rows, width]`, and the index of the first: on every thread, or on the
/// caller's alone if there are few rows.
pub(crate) fn by_rows(
    pool: &mut Pool,
    data: &mut [f32],
    width: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Result<(), Panicked> {
    let rows = data.len() / width;
    if rows < CHUNK_TOKENS {
        for (row, data) in data.chunks_exact_mut(width).enumerate() {
            work(row, data);
        }
        return Ok(());
    }
    let parts = pool.threads();
    let data = Disjoint::new(data);
    pool.run(&|part| {
        let (start, end) = (rows * part / parts, rows * (part + 1) / parts);
        // SAFETY: the parts have different rows.
        work(start, unsafe { data.range(start * width..end * width) });
    })
}
