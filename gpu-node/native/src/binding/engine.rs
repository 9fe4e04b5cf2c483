use super::steps::{Step, StepThread, read_items, sequence};
use super::weights::{JsWeights, LoadTask, ReleaseTask, read_places};
use super::{MOST_THREADS, count, guarded, invalid};
use crate::cpu::Implementation;
use crate::engine::{Engine, EngineOptions, ModelConfig, WeightLibrary};
use crate::storage::{Format, Precision};
use napi::bindgen_prelude::{
    AsyncTask, ClassInstance, Env, Error, Float32ArraySlice, Float64ArraySlice, Int32ArraySlice, Object,
    Result, Status,
};
use napi_derive::napi;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

const MOST_PAGES: usize = 1 << 24;
const MOST_BATCH_TOKENS: usize = 1 << 16;

/// The forward pass of one model.
#[napi(js_name = "Engine")]
pub struct JsEngine {
    steps: StepThread,
    engine: Arc<Mutex<Engine>>,
    library: Arc<WeightLibrary>,
    kernel: &'static str,
    threads: usize,
    layers: usize,
}

#[napi]
impl JsEngine {
    /// An engine without weights; `addon.d.ts` names the numbers of `shape`.
    #[napi(constructor)]
    #[allow(clippy::too_many_arguments, reason = "as addon.d.ts lists them")]
    pub fn new(
        kernel: Option<String>,
        threads: f64,
        precision: String,
        head: String,
        shape: Float64ArraySlice<'_>,
        rope: Float64ArraySlice<'_>,
        pages: f64,
        batch_tokens: f64,
    ) -> Result<JsEngine> {
        guarded(|| {
            let kernel = Implementation::select(kernel.as_deref()).map_err(invalid)?;
            let format = |precision: &str| Precision::named(precision).map(Format::usual).map_err(invalid);
            let (linears, head) = (format(&precision)?, format(&head)?);
            let config = read_config(&shape, &rope)?;
            let options = EngineOptions {
                threads: count("threads", threads, MOST_THREADS)?,
                pages: count("pages", pages, MOST_PAGES)?,
                batch_tokens: count("batchTokens", batch_tokens, MOST_BATCH_TOKENS)?,
            };
            let (threads, layers) = (options.threads, config.layers);
            let failed = |error: io::Error| match error.kind() {
                io::ErrorKind::InvalidInput => invalid(error),
                _ => Error::new(Status::GenericFailure, error.to_string()),
            };
            let engine = Engine::new(config.clone(), kernel, &options).map_err(failed)?;
            let library = Arc::new(WeightLibrary::new(config, linears, head, Arc::clone(engine.pace())));
            let engine = Arc::new(Mutex::new(engine));
            let steps = StepThread::new(Arc::clone(&engine)).map_err(failed)?;
            Ok(JsEngine { steps, engine, library, kernel: kernel.name(), threads, layers })
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

    /// Packs weights on `threads` threads of their own.
    #[napi]
    #[allow(clippy::too_many_arguments, reason = "as addon.d.ts lists them")]
    pub fn load(
        &self,
        master: String,
        shared: Float64ArraySlice<'_>,
        linears: Float64ArraySlice<'_>,
        mask: Option<String>,
        masked: Float64ArraySlice<'_>,
        threads: f64,
    ) -> Result<AsyncTask<LoadTask>> {
        guarded(|| {
            let places = read_places(self.layers, master, &shared, &linears, mask, &masked)?;
            let threads = count("threads", threads, MOST_THREADS)?;
            Ok(AsyncTask::new(LoadTask { library: Arc::clone(&self.library), places, threads }))
        })
    }

    /// Runs a step on the engine's own threads, after those that were asked for before.
    #[napi]
    #[allow(clippy::too_many_arguments, reason = "as addon.d.ts lists them")]
    pub fn step<'env>(
        &self,
        env: &'env Env,
        weights: ClassInstance<'_, JsWeights>,
        sequences: Float64ArraySlice<'_>,
        works: Int32ArraySlice<'_>,
        tokens: Int32ArraySlice<'_>,
        targets: Int32ArraySlice<'_>,
        pages: Int32ArraySlice<'_>,
        drops: Float64ArraySlice<'_>,
    ) -> Result<Object<'env>> {
        guarded(|| {
            if targets.len() != tokens.len() {
                return Err(invalid(format!(
                    "{} tokens need as many targets, not {}",
                    tokens.len(),
                    targets.len()
                )));
            }
            let step = Step {
                weights: weights.loaded()?,
                items: read_items(&sequences, &works, tokens.len(), pages.len())?,
                // A negative token becomes one that no model has, and so does a page.
                tokens: tokens.iter().map(|&token| token as u32).collect(),
                targets: targets.to_vec(),
                pages: pages.iter().map(|&page| page as u32).collect(),
                drops: drops.iter().map(|&id| sequence("drops", id)).collect::<Result<_>>()?,
            };
            self.steps.run(env, step)
        })
    }

    /// Copies the logits of the `index`-th work of the last step that wanted them.
    #[napi]
    pub fn logits(&self, index: f64, mut into: Float32ArraySlice<'_>) -> Result<()> {
        guarded(|| {
            let engine = self.idle()?;
            let index = count("index", index + 1.0, MOST_PAGES)? - 1;
            let logits = engine
                .logits(index)
                .ok_or_else(|| invalid(format!("the last step has no logits {index}")))?;
            if into.len() != logits.len() {
                return Err(invalid(format!("{} logits do not go into {}", logits.len(), into.len())));
            }
            // SAFETY: the memory is that of a typed array of this call, which runs no JavaScript
            // before it returns; the logits are memory of our own.
            unsafe { into.as_mut() }.copy_from_slice(logits);
            Ok(())
        })
    }

    /// Frees weights and their sequences on a thread of libuv, after the steps that were asked for before.
    #[napi]
    pub fn release(&self, mut weights: ClassInstance<'_, JsWeights>) -> AsyncTask<ReleaseTask> {
        let weights = weights.weights.take();
        let weights = weights.map(|weights| (Arc::clone(&weights), self.steps.forget(weights)));
        AsyncTask::new(ReleaseTask { weights })
    }

    /// Sequences, pages that were written, and pages that there are.
    #[napi]
    pub fn usage(&self) -> Result<Vec<f64>> {
        let usage = self.idle()?.usage();
        Ok([usage.sequences, usage.pages, usage.total_pages].map(|number| number as f64).to_vec())
    }

    /// For tests: the next step panics on every thread.
    #[napi]
    pub fn provoke_panic(&self) -> Result<()> {
        self.idle()?.panic_next();
        Ok(())
    }

    /// The engine, unless a step runs: nobody waits for one on the event loop.
    fn idle(&self) -> Result<MutexGuard<'_, Engine>> {
        match self.engine.try_lock() {
            Ok(engine) => Ok(engine),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(invalid("a step is running; await it first")),
        }
    }
}

fn read_config(shape: &[f64], rope: &[f64]) -> Result<ModelConfig> {
    let names =
        ["hidden", "layers", "heads", "kvHeads", "headDim", "intermediate", "vocab", "context", "eps"];
    if shape.len() != names.len() {
        return Err(invalid(format!("shape has {} numbers; expected are {}", shape.len(), names.join(", "))));
    }
    let size = |index: usize| count(names[index], shape[index], (1 << 24) - 1);
    let config = ModelConfig {
        hidden: size(0)?,
        layers: size(1)?,
        heads: size(2)?,
        kv_heads: size(3)?,
        head_dim: size(4)?,
        intermediate: size(5)?,
        vocab: size(6)?,
        context: size(7)?,
        eps: shape[8] as f32,
        rope: rope.to_vec(),
    };
    config.check().map_err(invalid)?;
    Ok(config)
}
