//! Steps: they run the tokens of many sequences through the blocks, in batches, and collect the results.

use super::adjustments::{check_adjustments, most_adjusted};
use super::buffers::{Activations, StepBytes, Transfers};
use super::fault::Fault;
use super::pages::PagePool;
use super::plan::{LogitRow, Plan, Sizes, candidate_floats};
use super::record::{Bindings, Recorder};
use super::weights::{Forms, WeightLibrary, WeightSet};
use super::{Adjustments, ModelConfig, Output, PAGE_TOKENS, Usage, Work};
use crate::device::kernel::{CANDIDATES, MAX_HEAD_DIM};
use crate::device::{AttentionLimits, Command, Gpu};
use crate::fault::DeviceFault;
use crate::matrix::Meter;
use crate::programs::Kernels;
use copal_native::engine::check_work;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens that go through the blocks together, at most: as many as fill a device.
const MAX_BATCH_TOKENS: usize = 1024;

/// The size of an [`Engine`].
pub struct EngineOptions {
    /// Forms of the matrices that it runs.
    pub forms: Forms,
    /// Pages of [`PAGE_TOKENS`] keys and values.
    pub pages: usize,
    /// Tokens that go through the blocks together; longer steps are split.
    pub batch_tokens: usize,
}

/// Bytes of the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights of all sets.
    pub weights: u64,
    /// Keys and values.
    pub pages: u64,
    /// Activations and transfers.
    pub work: u64,
}

/// Transfers from the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downloads {
    /// Each is waited for.
    pub transfers: u64,
    /// Bytes of all.
    pub bytes: u64,
}

impl Downloads {
    fn count(&mut self, floats: usize) {
        self.transfers += u64::from(floats > 0);
        self.bytes += 4 * floats as u64;
    }
}

/// Runs steps of weight sets of one model on one device, one at a time.
pub struct Engine {
    config: ModelConfig,
    gpu: Arc<Gpu>,
    kernels: Arc<Kernels>,
    buffers: Arc<Activations>,
    library: Arc<WeightLibrary>,
    bindings: Bindings,
    transfers: Transfers,
    pool: PagePool,
    /// Uses of each page within a step, see [`check_work`].
    page_uses: Vec<u8>,
    /// Tokens held of each sequence, by weight set and sequence.
    sequences: HashMap<(u64, u64), usize>,
    /// Logits that the last step returned, `[rows, vocab]`.
    logits: Vec<f32>,
    /// Where the logits of the last step are, of each token of a work after which logits or candidates were wanted.
    rows: Vec<LogitRow>,
    downloads: Downloads,
    attention: Option<AttentionLimits>,
    max_spans: usize,
    panic_next: bool,
    hangs: Arc<AtomicBool>,
}

/// Compiles the kernels of an engine, if the device keeps them: an engine of the model is then made quickly, and it is known
/// that the device can run it.
pub fn prepare(config: &ModelConfig, gpu: &Gpu, forms: Forms) -> Result<(), DeviceFault> {
    // [`Engine::new`] rejects the model by itself.
    if gpu.keeps_kernels() && config.head_dim <= MAX_HEAD_DIM {
        Kernels::new(gpu, config, &forms.used())?;
    }
    Ok(())
}

