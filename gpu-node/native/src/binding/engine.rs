use super::background::{Background, Job};
use super::errors::{Code, Error, Failure, Result, error, guarded, invalid};
use super::fields::{Field, count, read};
use super::steps::{ItemColumns, Step, StepThread, read_items, sequence};
use super::weights::{JsWeights, LoadJob, ReleaseJob, read_places, return_memory};
use super::{MAX_THREADS, kernel_of};
use crate::engine::{Engine, EngineError, EngineOptions, ModelConfig, WeightLibrary};
use crate::storage::{Format, Precision};
use napi::bindgen_prelude::{AsyncTask, ClassInstance, Env, Float32ArraySlice, Object, Unknown};
use napi_derive::napi;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

const MAX_PAGES: usize = 1 << 24;
const MAX_BATCH_TOKENS: usize = 1 << 16;
/// The largest size of a model that [`ModelConfig::check`] accepts.
const MAX_SIZE: usize = (1 << 24) - 1;

/// The forward pass of one model.
#[napi(js_name = "Engine")]
pub struct JsEngine {
    /// `None` once it was closed.
    running: Option<Running>,
    library: Arc<WeightLibrary>,
    kernel: &'static str,
    threads: usize,
    layers: usize,
}

/// The parts of an open engine, which closing it frees.
struct Running {
    steps: StepThread,
    engine: Arc<Mutex<Engine>>,
}

/// The memory and sequences that an engine holds.
#[napi(object, object_from_js = false)]
pub struct JsUsage {
    /// Sequences of all weight sets.
    pub sequences: f64,
    /// Pages that a step has written.
    pub written_pages: f64,
    /// All pages.
    pub total_pages: f64,
}

#[napi]
impl JsEngine {
    /// An engine without weights.
    #[napi(constructor)]
    pub fn new(options: Unknown<'_>) -> Result<JsEngine> {
        guarded(|| {
            let [kernel, threads, precision, head_precision, model, pages, batch_tokens] = read(
                &options,
                [c"kernel", c"threads", c"precision", c"headPrecision", c"model", c"pages", c"batchTokens"],
            )?;
            let config = read_config(model)?;
            let kernel = kernel_of(kernel)?;
            let (linears, head) = (format_of(precision)?, format_of(head_precision)?);
            let options = EngineOptions {
                threads: threads.count(MAX_THREADS)?,
                pages: page_count(pages)?,
                batch_tokens: batch_tokens.count(MAX_BATCH_TOKENS)?,
            };
            let (threads, layers) = (options.threads, config.layers);
            let engine = Engine::new(config.clone(), kernel, &options).map_err(engine_error)?;
            let library = Arc::new(WeightLibrary::new(config, linears, head, Arc::clone(engine.pace())));
            let engine = Arc::new(Mutex::new(engine));
            let steps = StepThread::new(Arc::clone(&engine))
                .map_err(|reason| error(Code::ThreadsUnavailable, reason))?;
            Ok(JsEngine {
                running: Some(Running { steps, engine }),
                library,
                kernel: kernel.name(),
                threads,
                layers,
            })
        })
    }

    /// The kernel's name.
    #[napi(getter)]
    pub fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// Threads that share a step.
    #[napi(getter)]
    pub fn threads(&self) -> f64 {
        self.threads as f64
    }

    /// Packs a weight set on `threads` threads of its own.
    #[napi]
    pub fn load(&self, source: Unknown<'_>) -> Result<AsyncTask<Background<LoadJob>>> {
        guarded(|| {
            let (places, form, threads) = read_places(self.layers, &source)?;
            let library = Arc::clone(&self.library);
            Ok(AsyncTask::new(Background(LoadJob { library, places, form, threads })))
        })
    }

