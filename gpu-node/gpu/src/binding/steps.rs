//! The steps of an engine, on a thread of their own.

use super::MAX_EXACT;
use super::errors::{Code, Error, Failure, Result, error, guarded, invalid, of_device, of_napi};
use crate::engine::{Engine, Fault, Output, StepError, WeightSet, Work};
use crate::fault::DeviceFault;
use napi::JsDeferred;
use napi::bindgen_prelude::{Env, Float32Array, Object};
use std::io;
use std::ops::Range;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A step as it was requested.
pub(super) struct Step {
    pub(super) weights: Arc<WeightSet>,
    pub(super) items: Vec<Item>,
    pub(super) tokens: Vec<u32>,
    pub(super) targets: Vec<i32>,
    pub(super) pages: Vec<u32>,
    pub(super) drops: Vec<u64>,
}

/// Makes the promise's value, on the thread of JavaScript.
type Resolve = Box<dyn FnOnce(Env) -> napi::Result<Float32Array>>;

/// A request to the thread of an engine.
enum Request {
    Step(Step, JsDeferred<Float32Array, Resolve>),
    /// Forgets all sequences of a weight set, and then signals.
    Forget(Arc<WeightSet>, Sender<()>),
}

/// Runs the steps of an engine on a thread of its own, in the order in which they were requested. So a step never waits
/// behind grammar masks, loads, or other work for the few threads of libuv.
pub(super) struct StepThread {
    /// `Some` until the value is dropped.
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl StepThread {
    /// Starts the thread.
    pub(super) fn new(engine: Arc<Mutex<Engine>>) -> io::Result<StepThread> {
        let (requests, next) = mpsc::channel();
        let work = move || next.into_iter().for_each(|request| serve(&engine, request));
        let thread = thread::Builder::new().name("copal-gpu".to_owned()).spawn(work)?;
        Ok(StepThread { requests: Some(requests), thread: Some(thread) })
    }

    /// Requests a step and returns a promise of its results.
    pub(super) fn run<'env>(&self, env: &'env Env, step: Step) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred().map_err(of_napi)?;
        self.send(Request::Step(step, deferred));
        Ok(promise)
    }

    /// Requests that all sequences of a weight set are forgotten, after the steps that were requested before.
    ///
    /// The channel that is returned receives a signal when that is done and no step uses the weights any more.
    pub(super) fn forget(&self, weights: Arc<WeightSet>) -> Receiver<()> {
        let (done, signal) = mpsc::channel();
        self.send(Request::Forget(weights, done));
        signal
    }

    fn send(&self, request: Request) {
        let requests = self.requests.as_ref().expect("the sender exists until the value is dropped");
        requests
            .send(request)
            .unwrap_or_else(|_| unreachable!("the thread runs until the sender is dropped"));
    }
}

fn serve(engine: &Mutex<Engine>, request: Request) {
    match request {
        Request::Step(step, promise) => {
            let results = guarded(|| step.run(engine));
            promise.resolve(Box::new(|env| {
                results.map(Float32Array::new).map_err(|error| Failure::from(error).into_rejection(env))
            }));
        }
        Request::Forget(weights, done) => {
            engine.lock().unwrap_or_else(PoisonError::into_inner).drop_sequences_of(&weights);
            drop(weights);
            // The receiver is gone if the environment is ending.
            let _ = done.send(());
        }
    }
}

impl Drop for StepThread {
    fn drop(&mut self) {
        // The thread ends after the requests that it has already received.
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of a step was already reported to its promise.
            let _ = thread.join();
        }
    }
}

impl Step {
    /// Takes the step by value, so that its reference to the weights is dropped before the next request is served.
    fn run(self, engine: &Mutex<Engine>) -> Result<Vec<f32>> {
        let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
        for &sequence in &self.drops {
            engine.drop_sequence(&self.weights, sequence);
        }
        let work: Vec<Work<'_>> = self.items.iter().map(|item| self.work(item)).collect();
        let mut results = Vec::new();
        engine.step(&self.weights, &work, &mut results).map_err(engine_error)?;
        Ok(results)
    }

