use super::background::{Background, Job};
use super::devices::JsDevice;
use super::errors::{Code, Failure, Result, error, guarded, invalid, of_device};
use super::fields::{Field, count, read};
use super::model::read_config;
use super::steps::{ItemColumns, Step, StepThread, engine_error, read_items, sequence};
use super::weights::{JsWeights, LoadJob, ReleaseJob, read_places};
use crate::device::Gpu;
use crate::engine::{Engine, EngineOptions, Forms, WeightLibrary};
use crate::layout::Form;
use crate::storage::Precision;
use napi::bindgen_prelude::{AsyncTask, ClassInstance, Env, Float32ArraySlice, Object, Unknown};
use napi_derive::napi;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

const MAX_PAGES: usize = 1 << 24;
const MAX_BATCH_TOKENS: usize = 1 << 16;

/// The forward pass of one model on one device.
#[napi(js_name = "Engine")]
pub struct JsEngine {
    /// `None` once it was closed.
    open: Option<Open>,
    gpu: Arc<Gpu>,
    layers: usize,
}

/// The parts of an open engine, which closing it frees.
pub struct Open {
    // Dropped first: the thread uses the engine.
    steps: StepThread,
    engine: Arc<Mutex<Engine>>,
    library: Arc<WeightLibrary>,
}

/// Ends the thread of an engine and frees its memory.
pub struct CloseJob(Option<Open>);

impl Job for CloseJob {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        drop(self.0.take());
        Ok(())
    }

    fn into_js((): ()) {}
}

/// The sequences and pages that an engine holds.
#[napi(object, object_from_js = false)]
pub struct JsUsage {
    /// Sequences of all weight sets.
    pub sequences: f64,
    /// Pages that a step has written.
    pub written_pages: f64,
    /// All pages.
    pub total_pages: f64,
}

/// The memory of the device that an engine holds.
#[napi(object, object_from_js = false)]
pub struct JsMemory {
    /// Weights of all sets, shared ones once.
    pub weight_bytes: f64,
    /// Pages of keys and values.
    pub page_bytes: f64,
    /// Activations, logits, and buffers for transfers.
    pub work_bytes: f64,
}

#[napi]
impl JsEngine {
    /// An engine without weights.
    #[napi(constructor)]
    pub fn new(options: Unknown<'_>) -> Result<JsEngine> {
        guarded(|| {
            let [device, precision, head_precision, model, pages, batch_tokens] = read(
                &options,
                [c"device", c"precision", c"headPrecision", c"model", c"pages", c"batchTokens"],
            )?;
            let config = read_config(model)?;
            let device = device.optional()?.map(|name| name.text()).transpose()?;
            let options = EngineOptions {
                forms: forms(precision_of(precision)?, precision_of(head_precision)?),
                pages: page_count(pages)?,
                batch_tokens: batch_tokens.count(MAX_BATCH_TOKENS)?,
            };
            let layers = config.layers;
            let gpu = Gpu::open(device.as_deref()).map_err(of_device)?;
            let engine = Engine::new(config, gpu, &options).map_err(engine_error)?;
            let (library, gpu) = (Arc::clone(engine.library()), Arc::clone(engine.gpu()));
            let engine = Arc::new(Mutex::new(engine));
            let steps = StepThread::new(Arc::clone(&engine))
                .map_err(|reason| error(Code::ThreadsUnavailable, reason))?;
            Ok(JsEngine { open: Some(Open { steps, engine, library }), gpu, layers })
        })
    }

    /// The interface of the device.
    #[napi(getter)]
    pub fn kernel(&self) -> &'static str {
        self.gpu.description().api
    }

    /// The thread that requests the work of the device.
    #[napi(getter)]
    pub fn threads(&self) -> f64 {
        1.0
    }

    /// The device.
    #[napi(getter)]
    pub fn device(&self) -> JsDevice {
        JsDevice::from(self.gpu.description())
    }

    /// Loads a weight set on `threads` threads of its own.
    #[napi]
    pub fn load(&self, source: Unknown<'_>) -> Result<AsyncTask<Background<LoadJob>>> {
        guarded(|| {
            let (places, threads) = read_places(self.layers, &source)?;
            let library = Arc::clone(&self.open()?.library);
            Ok(AsyncTask::new(Background(LoadJob { library, places, threads })))
        })
    }

    /// Runs a step on the device, after the steps that were requested before.
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
            self.open()?.steps.run(env, step)
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
            // A closed engine has no sequences any more.
            let forgotten = self.open.as_ref().map(|open| open.steps.forget(Arc::clone(&weights)));
            (weights, forgotten)
        });
        AsyncTask::new(Background(ReleaseJob { weights }))
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

    /// Bytes of the device's memory.
    #[napi]
    pub fn memory(&self) -> Result<JsMemory> {
        let memory = self.idle()?.memory();
        Ok(JsMemory {
            weight_bytes: memory.weights as f64,
            page_bytes: memory.pages as f64,
            work_bytes: memory.work as f64,
        })
    }

    /// For tests: loses the device.
    #[napi]
    pub fn provoke_device_loss(&self) {
        self.gpu.lose();
    }

    /// For tests: the next step panics.
    #[napi]
    pub fn provoke_panic(&self) -> Result<()> {
        self.idle()?.panic_next();
        Ok(())
    }

    /// Ends the thread and frees the pages and buffers, after the steps that were requested before, on a thread of libuv.
    #[napi]
    pub fn close(&mut self) -> AsyncTask<Background<CloseJob>> {
        AsyncTask::new(Background(CloseJob(self.open.take())))
    }

    fn open(&self) -> Result<&Open> {
        self.open.as_ref().ok_or_else(|| error(Code::InvalidState, "this engine was closed"))
    }

    /// The engine, unless a step is running: the event loop never waits for one.
    fn idle(&self) -> Result<MutexGuard<'_, Engine>> {
        match self.open()?.engine.try_lock() {
            Ok(engine) => Ok(engine),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(error(Code::InvalidState, "a step is running; await it first"))
            }
        }
    }
}

/// The forms in which matrices of these precisions are stored.
fn forms(linears: Precision, head: Precision) -> Forms {
    let dense = |precision| match precision {
        Precision::Bf16 => Form::Bf16,
        Precision::Int8 => Form::Int8,
        Precision::Int4 => Form::Int4,
    };
    let masked = if linears == Precision::Bf16 { Form::Sparse } else { dense(linears) };
    Forms { masked, dense: dense(linears), head: dense(head) }
}

fn precision_of(precision: Field) -> Result<Precision> {
    Precision::named(&precision.text()?).map_err(invalid)
}

/// The number of pages. A count that is out of range has the code of one that the machine cannot have, because the same
/// setting of the node decides both.
fn page_count(pages: Field) -> Result<usize> {
    let found = pages.number()?;
    count("pages", found, MAX_PAGES).map_err(|reason| error(Code::InvalidPageCount, &reason.reason))
}