impl Engine {
    /// An engine of a configuration that was checked.
    pub fn new(config: ModelConfig, gpu: Gpu, options: &EngineOptions) -> Result<Engine, Fault> {
        if config.head_dim > MAX_HEAD_DIM {
            let head_dim = config.head_dim;
            return Err(Fault::Model(format!(
                "a head is {head_dim} wide, the kernels of the GPU take {MAX_HEAD_DIM}"
            )));
        }
        let gpu = Arc::new(gpu);
        let pool = PagePool::new(&gpu, &config, options.pages)
            .map_err(|fault| Fault::Pages(options.pages, fault))?;
        let kernels = Arc::new(Kernels::new(&gpu, &config, &options.forms.used())?);
        let max_tokens = options.batch_tokens.min(MAX_BATCH_TOKENS);
        let buffers = Arc::new(Activations::new(&gpu, &config, max_tokens)?);
        let library = Arc::new(WeightLibrary {
            config: config.clone(),
            forms: options.forms,
            gpu: Arc::clone(&gpu),
            kernels: Arc::clone(&kernels),
            buffers: Arc::clone(&buffers),
            meter: Meter::default(),
            shared: Default::default(),
            dense: Default::default(),
            next_id: 1.into(),
        });
        Ok(Engine {
            bindings: Bindings::new((&gpu, &kernels), &buffers, &pool)?,
            transfers: Transfers::new(&gpu)?,
            page_uses: vec![0; options.pages],
            sequences: HashMap::new(),
            logits: Vec::new(),
            rows: Vec::new(),
            downloads: Downloads::default(),
            attention: gpu.attention_limits(),
            max_spans: buffers.max_spans,
            panic_next: false,
            hangs: Arc::default(),
            config,
            gpu,
            kernels,
            buffers,
            library,
            pool,
        })
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Loads weight sets for this engine.
    pub fn library(&self) -> &Arc<WeightLibrary> {
        &self.library
    }

    /// The sequences and pages in use.
    pub fn usage(&self) -> Usage {
        Usage::new(self.sequences.len(), self.pool.written())
    }

    /// The memory in use.
    pub fn memory(&self) -> Memory {
        Memory {
            weights: self.library.meter.bytes(),
            pages: self.pool.bytes(),
            work: self.buffers.bytes + self.transfers.bytes(),
        }
    }

    /// Candidates of a row of logits.
    pub fn candidates(&self) -> usize {
        CANDIDATES.min(self.config.vocab)
    }

    /// Adjusted tokens of a row of logits, at most.
    pub fn max_adjusted(&self) -> usize {
        most_adjusted(self.config.vocab)
    }

    /// The downloads since the engine was made.
    pub fn downloads(&self) -> Downloads {
        self.downloads
    }

    /// A row of logits `[vocab]` of the last step, in the order of the works and their tokens. Those of works that asked for
    /// candidates are there once they were downloaded.
    pub fn logits(&self, index: usize) -> Option<&[f32]> {
        match self.rows.get(index) {
            Some(&LogitRow::Returned(place)) => {
                Some(&self.logits[place * self.config.vocab..][..self.config.vocab])
            }
            Some(LogitRow::Kept(_)) | None => None,
        }
    }

    /// Downloads those of these rows that have stayed on the device. Returns a row that the step does not have, if any; then
    /// nothing is downloaded.
    pub fn download_logits(&mut self, rows: &[usize]) -> Result<Option<usize>, Fault> {
        if let Some(&row) = rows.iter().find(|&&row| row >= self.rows.len()) {
            return Ok(Some(row));
        }
        let kept: Vec<_> = rows
            .iter()
            .filter_map(|&row| match self.rows[row] {
                LogitRow::Kept(place) => Some((row, place)),
                LogitRow::Returned(_) => None,
            })
            .collect();
        let places: Vec<_> = kept.iter().map(|&(_, place)| place).collect();
        let (logits, first) = (self.download_kept(&places)?, self.logits.len() / self.config.vocab);
        self.logits.extend(logits);
        for (&(row, _), place) in kept.iter().zip(first..) {
            self.rows[row] = LogitRow::Returned(place);
        }
        Ok(None)
    }

    /// Downloads rows of logits that have stayed on the device.
    fn download_kept(&mut self, places: &[usize]) -> Result<Vec<f32>, DeviceFault> {
        let floats = places.len() * self.config.vocab;
        if floats == 0 {
            return Ok(Vec::new());
        }
        let bytes = 4 * self.config.vocab as u64;
        let room = StepBytes { step: 0, results: 4 * floats as u64, kept: 0 };
        self.transfers.reserve(&self.gpu, room)?;
        self.downloads.count(floats);
        let Transfers { kept, results, .. } = &self.transfers;
        let copies = places.iter().zip(0..).map(|(&place, at)| Command::Copy {
            from: (kept, place as u64 * bytes),
            to: (results, at * bytes),
            bytes,
        });
        self.gpu.run(None, &copies.collect::<Vec<_>>(), Some((results, floats)))
    }

    /// Limits attention.
    #[cfg(test)]
    pub(crate) fn limit_attention(&mut self, limits: AttentionLimits) {
        self.attention = Some(limits);
    }

    /// Limits the spans of attention that are stored, and returns the earlier limit.
    #[cfg(test)]
    pub(crate) fn limit_spans(&mut self, max_spans: usize) -> usize {
        std::mem::replace(&mut self.max_spans, max_spans)
    }

    /// For tests: once this is set, no step returns, as with a driver that hangs.
    pub fn hang_switch(&self) -> &Arc<AtomicBool> {
        &self.hangs
    }

    /// For tests: the next step panics.
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

    /// Runs a step. Appends to `results` the negative log-likelihoods and sums of hidden states, `[hidden]`, of the works
    /// that asked for them, and the candidates, in the order of the works. With alternatives, each log-likelihood is followed by them, most
    /// probable first: the token, and its negative log-likelihood. Logits can be read until the next step.
    ///
    /// `adjustments` is empty, or has a list for each row with candidates, whose logits follow those candidates.
    pub fn step(
        &mut self,
        weights: &WeightSet,
        work: &[Work<'_>],
        adjustments: &[Adjustments<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), Fault> {
        self.logits.clear();
        self.rows.clear();
        self.gpu.check()?;
        let held = |sequence| self.sequences.get(&(weights.id(), sequence)).copied().unwrap_or(0);
        check_work(&self.config, self.pool.written(), &mut self.page_uses, held, work)
            .map_err(Fault::Step)?;
        check_adjustments(self.config.vocab, work, adjustments).map_err(Fault::Step)?;
        if work.is_empty() {
            return Ok(());
        }
        let sizes = Sizes {
            max_tokens: self.buffers.max_tokens,
            logit_rows: self.buffers.logit_rows,
            candidates: candidate_floats(self.config.vocab),
            max_spans: self.max_spans,
            attention: self.attention,
        };
        let plan = Plan::new(&self.config, sizes, work, adjustments);
        let upload = plan.upload();
        let ModelConfig { hidden, vocab, .. } = self.config;
        let floats = plan.scores + plan.sums * hidden + plan.logits * vocab;
        let bytes = [upload.len(), floats, plan.kept * vocab].map(|words| 4 * words as u64);
        let bytes = StepBytes { step: bytes[0], results: bytes[1], kept: bytes[2] };
        self.transfers.reserve(&self.gpu, bytes)?;
        // Positions from the first new token on are overwritten. If the step fails they no longer count as held.
        for item in work {
            self.sequences.insert((weights.id(), item.sequence), item.position);
            self.pool.mark(&item.pages[item.position / PAGE_TOKENS..item.end().div_ceil(PAGE_TOKENS)]);
        }
        while self.hangs.load(Ordering::Relaxed) {
            std::thread::park();
        }
        if std::mem::take(&mut self.panic_next) {
            panic!("provoked");
        }
        self.downloads.count(floats);
        let found = self.run(weights, &plan, &upload, floats)?;
        let (scores, rest) = found.split_at(plan.scores);
        let (sums, logits) = rest.split_at(plan.sums * hidden);
        self.logits.extend_from_slice(logits);
        self.rows = plan.rows;
        let mut adjusted = adjustments.iter().map(|list| list.tokens.len());
        let mut list_floats = || candidate_floats(vocab) + adjusted.next().unwrap_or(0);
        join(work, scores, sums, (hidden, &mut list_floats), results);
        for item in work {
            self.sequences.insert((weights.id(), item.sequence), item.end());
        }
        Ok(())
    }

    /// Uploads a step, runs it, and downloads its results.
    fn run(
        &self,
        weights: &WeightSet,
        plan: &Plan,
        upload: &[u32],
        floats: usize,
    ) -> Result<Vec<f32>, DeviceFault> {
        let recorder = Recorder {
            gpu: &self.gpu,
            config: &self.config,
            kernels: &self.kernels,
            buffers: &self.buffers,
            bindings: &self.bindings,
            transfers: &self.transfers,
            weights,
            plan,
        };
        let Transfers { step, results, .. } = &self.transfers;
        let results = (floats > 0).then_some((results, floats));
        let lists = recorder.record();
        let lists: Vec<_> = lists.iter().map(Vec::as_slice).collect();
        self.gpu.run_lists(Some((step, upload)), &lists, results)
    }
}

/// Joins scores, candidates and sums in the order of the works. `list_floats` gives the floats of each list of candidates in
/// turn.
fn join(
    work: &[Work<'_>],
    mut scores: &[f32],
    mut sums: &[f32],
    (hidden, list_floats): (usize, &mut dyn FnMut() -> usize),
    results: &mut Vec<f32>,
) {
    for item in work {
        if let Some((targets, alternatives)) = item.output.scored() {
            let count = targets.iter().filter(|&&target| target >= 0).count();
            let (own, rest) = scores.split_at(count * (1 + 2 * alternatives));
            results.extend_from_slice(own);
            scores = rest;
        }
        if let Output::Candidates { chances, .. } = item.output {
            let (own, rest) = scores.split_at(chances.iter().map(|_| list_floats()).sum());
            results.extend_from_slice(own);
            scores = rest;
        }
        if let Output::HiddenSum { .. } = item.output {
            let (own, rest) = sums.split_at(hidden);
            results.extend_from_slice(own);
            sums = rest;
        }
    }
}
