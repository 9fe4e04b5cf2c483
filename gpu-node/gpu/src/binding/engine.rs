use super::devices::JsDevice;
use super::errors::{device_error, engine_error};
use super::stepped::{AdjustmentLists, Stepped};
use super::weights::{JsLoadCancellation, JsWeights, LoadJob};
use crate::device::{DeviceDescription, Gpu};
use crate::engine::{Engine, EngineOptions, Forms, ModelConfig, Usage, WeightLibrary, Work};
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Failure, Result, guarded};
use copal_native::engine_binding::fields::read;
use copal_native::engine_binding::options::{batch_token_count, page_count, read_config, read_precision};
use copal_native::engine_binding::places::read_places;
use copal_native::engine_binding::running_engine::{CloseJob, ReleaseJob, RunningEngine, closed};
use copal_native::engine_binding::step::Step;
use copal_native::engine_binding::step_engine::StepEngine;
use copal_native::scheduling::be_urgent;
use napi::bindgen_prelude::{
    AsyncTask, ClassInstance, Env, Float32ArraySlice, Int32ArraySlice, Object, Unknown,
};
use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The forward pass of one model on one device.
#[napi(js_name = "Engine")]
pub struct JsEngine {
    /// `None` once it was closed.
    running: Option<RunningEngine<Engine>>,
    /// Loads weights for the engine; `None` once it was closed.
    library: Option<Arc<WeightLibrary>>,
    /// `None` once it was closed.
    gpu: Option<Arc<Gpu>>,
    device: DeviceDescription,
    layers: usize,
    candidates: usize,
    max_adjusted: usize,
    /// For tests: makes steps hang.
    hangs: Arc<AtomicBool>,
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

/// Opens an engine.
pub struct OpenEngineJob {
    device: Option<String>,
    config: ModelConfig,
    options: EngineOptions,
}

impl Job for OpenEngineJob {
    type Output = JsEngine;
    type JsValue = JsEngine;

    fn run(&mut self) -> std::result::Result<JsEngine, Failure> {
        let gpu = Gpu::open(self.device.as_deref()).map_err(device_error)?;
        let engine = Engine::new(self.config.clone(), gpu, &self.options).map_err(engine_error)?;
        let (library, gpu) = (Arc::clone(engine.library()), Arc::clone(engine.gpu()));
        let (device, candidates) = (gpu.description().clone(), engine.candidates());
        let max_adjusted = engine.max_adjusted();
        let hangs = Arc::clone(engine.hang_switch());
        let running = Some(RunningEngine::start(engine, Arc::default())?);
        let layers = self.config.layers;
        let (library, gpu) = (Some(library), Some(gpu));
        Ok(JsEngine { running, library, gpu, device, layers, candidates, max_adjusted, hangs })
    }

    fn into_js(engine: JsEngine) -> JsEngine {
        // The event loop passes the results of steps on.
        be_urgent();
        engine
    }
}

/// Opens a device on a thread of libuv, for an engine without weights.
#[napi]
pub fn open_engine(options: Unknown<'_>) -> Result<AsyncTask<Background<OpenEngineJob>>> {
    guarded(|| {
        let [device, precision, head_precision, model, pages, batch_tokens] =
            read(&options, [c"device", c"precision", c"headPrecision", c"model", c"pages", c"batchTokens"])?;
        let config = read_config(model)?;
        let device = device.optional()?.map(|name| name.text()).transpose()?;
        let options = EngineOptions {
            forms: Forms::of(read_precision(precision)?, read_precision(head_precision)?),
            pages: page_count(pages)?,
            batch_tokens: batch_token_count(batch_tokens)?,
        };
        Ok(AsyncTask::new(Background(OpenEngineJob { device, config, options })))
    })
}

#[napi]
impl JsEngine {
    /// The interface of the device.
    #[napi(getter)]
    pub fn kernel(&self) -> &'static str {
        self.device.api
    }

    /// The thread that requests the work of the device.
    #[napi(getter)]
    pub fn threads(&self) -> f64 {
        1.0
    }

    /// Candidates of an item with output 5.
    #[napi(getter)]
    pub fn candidates(&self) -> f64 {
        self.candidates as f64
    }

    /// Adjusted tokens of a row with candidates, at most.
    #[napi(getter)]
    pub fn max_adjusted(&self) -> f64 {
        self.max_adjusted as f64
    }

    /// The device.
    #[napi(getter)]
    pub fn device(&self) -> JsDevice {
        JsDevice::from(&self.device)
    }

    /// What cancels a load that it is passed to.
    #[napi]
    pub fn load_cancellation(&self) -> JsLoadCancellation {
        JsLoadCancellation::new()
    }

