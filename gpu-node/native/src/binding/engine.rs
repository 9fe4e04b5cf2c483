use super::{count, guarded, invalid};
use crate::engine::{
    Engine, EngineOptions, LinearPlace, ModelConfig, Output, SharedPlaces, StepError, WeightLibrary,
    WeightPlaces, WeightSet, Work,
};
use crate::kernels::Kernel;
use crate::storage::{Format, Precision};
use napi::bindgen_prelude::{
    AsyncTask, ClassInstance, Env, Error, Float32Array, Float32ArraySlice, Float64ArraySlice,
    Int32ArraySlice, Result, Status, Task, Uint8ArraySlice,
};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

const MOST_THREADS: usize = 256;
const MOST_PAGES: usize = 1 << 24;
const MOST_BATCH_TOKENS: usize = 1 << 16;
/// Offsets are doubles: whole numbers up to here are exact.
const MOST_BYTES: usize = 1 << 53;

/// The forward pass of one model.
#[napi(js_name = "Engine")]
pub struct JsEngine {
    engine: Arc<Mutex<Engine>>,
    library: Arc<WeightLibrary>,
    kernel: &'static str,
    threads: usize,
    layers: usize,
}

/// Weights that an engine runs.
#[napi(js_name = "EngineWeights")]
pub struct JsWeights {
    weights: Option<Arc<WeightSet>>,
    bytes: usize,
}

#[napi]
impl JsWeights {
    /// Bytes that one token's multiplications read.
    #[napi(getter)]
    pub fn bytes(&self) -> f64 {
        self.bytes as f64
    }
}

