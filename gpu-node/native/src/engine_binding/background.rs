//! Work for the threads of libuv.

use super::errors::{Failure, guarded};
use crate::scheduling::be_patient;
use napi::bindgen_prelude::{Env, Result, Task, ToNapiValue, TypeName};

/// Work for a thread of libuv.
pub trait Job: Send {
    /// The result of the work.
    type Output: Send + 'static;
    /// The result as JavaScript sees it.
    type JsValue: ToNapiValue + TypeName;

    /// Whether it runs for long and no step waits for it: its threads are patient then.
    const IS_PATIENT: bool = false;

    /// Does the work; called once.
    fn run(&mut self) -> std::result::Result<Self::Output, Failure>;

    /// The value that the promise resolves to, made on the thread of JavaScript.
    fn into_js(output: Self::Output) -> Self::JsValue;
}

/// A [`Job`] as a task of N-API. A failure, or a panic, rejects the promise with the code and the detail of the failure.
pub struct Background<J>(pub J);

impl<J: Job> Task for Background<J> {
    type Output = std::result::Result<J::Output, Failure>;
    type JsValue = J::JsValue;

    fn compute(&mut self) -> Result<Self::Output> {
        let _patience = J::IS_PATIENT.then(be_patient);
        Ok(guarded(|| self.0.run()))
    }

    fn resolve(&mut self, env: Env, output: Self::Output) -> Result<J::JsValue> {
        output.map(J::into_js).map_err(|failure| failure.into_rejection(env))
    }
}