    /// Loads a weight set on `threads` threads of its own.
    #[napi]
    pub fn load(
        &self,
        source: Unknown<'_>,
        cancellation: Option<ClassInstance<'_, JsLoadCancellation>>,
    ) -> Result<AsyncTask<Background<LoadJob>>> {
        guarded(|| {
            let (mut places, threads) = read_places(self.layers, &source)?;
            if let Some(cancellation) = cancellation {
                cancellation.bind(&mut places);
            }
            let library = self.library.clone().ok_or_else(closed)?;
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
            let adjustments = AdjustmentLists::read(&step)?;
            let stepped = || Ok(Arc::new(Stepped { weights: weights.loaded()?, adjustments }));
            self.running()?.step(env, Step::read(&step, stepped)?)
        })
    }

    /// Downloads rows of logits of the last step.
    #[napi]
    pub fn download_logits<'env>(&self, env: &'env Env, rows: Int32ArraySlice<'_>) -> Result<Object<'env>> {
        guarded(|| self.running()?.download_logits(env, &rows))
    }

    /// Copies a row of logits of the last step, in the order of the items and their tokens. Those of items that asked for
    /// candidates are there once they were downloaded.
    #[napi]
    pub fn logits(&self, row: f64, into: Float32ArraySlice<'_>) -> Result<()> {
        guarded(|| self.running()?.logits(row, into))
    }

    /// Frees weights and their sequences on a thread of libuv, after the steps that were requested before.
    #[napi]
    pub fn release(
        &self,
        mut weights: ClassInstance<'_, JsWeights>,
    ) -> AsyncTask<Background<ReleaseJob<Engine>>> {
        let job = ReleaseJob::new(weights.weights.take().map(Stepped::alone), self.running.as_ref());
        AsyncTask::new(Background(job))
    }

    /// The sequences and pages that are in use.
    #[napi]
    pub fn usage(&self) -> Result<JsUsage> {
        let usage = self.running()?.usage()?;
        Ok(JsUsage {
            sequences: usage.sequences as f64,
            written_pages: usage.written_pages as f64,
            total_pages: usage.total_pages as f64,
        })
    }

    /// Bytes of the device's memory.
    #[napi]
    pub fn memory(&self) -> Result<JsMemory> {
        let memory = self.running()?.idle()?.memory();
        Ok(JsMemory {
            weight_bytes: memory.weights as f64,
            page_bytes: memory.pages as f64,
            work_bytes: memory.work as f64,
        })
    }

    /// For tests: loses the device.
    #[napi]
    pub fn provoke_device_loss(&self) {
        self.gpu.iter().for_each(|gpu| gpu.lose());
    }

    /// For tests: no step returns from now on, as with a driver that hangs.
    #[napi]
    pub fn provoke_hang(&self) {
        self.hangs.store(true, Ordering::Relaxed);
    }

    /// For tests: the next step panics.
    #[napi]
    pub fn provoke_panic(&self) -> Result<()> {
        self.running()?.provoke_panic()
    }

    /// Ends the thread and frees the pages and buffers, and the device, after the steps that were requested before, on a thread
    /// of libuv.
    #[napi]
    pub fn close(&mut self) -> AsyncTask<Background<CloseJob<Engine>>> {
        // The engine has other references, so both are freed on the thread of libuv.
        self.library = None;
        self.gpu = None;
        AsyncTask::new(Background(CloseJob(self.running.take())))
    }

    fn running(&self) -> Result<&RunningEngine<Engine>> {
        RunningEngine::of(&self.running)
    }
}

impl StepEngine for Engine {
    type Weights = Stepped;

    const THREAD: &'static str = "copal-gpu";

    fn step(&mut self, stepped: &Stepped, work: &[Work<'_>], results: &mut Vec<f32>) -> Result<()> {
        let adjustments = stepped.adjustments.rows();
        self.step(&stepped.weights, work, &adjustments, results).map_err(engine_error)
    }

    fn drop_sequence(&mut self, stepped: &Stepped, sequence: u64) {
        self.drop_sequence(&stepped.weights, sequence);
    }

    fn drop_sequences_of(&mut self, stepped: &Stepped) {
        self.drop_sequences_of(&stepped.weights);
    }

    fn logits(&self, index: usize) -> Option<&[f32]> {
        self.logits(index)
    }

    fn download_logits(&mut self, rows: &[usize]) -> Result<Option<usize>> {
        self.download_logits(rows).map_err(engine_error)
    }

    fn usage(&self) -> Usage {
        self.usage()
    }

    fn panic_next(&mut self) {
        self.panic_next();
    }
}
