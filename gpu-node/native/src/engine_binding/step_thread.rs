//! The thread that runs the steps of an engine.

use super::errors::{Error, Failure, Result, guarded, invalid, of_napi};
use super::step::Step;
use super::step_engine::StepEngine;
use crate::engine::{Pace, StepUnderWay};
use crate::scheduling::be_urgent;
use napi::JsDeferred;
use napi::bindgen_prelude::{Env, Float32Array, Object, ToNapiValue};
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Makes the promise's value, on the thread of JavaScript.
type Resolve<T> = Box<dyn FnOnce(Env) -> napi::Result<T>>;
/// A promise of a value.
type Deferred<T> = JsDeferred<T, Resolve<T>>;

/// A request to the thread of an engine.
enum Request<E: StepEngine> {
    Step(Step<E::Weights>, Deferred<Float32Array>, StepUnderWay),
    /// Downloads rows of logits of the last step.
    Download(Vec<usize>, Deferred<()>),
    /// Forgets all sequences of a weight set, and then signals.
    Forget(Arc<E::Weights>, Sender<()>),
}

/// Runs the steps of an engine on a thread of its own, in the order in which they were requested. So a step never waits
/// behind grammar masks, loads, or other work for the few threads of libuv.
pub(super) struct StepThread<E: StepEngine> {
    /// `Some` until the value is dropped.
    requests: Option<Sender<Request<E>>>,
    thread: Option<JoinHandle<()>>,
    pace: Arc<Pace>,
}

impl<E: StepEngine> StepThread<E> {
    /// Starts the thread. Its steps are under way by `pace`.
    pub(super) fn new(engine: Arc<Mutex<E>>, pace: Arc<Pace>) -> io::Result<StepThread<E>> {
        let (requests, next) = mpsc::channel();
        let work = move || {
            be_urgent();
            next.into_iter().for_each(|request| serve(&engine, request));
        };
        let thread = thread::Builder::new().name(E::THREAD.to_owned()).spawn(work)?;
        Ok(StepThread { requests: Some(requests), thread: Some(thread), pace })
    }

    /// Requests a step and returns a promise of its results.
    pub(super) fn run<'env>(&self, env: &'env Env, step: Step<E::Weights>) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred().map_err(of_napi)?;
        self.send(Request::Step(step, deferred, self.pace.step()));
        Ok(promise)
    }

    /// Requests the download of rows of logits, after the steps that were requested before, and returns a promise of its end.
    pub(super) fn download<'env>(&self, env: &'env Env, rows: Vec<usize>) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred().map_err(of_napi)?;
        self.send(Request::Download(rows, deferred));
        Ok(promise)
    }

    /// Requests that all sequences of a weight set are forgotten, after the steps that were requested before.
    ///
    /// The channel that is returned receives a signal when that is done and no step uses the weights any more.
    pub(super) fn forget(&self, weights: Arc<E::Weights>) -> Receiver<()> {
        let (done, signal) = mpsc::channel();
        self.send(Request::Forget(weights, done));
        signal
    }

    fn send(&self, request: Request<E>) {
        let requests = self.requests.as_ref().expect("the sender exists until the value is dropped");
        requests
            .send(request)
            .unwrap_or_else(|_| unreachable!("the thread runs until the sender is dropped"));
    }
}

fn serve<E: StepEngine>(engine: &Mutex<E>, request: Request<E>) {
    match request {
        Request::Step(step, promise, under_way) => {
            let results = guarded(|| step.run(engine));
            settle(promise, results.map(Float32Array::new));
            drop(under_way);
        }
        Request::Download(rows, promise) => {
            let download = || {
                let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
                engine.download_logits(&rows)?.map_or(Ok(()), |row| Err(no_logits(row)))
            };
            settle(promise, guarded(download));
        }
        Request::Forget(weights, done) => {
            engine.lock().unwrap_or_else(PoisonError::into_inner).drop_sequences_of(&weights);
            drop(weights);
            // The receiver is gone if the environment is ending.
            let _ = done.send(());
        }
    }
}

fn settle<T: Send + ToNapiValue + 'static>(promise: Deferred<T>, result: Result<T>) {
    promise.resolve(Box::new(|env| result.map_err(|error| Failure::from(error).into_rejection(env))));
}

/// The error for a row of logits that a step does not have.
pub(super) fn no_logits(row: usize) -> Error {
    invalid(format!("the last step has no logits {row}, or they were not downloaded"))
}

impl<E: StepEngine> Drop for StepThread<E> {
    fn drop(&mut self) {
        // The thread ends after the requests that it has already received.
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of a step was already reported to its promise.
            let _ = thread.join();
        }
    }
}
