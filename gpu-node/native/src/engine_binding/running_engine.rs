//! An open engine.

use super::MAX_PAGES;
use super::background::Job;
use super::errors::{Code, Error, Failure, Result, error, invalid};
use super::fields::index;
use super::step::Step;
use super::step_engine::StepEngine;
use super::step_thread::{StepThread, no_logits};
use crate::engine::{Pace, Usage};
use napi::bindgen_prelude::{Env, Float32ArraySlice, Object};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// An engine and the thread of its steps.
pub struct RunningEngine<E: StepEngine> {
    // Dropped first: the thread uses the engine.
    steps: StepThread<E>,
    engine: Arc<Mutex<E>>,
}

impl<E: StepEngine> RunningEngine<E> {
    /// Starts the thread of an engine. Its steps are under way by `pace`.
    pub fn start(engine: E, pace: Arc<Pace>) -> Result<RunningEngine<E>> {
        let engine = Arc::new(Mutex::new(engine));
        let steps = StepThread::new(Arc::clone(&engine), pace)
            .map_err(|reason| error(Code::ThreadsUnavailable, reason))?;
        Ok(RunningEngine { steps, engine })
    }

    /// Returns the open engine of a JavaScript object, whose field is `None` once it was closed.
    pub fn of(running: &Option<RunningEngine<E>>) -> Result<&RunningEngine<E>> {
        running.as_ref().ok_or_else(closed)
    }

    /// Requests a step, after those that were requested before, and returns a promise of its results.
    pub fn step<'env>(&self, env: &'env Env, step: Step<E::Weights>) -> Result<Object<'env>> {
        self.steps.run(env, step)
    }

    /// Copies a row of logits of the last step, in the order of the items and their tokens. Those of items that asked for
    /// candidates are there once they were downloaded.
    pub fn logits(&self, row: f64, mut into: Float32ArraySlice<'_>) -> Result<()> {
        let engine = self.idle()?;
        let row = index("index", row, MAX_PAGES)?;
        let logits = engine.logits(row).ok_or_else(|| no_logits(row))?;
        if into.len() != logits.len() {
            return Err(invalid(format!("{} logits do not go into {}", logits.len(), into.len())));
        }
        // SAFETY: the memory belongs to a typed array of this call, which runs no JavaScript before it returns; the
        // logits are memory of the engine.
        unsafe { into.as_mut() }.copy_from_slice(logits);
        Ok(())
    }

    /// Requests the download of rows of logits that are on a device, after the steps that were requested before, and returns a
    /// promise of its end.
    pub fn download_logits<'env>(&self, env: &'env Env, rows: &[i32]) -> Result<Object<'env>> {
        let rows = rows.iter().map(|&row| index("rows", row.into(), MAX_PAGES));
        self.steps.download(env, rows.collect::<Result<_>>()?)
    }

    /// The sequences and pages that are in use.
    pub fn usage(&self) -> Result<Usage> {
        Ok(self.idle()?.usage())
    }

    /// For tests: the next step panics.
    pub fn provoke_panic(&self) -> Result<()> {
        self.idle()?.panic_next();
        Ok(())
    }

    /// The engine, unless a step is running: the event loop never waits for one.
    pub fn idle(&self) -> Result<MutexGuard<'_, E>> {
        match self.engine.try_lock() {
            Ok(engine) => Ok(engine),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(error(Code::InvalidState, "a step is running; await it first"))
            }
        }
    }
}

/// The error for an engine that was closed.
pub fn closed() -> Error {
    error(Code::InvalidState, "this engine was closed")
}

/// Frees a weight set, once the engine's thread no longer uses it.
pub struct ReleaseJob<E: StepEngine> {
    /// `None` if they were released before.
    weights: Option<Arc<E::Weights>>,
    /// Receives a signal once their sequences are forgotten; `None` if the engine was closed, and holds none.
    forgotten: Option<Receiver<()>>,
}

impl<E: StepEngine> ReleaseJob<E> {
    /// Requests that the sequences of the weights are forgotten. `weights` is `None` if they were released before.
    pub fn new(weights: Option<Arc<E::Weights>>, running: Option<&RunningEngine<E>>) -> ReleaseJob<E> {
        let forget = |weights: &Arc<_>| Some(running?.steps.forget(Arc::clone(weights)));
        ReleaseJob { forgotten: weights.as_ref().and_then(forget), weights }
    }
}

impl<E: StepEngine> Job for ReleaseJob<E> {
    type Output = ();
    type JsValue = ();

    const IS_PATIENT: bool = true;

    fn run(&mut self) -> std::result::Result<(), Failure> {
        if let Some(weights) = self.weights.take() {
            // An error means that the engine's thread has ended; then it no longer uses the weights either.
            let _ = self.forgotten.take().map(|forgotten| forgotten.recv());
            drop(weights);
            E::after_free();
        }
        Ok(())
    }

    fn into_js((): ()) {}
}

/// Ends the thread of an engine and frees its memory.
pub struct CloseJob<E: StepEngine>(
    /// `None` if it was closed before.
    pub Option<RunningEngine<E>>,
);

impl<E: StepEngine> Job for CloseJob<E> {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        if self.0.take().is_some() {
            E::after_free();
        }
        Ok(())
    }

    fn into_js((): ()) {}
}
