use super::kernel_of;
use super::weights::{JsLoadCancellation, JsWeights, LoadJob, read_source, return_memory};
use copal_native::cpu::Implementation;
use copal_native::engine::{
    Engine, EngineError, EngineOptions, PAGE_TOKENS, Pace, TrialError, Usage, WeightLibrary, WeightSet, Work,
};
use copal_native::engine_binding::MAX_THREADS;
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{
    Code, Error, Failure, Result, error, guarded, invalid, step_error,
};
use copal_native::engine_binding::fields::read;
use copal_native::engine_binding::options::{
    batch_token_count, page_count, read_config, read_kv_precision, read_precision,
};
use copal_native::engine_binding::running_engine::{CloseJob, ReleaseJob, RunningEngine};
use copal_native::engine_binding::step::Step;
use copal_native::engine_binding::step_engine::StepEngine;
use copal_native::scheduling::be_urgent;
use copal_native::storage::Format;
use napi::bindgen_prelude::{
    AsyncTask, ClassInstance, Env, Float32Array, Float32ArraySlice, Int32ArraySlice, Object, Unknown,
};
use napi_derive::napi;
use std::sync::Arc;

/// The forward pass of one model.
#[napi(js_name = "Engine")]
pub struct JsEngine {
    /// `None` once it was closed.
    running: Option<RunningEngine<ProcessorEngine>>,
    library: Arc<WeightLibrary>,
    kernel: &'static Implementation,
    threads: usize,
    layers: usize,
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
            let [kernel, threads, precision, head_precision, model, pages, kv_precision, batch_tokens] =
                read(
                    &options,
                    [
                        c"kernel",
                        c"threads",
                        c"precision",
                        c"headPrecision",
                        c"model",
                        c"pages",
                        c"kvPrecision",
                        c"batchTokens",
                    ],
                )?;
            let config = read_config(model)?;
            let kernel = kernel_of(kernel)?;
            let (linears, head) =
                (Format::usual(read_precision(precision)?), Format::usual(read_precision(head_precision)?));
            let options = EngineOptions {
                threads: threads.count(MAX_THREADS)?,
                pages: page_count(pages)?,
                kv_precision: read_kv_precision(kv_precision)?,
                batch_tokens: batch_token_count(batch_tokens)?,
            };
            let (threads, layers) = (options.threads, config.layers);
            let engine = Engine::new(config.clone(), kernel, &options).map_err(engine_error)?;
            let pace = Arc::new(Pace::default());
            // The event loop passes the results of steps on.
            be_urgent();
            let library = Arc::new(WeightLibrary::new(config, linears, head, Arc::clone(&pace)));
            Ok(JsEngine {
                running: Some(RunningEngine::start(ProcessorEngine(engine), pace)?),
                library,
                kernel,
                threads,
                layers,
            })
        })
    }

    /// The kernel's name.
    #[napi(getter)]
    pub fn kernel(&self) -> &'static str {
        self.kernel.name()
    }

    /// Threads that share a step.
    #[napi(getter)]
    pub fn threads(&self) -> f64 {
        self.threads as f64
    }

    /// What cancels a load that it is passed to.
    #[napi]
    pub fn load_cancellation(&self) -> JsLoadCancellation {
        JsLoadCancellation::new()
    }

    /// Packs a weight set on `threads` threads of its own.
    #[napi]
    pub fn load(
        &self,
        source: Unknown<'_>,
        cancellation: Option<ClassInstance<'_, JsLoadCancellation>>,
    ) -> Result<AsyncTask<Background<LoadJob>>> {
        guarded(|| {
            let (mut places, form, threads) = read_source(self.layers, &source)?;
            if let Some(cancellation) = cancellation {
                cancellation.bind(&mut places);
            }
            let library = Arc::clone(&self.library);
            Ok(AsyncTask::new(Background(LoadJob { library, places, form, threads })))
        })
    }

    /// Runs a prompt on weights for the first time, on a thread of libuv beside the steps.
    #[napi]
    pub fn try_out(
        &self,
        weights: ClassInstance<'_, JsWeights>,
        tokens: Int32ArraySlice<'_>,
    ) -> Result<AsyncTask<Background<TrialJob>>> {
        guarded(|| {
            let tokens: Vec<u32> = tokens.iter().map(|&token| token as u32).collect();
            if !(2..=PAGE_TOKENS).contains(&tokens.len()) {
                return Err(invalid(format!(
                    "a prompt of 2 to {PAGE_TOKENS} tokens is tried, not of {}",
                    tokens.len()
                )));
            }
            let (library, implementation) = (Arc::clone(&self.library), self.kernel);
            Ok(AsyncTask::new(Background(TrialJob {
                library,
                implementation,
                weights: weights.loaded()?,
                tokens,
            })))
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
            let step = Step::read(&step, || weights.loaded())?;
            self.running()?.step(env, step)
        })
    }

    /// Copies the logits of one item of the last step: the `index`-th of those that asked for logits.
    #[napi]
    pub fn logits(&self, index: f64, into: Float32ArraySlice<'_>) -> Result<()> {
        guarded(|| self.running()?.logits(index, into))
    }

    /// Frees weights and their sequences on a thread of libuv, after the steps that were requested before.
    #[napi]
    pub fn release(
        &self,
        mut weights: ClassInstance<'_, JsWeights>,
    ) -> AsyncTask<Background<ReleaseJob<ProcessorEngine>>> {
        let job = ReleaseJob::new(weights.weights.take(), self.running.as_ref());
        AsyncTask::new(Background(job))
    }

    /// Ends the threads, and frees the keys and values and the memory that released weights have left, on a thread of libuv,
    /// after the steps that were requested before.
    #[napi]
    pub fn close(&mut self) -> AsyncTask<Background<CloseAllJob>> {
        let (engine, library) = (CloseJob(self.running.take()), Arc::clone(&self.library));
        AsyncTask::new(Background(CloseAllJob { engine, library }))
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

    /// For tests: the next step panics.
    #[napi]
    pub fn provoke_panic(&self) -> Result<()> {
        self.running()?.provoke_panic()
    }

    fn running(&self) -> Result<&RunningEngine<ProcessorEngine>> {
        RunningEngine::of(&self.running)
    }
}

