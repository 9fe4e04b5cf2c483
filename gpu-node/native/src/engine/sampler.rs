//! Token sampling from logits, with the same results as `gpu-node/src/serving/sampling/logit-kernels.ts`, ties
//! included.

use crate::cpu::Implementation;
use std::fmt;

/// Number of independent partial sums.
const LANES: usize = 8;
/// Number of weights that a draw skips at a time.
const BLOCK: usize = 64;

/// The distribution that a token is drawn from: softmax(logits / temperature) after the cuts.
/// `gpu-node/src/serving/sampling/token-sampler.ts` states their order.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    /// 0 selects the most probable token.
    pub temperature: f64,
    /// Keeps tokens whose probability is at least this part of the most probable token's; 0 keeps all.
    pub min_p: f64,
    /// Maximum number of tokens to keep; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest most probable tokens that have this part of the probability; 1 keeps all.
    pub top_p: f64,
}

/// Why no token can be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogitFault {
    /// The logit of this token is NaN.
    NotANumber(usize),
    /// The largest logit is not finite.
    Largest(f32),
}

/// Draws tokens of one vocabulary. Allocates only when it is created.
pub struct Sampler {
    implementation: &'static Implementation,
    weights: Vec<f64>,
    candidates: Vec<f64>,
    logits: Vec<f32>,
}

/// The weight of tokens: `exp((logit - largest) / temperature)`, or 0 for tokens that are cut.
#[derive(Clone, Copy)]
pub(crate) struct Weighing {
    pub(crate) largest: f64,
    pub(crate) temperature: f64,
    /// Logits below this have weight 0.
    pub(crate) floor: f64,
    /// Logits up to this have weight 0.
    pub(crate) above: f32,
}

impl Sampler {
    /// Creates a sampler of logits, `[vocab]`.
    pub fn new(implementation: &'static Implementation, vocab: usize) -> Sampler {
        Sampler {
            implementation,
            weights: vec![0.0; vocab],
            candidates: Vec::with_capacity(vocab),
            logits: Vec::with_capacity(vocab),
        }
    }

    /// Number of logits.
    pub fn vocab(&self) -> usize {
        self.weights.len()
    }

    /// Returns the natural logarithm of the sum of the exponentials of logits, `[vocab]`.
    pub fn log_sum_exp(&mut self, logits: &[f32]) -> Result<f64, LogitFault> {
        let (_, largest) = largest_of(logits)?;
        let largest = f64::from(largest);
        let all = Weighing { largest, temperature: 1.0, floor: f64::NEG_INFINITY, above: f32::NEG_INFINITY };
        self.implementation.weigh(logits, all, &mut self.weights);
        Ok(largest + sum_of(&self.weights).ln())
    }

    /// Draws a token from logits, `[vocab]`. `chance` is a random number from 0 to below 1. Among equal
    /// logits at a cut, and among equal largest logits, the lower ids win.
    pub fn draw(&mut self, logits: &[f32], cuts: Cuts, chance: f64) -> Result<usize, LogitFault> {
        let (best, largest) = largest_of(logits)?;
        if cuts.temperature == 0.0 {
            return Ok(best);
        }
        self.weigh(logits, largest, cuts);
        if cuts.top_p < 1.0 {
            self.cut_by_top_p(cuts.top_p);
        }
        Ok(self.token_at(chance))
    }