    fn work(&self, item: &Item) -> Work<'_> {
        Work {
            sequence: item.sequence,
            position: item.position,
            tokens: &self.tokens[item.tokens.clone()],
            cached: item.cached,
            pages: &self.pages[item.pages.clone()],
            output: match item.output {
                0 => Output::None,
                1 => Output::Logits,
                2 | 4 => Output::Scores {
                    targets: &self.targets[item.tokens.clone()],
                    alternatives: item.alternatives,
                    logits: item.output == 4,
                },
                _ => Output::HiddenSum,
            },
        }
    }
}

/// The work of one sequence. `tokens` and `pages` are ranges of those of the whole step.
pub(super) struct Item {
    sequence: u64,
    position: usize,
    output: u8,
    alternatives: usize,
    cached: usize,
    tokens: Range<usize>,
    pages: Range<usize>,
}

/// The arrays that have one element for each item of a step.
pub(super) struct ItemColumns<'a> {
    pub(super) sequences: &'a [f64],
    pub(super) positions: &'a [i32],
    pub(super) lengths: &'a [i32],
    pub(super) outputs: &'a [u8],
    pub(super) alternatives: &'a [u8],
    pub(super) cached: &'a [i32],
    pub(super) page_counts: &'a [i32],
}

/// The error for a fault of an engine.
pub(super) fn engine_error(fault: Fault) -> Error {
    let code = match fault {
        Fault::Device(fault)
        | Fault::Pages(_, fault @ (DeviceFault::Lost(_) | DeviceFault::Unavailable(_))) => {
            return of_device(fault);
        }
        Fault::Model(_) => Code::InvalidArg,
        Fault::Pages(..) => Code::InvalidPageCount,
        Fault::Step(StepError::Misfit(_)) => Code::InvalidStep,
        Fault::Step(StepError::OutOfMemory(_)) => Code::OutOfMemory,
        // The kernels of the processor are not used.
        Fault::Step(StepError::Multiply(_)) => Code::Panicked,
    };
    error(code, fault)
}

/// The items of a step, which divide up `tokens` tokens and `pages` pages.
pub(super) fn read_items(columns: &ItemColumns<'_>, tokens: usize, pages: usize) -> Result<Vec<Item>> {
    let count = columns.sequences.len();
    for (name, found) in [
        ("positions", columns.positions.len()),
        ("lengths", columns.lengths.len()),
        ("outputs", columns.outputs.len()),
        ("alternatives", columns.alternatives.len()),
        ("cachedLengths", columns.cached.len()),
        ("pageCounts", columns.page_counts.len()),
    ] {
        if found != count {
            return Err(invalid(format!("{name} has {found} elements for {count} sequences")));
        }
    }
    let mut items = Vec::with_capacity(count);
    let (mut token_end, mut page_end) = (0, 0);
    for (index, &id) in columns.sequences.iter().enumerate() {
        let output = columns.outputs[index];
        if output > 4 {
            return Err(invalid(
                "outputs are 0 (none), 1 (logits), 2 (negative log-likelihoods), 3 (sum of hidden states) or 4 (1 and 2)",
            ));
        }
        let (token_start, page_start) = (token_end, page_end);
        token_end = token_start + whole("lengths", columns.lengths[index])?;
        page_end = page_start + whole("pageCounts", columns.page_counts[index])?;
        items.push(Item {
            sequence: sequence("sequences", id)?,
            position: whole("positions", columns.positions[index])?,
            output,
            alternatives: columns.alternatives[index].into(),
            cached: whole("cachedLengths", columns.cached[index])?,
            tokens: token_start..token_end,
            pages: page_start..page_end,
        });
    }
    if token_end != tokens || page_end != pages {
        return Err(invalid(format!(
            "the items have {token_end} tokens and {page_end} pages, the step has {tokens} tokens and {pages} pages"
        )));
    }
    Ok(items)
}

fn whole(name: &str, number: i32) -> Result<usize> {
    usize::try_from(number).map_err(|_| invalid(format!("{name} has the negative number {number}")))
}

/// The id of a sequence.
pub(super) fn sequence(name: &str, id: f64) -> Result<u64> {
    if id.fract() == 0.0 && (0.0..=MAX_EXACT as f64).contains(&id) {
        return Ok(id as u64);
    }
    Err(invalid(format!("{name} has the id {id}; a whole number from 0 is expected")))
}