#[napi]
impl JsEngine {
    /// An engine without weights; `addon.d.ts` names the numbers of `shape`.
    #[napi(constructor)]
    pub fn new(
        kernel: Option<String>,
        threads: f64,
        precision: String,
        shape: Float64ArraySlice<'_>,
        rope: Float64ArraySlice<'_>,
        pages: f64,
        batch_tokens: f64,
    ) -> Result<JsEngine> {
        guarded(|| {
            let kernel = Kernel::select(kernel.as_deref()).map_err(invalid)?;
            let precision = Precision::named(&precision).map_err(invalid)?;
            let format = Format::usual(precision);
            let config = read_config(&shape, &rope)?;
            let options = EngineOptions {
                threads: count("threads", threads, MOST_THREADS)?,
                pages: count("pages", pages, MOST_PAGES)?,
                batch_tokens: count("batchTokens", batch_tokens, MOST_BATCH_TOKENS)?,
            };
            let (threads, layers) = (options.threads, config.layers);
            let library = Arc::new(WeightLibrary::new(config.clone(), format));
            let engine = Engine::new(config, kernel, &options).map_err(|error| {
                Error::new(Status::GenericFailure, format!("cannot start {threads} threads: {error}"))
            })?;
            let engine = Arc::new(Mutex::new(engine));
            Ok(JsEngine { engine, library, kernel: kernel.name(), threads, layers })
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
    #[allow(clippy::too_many_arguments)]
    pub fn load(
        &self,
        master: String,
        shared: Float64ArraySlice<'_>,
        linears: Float64ArraySlice<'_>,
        mask: Option<String>,
        bits: Float64ArraySlice<'_>,
        values: Float64ArraySlice<'_>,
        threads: f64,
    ) -> Result<AsyncTask<LoadTask>> {
        guarded(|| {
            let shared = offsets("shared", &shared, 3 + 2 * self.layers)?;
            let dense = offsets("linears", &linears, 7 * self.layers)?;
            let bits = optional_offsets("bits", &bits, dense.len())?;
            let values = optional_offsets("values", &values, dense.len())?;
            let linears = dense.iter().zip(bits).zip(values);
            let (norms, _) = shared[3..].as_chunks::<2>();
            let places = WeightPlaces {
                master: PathBuf::from(master),
                mask: mask.map(PathBuf::from),
                shared: SharedPlaces {
                    embedding: shared[0],
                    head: shared[1],
                    final_norm: shared[2],
                    norms: norms.iter().map(|&[attention, mlp]| (attention, mlp)).collect(),
                },
                linears: linears
                    .map(|((&dense, bits), values)| LinearPlace { dense, bits, values })
                    .collect(),
            };
            let threads = count("threads", threads, MOST_THREADS)?;
            Ok(AsyncTask::new(LoadTask { library: Arc::clone(&self.library), places, threads }))
        })
    }

    /// Runs a step on a thread of libuv and the engine's own.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn step(
        &self,
        weights: ClassInstance<'_, JsWeights>,
        sequences: Float64ArraySlice<'_>,
        positions: Int32ArraySlice<'_>,
        counts: Int32ArraySlice<'_>,
        outputs: Uint8ArraySlice<'_>,
        tokens: Int32ArraySlice<'_>,
        targets: Int32ArraySlice<'_>,
        drops: Float64ArraySlice<'_>,
    ) -> Result<AsyncTask<StepTask>> {
        guarded(|| {
            let works = sequences.len();
            for (name, length) in
                [("positions", positions.len()), ("counts", counts.len()), ("outputs", outputs.len())]
            {
                if length != works {
                    return Err(invalid(format!("{works} sequences need as many {name}, not {length}")));
                }
            }
            let total =
                counts.iter().try_fold(0usize, |sum, &count| sum.checked_add(usize::try_from(count).ok()?));
            if total != Some(tokens.len()) || targets.len() != tokens.len() {
                return Err(invalid(format!(
                    "counts do not add up to {} tokens, or there are not as many targets ({})",
                    tokens.len(),
                    targets.len()
                )));
            }
            if outputs.iter().any(|&output| output > 3) {
                return Err(invalid(
                    "outputs are 0 (none), 1 (logits), 2 (negative log-likelihoods) or 3 (sum of hidden states)",
                ));
            }
            let ids = sequences.iter().map(|&id| sequence("sequences", id));
            let items = ids.zip(&*positions).zip(&*counts).zip(&*outputs);
            let items = items.map(|(((id, &position), &count), &output)| {
                let position = usize::try_from(position).map_err(|_| invalid("a position is negative"))?;
                Ok(Item { sequence: id?, position, count: count as usize, output })
            });
            Ok(AsyncTask::new(StepTask {
                engine: Arc::clone(&self.engine),
                weights: weights.loaded()?,
                items: items.collect::<Result<_>>()?,
                // A negative token becomes one that no model has.
                tokens: tokens.iter().map(|&token| token as u32).collect(),
                targets: targets.to_vec(),
                drops: drops.iter().map(|&id| sequence("drops", id)).collect::<Result<_>>()?,
            }))
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

    /// Frees weights and their sequences on a thread of libuv; a step that runs on them keeps them
    /// until it ends.
    #[napi]
    pub fn release(&self, mut weights: ClassInstance<'_, JsWeights>) -> AsyncTask<ReleaseTask> {
        AsyncTask::new(ReleaseTask { engine: Arc::clone(&self.engine), weights: weights.weights.take() })
    }

    /// Sequences, pages they have, and pages there are.
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

impl JsWeights {
    fn loaded(&self) -> Result<Arc<WeightSet>> {
        self.weights.clone().ok_or_else(|| invalid("these weights were released"))
    }
}

/// Loads on a thread of libuv.
pub struct LoadTask {
    library: Arc<WeightLibrary>,
    places: WeightPlaces,
    threads: usize,
}

impl Task for LoadTask {
    type Output = WeightSet;
    type JsValue = JsWeights;

    fn compute(&mut self) -> Result<WeightSet> {
        guarded(|| self.library.load(&self.places, self.threads).map_err(invalid))
    }

    fn resolve(&mut self, _env: Env, weights: WeightSet) -> Result<JsWeights> {
        Ok(JsWeights { bytes: weights.stream_bytes(), weights: Some(Arc::new(weights)) })
    }
}

/// Frees on a thread of libuv.
pub struct ReleaseTask {
    engine: Arc<Mutex<Engine>>,
    weights: Option<Arc<WeightSet>>,
}

impl Task for ReleaseTask {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        guarded(|| {
            if let Some(weights) = self.weights.take() {
                let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
                engine.drop_sequences_of(&weights);
                drop(engine);
                drop(weights);
                return_memory();
            }
            Ok(())
        })
    }

    fn resolve(&mut self, _env: Env, (): ()) -> Result<()> {
        Ok(())
    }
}

/// Runs a step on a thread of libuv.
pub struct StepTask {
    engine: Arc<Mutex<Engine>>,
    weights: Arc<WeightSet>,
    items: Vec<Item>,
    tokens: Vec<u32>,
    targets: Vec<i32>,
    drops: Vec<u64>,
}

struct Item {
    sequence: u64,
    position: usize,
    count: usize,
    output: u8,
}

impl Task for StepTask {
    type Output = Vec<f32>;
    type JsValue = Float32Array;

    fn compute(&mut self) -> Result<Vec<f32>> {
        guarded(|| {
            let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            for &sequence in &self.drops {
                engine.drop_sequence(&self.weights, sequence);
            }
            let mut work = Vec::with_capacity(self.items.len());
            let mut at = 0;
            for item in &self.items {
                let range = at..at + item.count;
                at = range.end;
                let output = match item.output {
                    0 => Output::None,
                    1 => Output::Logits,
                    2 => Output::Nll(&self.targets[range.clone()]),
                    _ => Output::HiddenSum,
                };
                let tokens = &self.tokens[range];
                work.push(Work { sequence: item.sequence, position: item.position, tokens, output });
            }
            let mut results = Vec::new();
            engine.step(&self.weights, &work, &mut results).map_err(step_error)?;
            Ok(results)
        })
    }

    fn resolve(&mut self, _env: Env, results: Vec<f32>) -> Result<Float32Array> {
        Ok(Float32Array::new(results))
    }
}

fn step_error(error: StepError) -> Error {
    let status = match error {
        StepError::Misfit(_) => Status::InvalidArg,
        StepError::Pages { .. } => Status::QueueFull,
        StepError::Multiply(_) => Status::GenericFailure,
    };
    Error::new(status, error.to_string())
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

/// `expected` places in a file.
fn offsets(name: &str, values: &[f64], expected: usize) -> Result<Vec<usize>> {
    let places = optional_offsets(name, values, expected)?;
    let places: Option<Vec<_>> = places.into_iter().collect();
    places.ok_or_else(|| invalid(format!("{name} has a negative place")))
}

/// `expected` places in a file; -1 is none.
fn optional_offsets(name: &str, values: &[f64], expected: usize) -> Result<Vec<Option<usize>>> {
    if values.len() != expected {
        return Err(invalid(format!("{name} has {} places, {expected} are expected", values.len())));
    }
    let place = |&value: &f64| match value {
        -1.0 => Ok(None),
        _ if value.fract() == 0.0 && value >= 0.0 && value <= MOST_BYTES as f64 => Ok(Some(value as usize)),
        _ => Err(invalid(format!("{name} has a place of {value}; a whole number or -1 is expected"))),
    };
    values.iter().map(place).collect()
}

fn sequence(name: &str, id: f64) -> Result<u64> {
    if id.fract() == 0.0 && (0.0..=MOST_BYTES as f64).contains(&id) {
        return Ok(id as u64);
    }
    Err(invalid(format!("{name} has the id {id}; a whole number that is not negative is expected")))
}

/// Gives what was freed back to the system: glibc would keep it for the next weight set, beside
/// the one that is already there.
fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: a function of glibc that may be called at any time.
        unsafe { malloc_trim(0) };
    }
}
