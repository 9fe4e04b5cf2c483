//! A plain forward pass in double precision, of the weights as the device holds them.

use super::stored::stored;
use copal_gpu::engine::{Forms, ModelConfig, WeightPlaces};
use copal_gpu::layout::Form;
use half::f16;
use std::fs;

/// A model's weights in f64: matrices as their forms store them, pruned ones 0.
pub struct Reference {
    config: ModelConfig,
    embedding: Vec<f64>,
    head: Vec<f64>,
    final_norm: Vec<f64>,
    norms: Vec<[Vec<f64>; 2]>,
    linears: Vec<Vec<f64>>,
}

impl Reference {
    pub fn new(config: &ModelConfig, places: &WeightPlaces, forms: Forms) -> Reference {
        let master = fs::read(&places.master).unwrap();
        let mask = places.mask.as_ref().map(|path| fs::read(path).unwrap());
        let floats = |place: usize, count: usize| -> Vec<f32> {
            let bytes = &master[place..place + 4 * count];
            bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
        };
        let widen = |floats: Vec<f32>| -> Vec<f64> { floats.into_iter().map(f64::from).collect() };
        let matrix = |place, (rows, cols): (usize, usize), bits: Option<&[u8]>, form| {
            widen(stored(&floats(place, rows * cols), cols, bits, form))
        };
        let ModelConfig { hidden, vocab, .. } = *config;
        let shapes = shapes(config);
        let linears = places.linears.iter().enumerate().map(|(index, place)| {
            let shape = shapes[index % 7];
            match &place.masked {
                None => matrix(place.dense, shape, None, forms.dense),
                Some(masked) => {
                    let bits = &mask.as_ref().unwrap()[masked.bits..];
                    matrix(place.dense, shape, Some(bits), forms.masked)
                }
            }
        });
        let norm = |place| widen(floats(place, hidden));
        Reference {
            config: config.clone(),
            embedding: matrix(places.shared.embedding, (vocab, hidden), None, Form::Bf16),
            head: matrix(places.shared.head, (vocab, hidden), None, forms.head),
            final_norm: norm(places.shared.final_norm),
            norms: places.shared.norms.iter().map(|&(first, second)| [norm(first), norm(second)]).collect(),
            linears: linears.collect(),
        }
    }

    /// The normed hidden states and the logits after each token.
    pub fn run(&self, tokens: &[u32]) -> Vec<(Vec<f64>, Vec<f64>)> {
        let ModelConfig { hidden, heads, kv_heads, head_dim, .. } = self.config;
        let mut stream: Vec<Vec<f64>> = tokens
            .iter()
            .map(|&token| self.embedding[token as usize * hidden..][..hidden].to_vec())
            .collect();
        for (layer, [attention_norm, mlp_norm]) in self.norms.iter().enumerate() {
            let linears = &self.linears[7 * layer..];
            let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for (position, x) in stream.iter().enumerate() {
                let x = self.norm(x, attention_norm);
                queries.push(self.rotate(&product(&linears[0], &x), position));
                let round = |values: Vec<f64>| -> Vec<f64> {
                    values.into_iter().map(|value| f16::from_f64(value).to_f64()).collect()
                };
                keys.push(round(self.rotate(&product(&linears[1], &x), position)));
                values.push(round(product(&linears[2], &x)));
            }
            for (position, x) in stream.iter_mut().enumerate() {
                let mut attended = Vec::new();
                for head in 0..heads {
                    let kv = head / (heads / kv_heads) * head_dim;
                    let query = &queries[position][head * head_dim..][..head_dim];
                    let score =
                        |key: &Vec<f64>| dot(query, &key[kv..kv + head_dim]) / (head_dim as f64).sqrt();
                    let scores: Vec<f64> = keys[..=position].iter().map(score).collect();
                    let weights = softmax(&scores);
                    let sum =
                        |dim: usize| weights.iter().zip(&values).map(|(w, v)| w * v[kv + dim]).sum::<f64>();
                    attended.extend((0..head_dim).map(sum));
                }
                add(x, &product(&linears[3], &attended));
                let normed = self.norm(x, mlp_norm);
                let gates = product(&linears[4], &normed).into_iter().zip(product(&linears[5], &normed));
                let gated: Vec<f64> = gates.map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
                add(x, &product(&linears[6], &gated));
            }
        }
        let end = |x: Vec<f64>| {
            let hidden = self.norm(&x, &self.final_norm);
            let logits = product(&self.head, &hidden);
            (hidden, logits)
        };
        stream.into_iter().map(end).collect()
    }

    fn norm(&self, x: &[f64], gamma: &[f64]) -> Vec<f64> {
        let mean = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.config.eps)).sqrt();
        x.iter().zip(gamma).map(|(x, gamma)| x * scale * gamma).collect()
    }

    fn rotate(&self, heads: &[f64], position: usize) -> Vec<f64> {
        let half = self.config.head_dim / 2;
        let mut rotated = heads.to_vec();
        for (head, out) in heads.chunks(2 * half).zip(rotated.chunks_mut(2 * half)) {
            for pair in 0..half {
                let (sine, cosine) = (position as f64 * self.config.rope[pair]).sin_cos();
                out[pair] = head[pair] * cosine - head[pair + half] * sine;
                out[pair + half] = head[pair + half] * cosine + head[pair] * sine;
            }
        }
        rotated
    }
}

/// Negative log-likelihood of a token in nats.
pub fn nll(logits: &[f64], token: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() - logits[token]
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn product(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut [f64], addend: &[f64]) {
    sum.iter_mut().zip(addend).for_each(|(sum, value)| *sum += value);
}

fn shapes(config: &ModelConfig) -> [(usize, usize); 7] {
    let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = *config;
    let (query, key) = (heads * head_dim, kv_heads * head_dim);
    let (to_mlp, from_mlp) = ((intermediate, hidden), (hidden, intermediate));
    [(query, hidden), (key, hidden), (key, hidden), (hidden, query), to_mlp, to_mlp, from_mlp]
}