/// Closes an engine and gives the memory of its library back.
pub struct CloseAllJob {
    engine: CloseJob<ProcessorEngine>,
    library: Arc<WeightLibrary>,
}

impl Job for CloseAllJob {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        self.library.give_memory_back();
        self.engine.run()
    }

    fn into_js((): ()) {}
}

/// Runs a prompt on weights for the first time.
pub struct TrialJob {
    library: Arc<WeightLibrary>,
    implementation: &'static Implementation,
    weights: Arc<WeightSet>,
    tokens: Vec<u32>,
}

impl Job for TrialJob {
    type Output = Vec<f32>;
    type JsValue = Float32Array;

    const IS_PATIENT: bool = true;

    fn run(&mut self) -> std::result::Result<Vec<f32>, Failure> {
        let logits = self.library.try_out(self.implementation, &self.weights, &self.tokens);
        Ok(logits.map_err(|reason| match reason {
            TrialError::Engine(reason) => engine_error(reason),
            TrialError::Step(reason) => step_error(reason),
        })?)
    }

    fn into_js(logits: Vec<f32>) -> Float32Array {
        Float32Array::new(logits)
    }
}

/// The engine, for the thread that runs its steps.
pub struct ProcessorEngine(Engine);

impl StepEngine for ProcessorEngine {
    type Weights = WeightSet;

    const THREAD: &'static str = "copal-0";

    fn step(&mut self, weights: &WeightSet, work: &[Work<'_>], results: &mut Vec<f32>) -> Result<()> {
        self.0.step(weights, work, results).map_err(step_error)
    }

    fn drop_sequence(&mut self, weights: &WeightSet, sequence: u64) {
        self.0.drop_sequence(weights, sequence);
    }

    fn drop_sequences_of(&mut self, weights: &WeightSet) {
        self.0.drop_sequences_of(weights);
    }

    fn logits(&self, index: usize) -> Option<&[f32]> {
        self.0.logits(index)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn panic_next(&mut self) {
        self.0.panic_next();
    }

    fn after_free() {
        return_memory();
    }
}

fn engine_error(reason: EngineError) -> Error {
    let code = match reason {
        EngineError::Activations(_) => Code::InvalidArg,
        EngineError::Threads(..) => Code::ThreadsUnavailable,
        EngineError::Pages(..) => Code::InvalidPageCount,
    };
    error(code, reason)
}