    /// Runs a step on the engine's own threads, after the steps that were requested before.
    #[napi]
    pub fn step<'env>(
        &self,
        env: &'env Env,
        weights: ClassInstance<'_, JsWeights>,
        step: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guarded(|| {
            let [
                sequences,
                positions,
                lengths,
                outputs,
                alternatives,
                cached,
                page_counts,
                tokens,
                targets,
                pages,
                drops,
            ] = read(
                &step,
                [
                    c"sequences",
                    c"positions",
                    c"lengths",
                    c"outputs",
                    c"alternatives",
                    c"cachedLengths",
                    c"pageCounts",
                    c"tokens",
                    c"targets",
                    c"pages",
                    c"drops",
                ],
            )?;
            let (tokens, targets) = (tokens.i32_array()?, targets.i32_array()?);
            let (pages, drops) = (pages.i32_array()?, drops.f64_array()?);
            if targets.len() != tokens.len() {
                return Err(invalid(format!(
                    "{} tokens need as many targets, not {}",
                    tokens.len(),
                    targets.len()
                )));
            }
            let columns = ItemColumns {
                sequences: &sequences.f64_array()?,
                positions: &positions.i32_array()?,
                lengths: &lengths.i32_array()?,
                outputs: &outputs.u8_array()?,
                alternatives: &alternatives.u8_array()?,
                cached: &cached.i32_array()?,
                page_counts: &page_counts.i32_array()?,
            };
            let step = Step {
                weights: weights.loaded()?,
                items: read_items(&columns, tokens.len(), pages.len())?,
                // A negative token becomes one that no model has; a negative page likewise.
                tokens: tokens.iter().map(|&token| token as u32).collect(),
                targets: targets.to_vec(),
                pages: pages.iter().map(|&page| page as u32).collect(),
                drops: drops.iter().map(|&id| sequence("drops", id)).collect::<Result<_>>()?,
            };
            self.running()?.steps.run(env, step)
        })
    }

    /// Copies the logits of one item of the last step: the `index`-th of those that asked for logits.
    #[napi]
    pub fn logits(&self, index: f64, mut into: Float32ArraySlice<'_>) -> Result<()> {
        guarded(|| {
            let engine = self.idle()?;
            let index = count("index", index + 1.0, MAX_PAGES)? - 1;
            let logits = engine
                .logits(index)
                .ok_or_else(|| invalid(format!("the last step has no logits {index}")))?;
            if into.len() != logits.len() {
                return Err(invalid(format!("{} logits do not go into {}", logits.len(), into.len())));
            }
            // SAFETY: the memory belongs to a typed array of this call, which runs no JavaScript before it returns; the
            // logits are memory of the engine.
            unsafe { into.as_mut() }.copy_from_slice(logits);
            Ok(())
        })
    }

    /// Frees weights and their sequences on a thread of libuv, after the steps that were requested before.
    #[napi]
    pub fn release(&self, mut weights: ClassInstance<'_, JsWeights>) -> AsyncTask<Background<ReleaseJob>> {
        let weights = weights.weights.take();
        let weights = weights.map(|weights| {
            // A closed engine holds no sequences.
            let forgotten = self.running.as_ref().map(|running| running.steps.forget(Arc::clone(&weights)));
            (weights, forgotten)
        });
        AsyncTask::new(Background(ReleaseJob { weights }))
    }

    /// Ends the threads and frees the keys and values, on a thread of libuv, after the steps that were requested before.
    #[napi]
    pub fn close(&mut self) -> AsyncTask<Background<CloseJob>> {
        AsyncTask::new(Background(CloseJob { running: self.running.take() }))
    }

    /// The sequences and pages that are in use.
    #[napi]
    pub fn usage(&self) -> Result<JsUsage> {
        let usage = self.idle()?.usage();
        Ok(JsUsage {
            sequences: usage.sequences as f64,
            written_pages: usage.written_pages as f64,
            total_pages: usage.total_pages as f64,
        })
    }

    /// For tests: the next step panics.
    #[napi]
    pub fn provoke_panic(&self) -> Result<()> {
        self.idle()?.panic_next();
        Ok(())
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().ok_or_else(|| error(Code::InvalidState, "this engine was closed"))
    }

    /// The engine, unless a step is running: the event loop never waits for one.
    fn idle(&self) -> Result<MutexGuard<'_, Engine>> {
        match self.running()?.engine.try_lock() {
            Ok(engine) => Ok(engine),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(error(Code::InvalidState, "a step is running; await it first"))
            }
        }
    }
}

/// Ends the threads of an engine.
pub struct CloseJob {
    running: Option<Running>,
}

impl Job for CloseJob {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        if self.running.take().is_some() {
            return_memory();
        }
        Ok(())
    }

    fn into_js((): ()) {}
}

fn format_of(precision: Field) -> Result<Format> {
    Precision::named(&precision.text()?).map(Format::usual).map_err(invalid)
}

/// The number of pages. A count that is out of range has the code of one that the machine cannot have, because the same
/// setting of the node decides both.
fn page_count(pages: Field) -> Result<usize> {
    let found = pages.number()?;
    count("pages", found, MAX_PAGES).map_err(|reason| error(Code::InvalidPageCount, &reason.reason))
}

fn engine_error(reason: EngineError) -> Error {
    let code = match reason {
        EngineError::Activations(_) => Code::InvalidArg,
        EngineError::Threads(..) => Code::ThreadsUnavailable,
        EngineError::Pages(..) => Code::InvalidPageCount,
    };
    error(code, reason)
}

fn read_config(model: Field) -> Result<ModelConfig> {
    let [hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, context, eps, rope] =
        model.read([
            c"hidden",
            c"layers",
            c"heads",
            c"kvHeads",
            c"headDim",
            c"intermediate",
            c"vocab",
            c"context",
            c"eps",
            c"ropeFrequencies",
        ])?;
    let config = ModelConfig {
        hidden: hidden.count(MAX_SIZE)?,
        layers: layers.count(MAX_SIZE)?,
        heads: heads.count(MAX_SIZE)?,
        kv_heads: kv_heads.count(MAX_SIZE)?,
        head_dim: head_dim.count(MAX_SIZE)?,
        intermediate: intermediate.count(MAX_SIZE)?,
        vocab: vocab.count(MAX_SIZE)?,
        context: context.count(MAX_SIZE)?,
        eps: eps.number()? as f32,
        rope: rope.f64_array()?.to_vec(),
    };
    config.check().map_err(invalid)?;
    Ok(config)
}
