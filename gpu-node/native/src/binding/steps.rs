//! Steps of an engine, on its own threads.

use super::{MOST_BYTES, guarded, invalid};
use crate::engine::{Engine, Output, StepError, WeightSet, Work};
use napi::JsDeferred;
use napi::bindgen_prelude::{Env, Error, Float32Array, Object, Result, Status};
use std::io;
use std::ops::Range;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Numbers that describe a work: position, tokens, output, cached tokens, pages.
const WORK_NUMBERS: usize = 5;

/// A step as it was asked for.
pub(super) struct Step {
    pub(super) weights: Arc<WeightSet>,
    pub(super) items: Vec<Item>,
    pub(super) tokens: Vec<u32>,
    pub(super) targets: Vec<i32>,
    pub(super) pages: Vec<u32>,
    pub(super) drops: Vec<u64>,
}

/// Makes the promise's value, on the thread of JavaScript.
type Resolve = Box<dyn FnOnce(Env) -> Result<Float32Array>>;

/// What the thread of an engine is asked.
enum Asked {
    Step(Step, JsDeferred<Float32Array, Resolve>),
    /// To forget all sequences of a weight set, and to tell when.
    Forget(Arc<WeightSet>, Sender<()>),
}

/// Runs the steps of an engine on a thread of its own, in the order in which they come: masks of grammars, loads and
/// whatever else waits for libuv's few threads holds up no step.
pub(super) struct StepThread {
    /// There until it is dropped.
    asked: Option<Sender<Asked>>,
    thread: Option<JoinHandle<()>>,
}

impl StepThread {
    /// Starts the thread.
    pub(super) fn new(engine: Arc<Mutex<Engine>>) -> io::Result<StepThread> {
        let (asked, next) = mpsc::channel();
        let work = move || next.into_iter().for_each(|asked| answer(&engine, asked));
        let thread = thread::Builder::new().name("copal-0".to_owned()).spawn(work)?;
        Ok(StepThread { asked: Some(asked), thread: Some(thread) })
    }

    /// Asks for a step. @returns a promise of its results
    pub(super) fn run<'env>(&self, env: &'env Env, step: Step) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred()?;
        self.ask(Asked::Step(step, deferred));
        Ok(promise)
    }

    /// Asks to forget all sequences of a weight set, after the steps that were asked for before.
    ///
    /// @returns what is told when they are forgotten and no step has the weights any more
    pub(super) fn forget(&self, weights: Arc<WeightSet>) -> Receiver<()> {
        let (done, told) = mpsc::channel();
        self.ask(Asked::Forget(weights, done));
        told
    }

    fn ask(&self, what: Asked) {
        let asked = self.asked.as_ref().expect("there until it is dropped");
        asked.send(what).unwrap_or_else(|_| unreachable!("the thread goes on until nothing is to come"));
    }
}

fn answer(engine: &Mutex<Engine>, asked: Asked) {
    match asked {
        Asked::Step(step, promise) => match guarded(|| step.run(engine)) {
            Ok(results) => promise.resolve(Box::new(|_| Ok(Float32Array::new(results)))),
            Err(error) => promise.reject(error),
        },
        Asked::Forget(weights, done) => {
            engine.lock().unwrap_or_else(PoisonError::into_inner).drop_sequences_of(&weights);
            drop(weights);
            // Nobody listens where the environment ends.
            let _ = done.send(());
        }
    }
}

impl Drop for StepThread {
    fn drop(&mut self) {
        // It ends after what was asked for.
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            // Panics of steps end there.
            let _ = thread.join();
        }
    }
}

impl Step {
    /// Takes the step with it: weights that are released after it are then nobody's.
    fn run(self, engine: &Mutex<Engine>) -> Result<Vec<f32>> {
        let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
        for &sequence in &self.drops {
            engine.drop_sequence(&self.weights, sequence);
        }
        let work: Vec<Work<'_>> = self.items.iter().map(|item| self.work(item)).collect();
        let mut results = Vec::new();
        engine.step(&self.weights, &work, &mut results).map_err(step_error)?;
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
                2 => Output::Nll(&self.targets[item.tokens.clone()]),
                _ => Output::HiddenSum,
            },
        }
    }
}

/// A work; `tokens` and `pages` are where its own are among those of all.
pub struct Item {
    sequence: u64,
    position: usize,
    output: u8,
    cached: usize,
    tokens: Range<usize>,
    pages: Range<usize>,
}

fn step_error(error: StepError) -> Error {
    let status = match error {
        StepError::Misfit(_) => Status::InvalidArg,
        StepError::Multiply(_) => Status::GenericFailure,
    };
    Error::new(status, error.to_string())
}

/// Works that share out `tokens` tokens and `pages` pages.
pub(super) fn read_items(sequences: &[f64], works: &[i32], tokens: usize, pages: usize) -> Result<Vec<Item>> {
    let (works, rest) = works.as_chunks::<WORK_NUMBERS>();
    if works.len() != sequences.len() || !rest.is_empty() {
        return Err(invalid(format!(
            "{} sequences need {WORK_NUMBERS} numbers each, not {} altogether",
            sequences.len(),
            works.len() * WORK_NUMBERS + rest.len()
        )));
    }
    let mut items = Vec::with_capacity(works.len());
    let (mut token_end, mut page_end) = (0, 0);
    for (&id, work) in sequences.iter().zip(works) {
        let [position, token_count, output, cached, page_count] =
            work.map(|number| usize::try_from(number).ok());
        let (Some(position), Some(token_count), Some(output), Some(cached), Some(page_count)) =
            (position, token_count, output, cached, page_count)
        else {
            return Err(invalid(format!("the works have a negative number among {work:?}")));
        };
        if output > 3 {
            return Err(invalid(
                "outputs are 0 (none), 1 (logits), 2 (negative log-likelihoods) or 3 (sum of hidden states)",
            ));
        }
        let (token_start, page_start) = (token_end, page_end);
        token_end = token_start + token_count;
        page_end = page_start + page_count;
        items.push(Item {
            sequence: sequence("sequences", id)?,
            position,
            output: output as u8,
            cached,
            tokens: token_start..token_end,
            pages: page_start..page_end,
        });
    }
    if token_end != tokens || page_end != pages {
        return Err(invalid(format!(
            "works of {token_end} tokens and {page_end} pages do not share out {tokens} tokens and {pages} pages"
        )));
    }
    Ok(items)
}

/// The id of a sequence.
pub(super) fn sequence(name: &str, id: f64) -> Result<u64> {
    if id.fract() == 0.0 && (0.0..=MOST_BYTES as f64).contains(&id) {
        return Ok(id as u64);
    }
    Err(invalid(format!("{name} has the id {id}; a whole number that is not negative is expected")))
}