    /// Computes the weights after min-p and top-k. Both cut logits, so that tokens that are cut need no
    /// exponential.
    fn weigh(&mut self, logits: &[f32], largest: f32, cuts: Cuts) {
        let Cuts { temperature, min_p, top_k, .. } = cuts;
        let largest = f64::from(largest);
        let floor = if min_p > 0.0 { largest + temperature * min_p.ln() } else { f64::NEG_INFINITY };
        let mut weighing = Weighing { largest, temperature, floor, above: f32::NEG_INFINITY };
        if top_k == 0 || top_k >= logits.len() {
            self.implementation.weigh(logits, weighing, &mut self.weights);
            return;
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        let (_, least, _) = self.logits.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
        weighing.above = *least;
        self.implementation.weigh(logits, weighing, &mut self.weights);
        let ties = top_k - logits.iter().filter(|&&logit| logit > weighing.above).count();
        if f64::from(weighing.above) < floor {
            return;
        }
        let weight = ((f64::from(weighing.above) - largest) / temperature).exp();
        let tied = logits.iter().zip(&mut self.weights).filter(|(logit, _)| **logit == weighing.above);
        tied.take(ties).for_each(|(_, place)| *place = weight);
    }

    /// Keeps the fewest heaviest weights that have `part` of the total together, and sets the others to 0.
    fn cut_by_top_p(&mut self, part: f64) {
        let total = sum_of(&self.weights);
        // All tokens lighter than this weigh less together than the part that is cut.
        let negligible = (1.0 - part) * total / self.weights.len() as f64;
        let heavy = self.weights.iter().copied().filter(|&weight| weight > 0.0 && weight >= negligible);
        self.candidates.clear();
        self.candidates.extend(heavy);
        let (least, mut ties) = heaviest(&mut self.candidates, part * total);
        for weight in &mut self.weights {
            if *weight == least && ties > 0 {
                ties -= 1;
            } else if *weight <= least {
                *weight = 0.0;
            }
        }
    }

    /// Returns the token at the part `chance` of the total weight. Tokens are in order of ids, so that a
    /// small change of the logits moves every border only a little.
    fn token_at(&self, chance: f64) -> usize {
        let mut remaining = chance * sum_of(&self.weights);
        for (block, weights) in self.weights.chunks(BLOCK).enumerate() {
            let mass = sum_of(weights);
            if remaining >= mass {
                remaining -= mass;
                continue;
            }
            for (index, &weight) in weights.iter().enumerate() {
                if remaining < weight {
                    return block * BLOCK + index;
                }
                remaining -= weight;
            }
        }
        // Rounding may leave a remainder, which belongs to the last token.
        self.weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0)
    }
}

/// Returns the first token that has the largest logit, and that logit.
fn largest_of(logits: &[f32]) -> Result<(usize, f32), LogitFault> {
    let mut largest = [f32::NEG_INFINITY; 2 * LANES];
    let (chunks, rest) = logits.as_chunks::<{ 2 * LANES }>();
    let mut has_nan = false;
    for chunk in chunks {
        for (largest, &logit) in largest.iter_mut().zip(chunk) {
            has_nan |= logit.is_nan();
            *largest = if logit > *largest { logit } else { *largest };
        }
    }
    if has_nan || rest.iter().any(|logit| logit.is_nan()) {
        let token = logits.iter().position(|logit| logit.is_nan()).unwrap_or_default();
        return Err(LogitFault::NotANumber(token));
    }
    let largest = largest.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    match logits.iter().position(|&logit| logit == largest) {
        Some(token) if largest.is_finite() => Ok((token, largest)),
        _ => Err(LogitFault::Largest(largest)),
    }
}

/// Finds the fewest heaviest weights whose sum reaches `target`; all weights, if it does not. Returns the
/// least of them, and how many of them are equal to it. Bisects by selecting a median (Hoare 1961). Reorders
/// `weights`.
fn heaviest(weights: &mut [f64], target: f64) -> (f64, usize) {
    let (mut begin, mut end, mut reached) = (0, weights.len(), 0.0);
    while end - begin > 1 {
        let middle = (end - begin) / 2;
        weights[begin..end].select_nth_unstable_by(middle, |a, b| b.total_cmp(a));
        let heavier = sum_of(&weights[begin..begin + middle]);
        if reached + heavier >= target {
            end = begin + middle;
        } else {
            reached += heavier;
            begin += middle;
        }
    }
    let least = weights.get(begin).copied().unwrap_or(0.0);
    let ties = weights.iter().take(begin + 1).filter(|&&weight| weight == least).count();
    (least, ties)
}

fn sum_of(weights: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = weights.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, weight) in sums.iter_mut().zip(chunk) {
            *sum += weight;
        }
    }
    sums.iter().chain(rest).sum()
}

impl fmt::Display for LogitFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogitFault::NotANumber(token) => {
                write!(f, "the model's logits are not numbers (token {token}); its weights are damaged")
            }
            LogitFault::Largest(logit) => {
                write!(f, "the model's largest logit is {logit}, expected a finite one")
            }
        }
    }
}

impl std::error::Error for LogitFault {}
