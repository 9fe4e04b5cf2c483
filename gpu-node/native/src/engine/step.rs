//! Steps: the tokens of many sequences in batches through the blocks, and what comes of them.

use super::ModelConfig;
use super::batch::{Batch, batches};
use super::forward::Forward;
use super::outputs::{Outputs, SCORE_ROWS};
use super::pace::Pace;
use super::pages::PagePool;
use super::weights::WeightSet;
use super::work::{Output, StepError, Work, check};
use crate::cpu::Implementation;
use crate::kernels::{CHUNK_TOKENS, Multiplier};
use crate::pool::Pool;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// What an [`Engine`] has room for.
pub struct EngineOptions {
    /// Threads, the caller's among them.
    pub threads: usize,
    /// Pages of [`PAGE_TOKENS`](super::PAGE_TOKENS) keys and values.
    pub pages: usize,
    /// Tokens that go through the blocks together; longer steps are cut.
    pub batch_tokens: usize,
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of all weight sets.
    pub sequences: usize,
    /// That were written.
    pub pages: usize,
    /// That there are.
    pub total_pages: usize,
}

/// Runs steps of weight sets of one model, one at a time.
pub struct Engine {
    config: ModelConfig,
    forward: Forward,
    pool: PagePool,
    /// A count for each page, see [`check`].
    page_uses: Vec<u8>,
    /// Tokens held of each sequence of each weight set.
    sequences: HashMap<(u64, u64), usize>,
    outputs: Outputs,
    /// Rows of logits that the last step left.
    sampled: usize,
    panic_next: bool,
    pace: Arc<Pace>,
}

impl Engine {
    /// An engine of a configuration that was checked; an error, which says what to do, where the machine has not the
    /// threads or the memory, of the kind `InvalidInput` where no machine should have it.
    pub fn new(
        config: ModelConfig,
        implementation: &'static Implementation,
        options: &EngineOptions,
    ) -> io::Result<Engine> {
        let threads = options.threads;
        let pool = Pool::new(threads).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {threads} threads: {error}"))
        })?;
        let widest = config.hidden.max(config.query_width()).max(config.intermediate);
        // Whole chunks, so that only the last one of some rows can be a lone one.
        let batch_tokens = options.batch_tokens.next_multiple_of(CHUNK_TOKENS);
        let rows = batch_tokens.max(SCORE_ROWS);
        let multiplier = Multiplier::new(implementation, pool, rows, widest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Engine {
            forward: Forward::new(&config, multiplier, options.threads, batch_tokens),
            pool: PagePool::new(&config, options.pages)?,
            page_uses: vec![0; options.pages],
            sequences: HashMap::new(),
            outputs: Outputs::new(&config),
            sampled: 0,
            panic_next: false,
            pace: Arc::default(),
            config,
        })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What tells those who pack weights that steps run.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// What is taken.
    pub fn usage(&self) -> Usage {
        Usage { sequences: self.sequences.len(), pages: self.pool.written(), total_pages: self.pool.total() }
    }

    /// Logits of the `index`-th work of the last step that wanted them, `[vocab]`.
    pub fn logits(&self, index: usize) -> Option<&[f32]> {
        (index < self.sampled).then(|| self.outputs.logits(index))
    }

    /// For tests: the next step panics on a thread of the pool.
    pub fn panic_next(&mut self) {
        self.panic_next = true;
    }

    /// Forgets a sequence; an unknown one is ignored.
    pub fn drop_sequence(&mut self, weights: &WeightSet, sequence: u64) {
        self.sequences.remove(&(weights.id(), sequence));
    }

    /// Forgets all sequences of a weight set.
    pub fn drop_sequences_of(&mut self, weights: &WeightSet) {
        self.sequences.retain(|(set, _), _| *set != weights.id());
    }

    /// Runs a step. Negative log-likelihoods and sums of hidden states, `[hidden]`, of all works that
    /// wanted them go to `results`, in the works' order; logits can be read until the next step.
    ///
    /// Takes no memory but what `results`, a new sequence, or the logits of more works than ever before need.
    pub fn step(
        &mut self,
        weights: &WeightSet,
        work: &[Work<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        self.sampled = 0;
        let pace = Arc::clone(&self.pace);
        let _running = pace.step();
        let held = |sequence| self.sequences.get(&(weights.id(), sequence)).copied().unwrap_or(0);
        check(&self.config, &self.pool, &mut self.page_uses, held, work)?;
        let sampled = work.iter().filter(|work| matches!(work.output, Output::Logits)).count();
        self.outputs.begin(sampled)?;
        // What stands behind the new tokens' start is written anew: should the step fail it is not held.
        for item in work {
            self.sequences.insert((weights.id(), item.sequence), item.position);
        }
        if std::mem::take(&mut self.panic_next) {
            self.forward.multiplier().pool().run(&|_| panic!("provoked"))?;
        }
        for batch in batches(work, self.forward.max_tokens()) {
            self.run_batch(weights, &batch, results)?;
        }
        self.outputs.sample(&mut self.forward, weights)?;
        self.sampled = sampled;
        for item in work {
            self.sequences.insert((weights.id(), item.sequence), item.end());
        }
        Ok(())
    }

    fn run_batch(
        &mut self,
        weights: &WeightSet,
        batch: &Batch<'_>,
        results: &mut Vec<f32>,
    ) -> Result<(), StepError> {
        let Engine { forward, pool, outputs, .. } = self;
        forward.run(weights, pool, batch)?;
        let mut row = 0;
        for span in batch.spans() {
            let rows = row..row + span.tokens.len();
            row = rows.end;
            let is_end = span.tokens.end == span.work.tokens.len();
            match span.work.output {
                Output::None => {}
                Output::Logits if is_end => outputs.want_logits(forward, weights, rows.end - 1),
                Output::Logits => {}
                Output::Nll(targets) => {
                    let wanted = rows.zip(&targets[span.tokens]).filter(|(_, target)| **target >= 0);
                    let pairs = wanted.map(|(row, &target)| (row, target as usize));
                    outputs.score(forward, weights, pairs, results)?;
                }
                Output::HiddenSum => {
                    if span.tokens.start == 0 {
                        outputs.begin_sum();
                    }
                    rows.for_each(|row| outputs.add(forward, weights, row));
                    if is_end {
                        results.extend(outputs.sum());
                    }
                }
            }
        }
        Ok(())
    }
}
