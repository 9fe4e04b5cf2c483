//! Errors as JavaScript sees them: objects of the class `Error` with a `code` that callers can rely on.

use crate::engine::{LoadError, StepError};
use crate::kernels::MultiplyError;
use crate::pool::Panicked;
use napi::bindgen_prelude::{Env, JsError, ToNapiValue, Unknown};
use napi::{Status, sys};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The codes of the errors of both addons. Each `addon.d.ts` says what the codes of its addon mean, and must list them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Code {
    InvalidArg,
    InvalidState,
    InvalidStep,
    InvalidPageCount,
    InvalidLogits,
    InvalidMask,
    InvalidWeights,
    UnreadableFile,
    OutOfMemory,
    ThreadsUnavailable,
    DeviceUnavailable,
    DeviceLost,
    Panicked,
    MatcherFailed,
    GrammarUnsupportedKeywords,
    GrammarUnsupportedFormat,
    GrammarUnsupportedOneOf,
    GrammarExternalRef,
    GrammarMissingRef,
    GrammarUnsatisfiable,
    GrammarInvalid,
    /// An error of N-API itself, as when a getter throws.
    Napi(Status),
}

/// An error of a call.
pub type Error = napi::Error<Code>;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of work off the event loop; `detail` becomes a property of the error.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    detail: Option<String>,
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        match self {
            Code::InvalidArg => "InvalidArg",
            Code::InvalidState => "InvalidState",
            Code::InvalidStep => "InvalidStep",
            Code::InvalidPageCount => "InvalidPageCount",
            Code::InvalidLogits => "InvalidLogits",
            Code::InvalidMask => "InvalidMask",
            Code::InvalidWeights => "InvalidWeights",
            Code::UnreadableFile => "UnreadableFile",
            Code::OutOfMemory => "OutOfMemory",
            Code::ThreadsUnavailable => "ThreadsUnavailable",
            Code::DeviceUnavailable => "DeviceUnavailable",
            Code::DeviceLost => "DeviceLost",
            Code::Panicked => "Panicked",
            Code::MatcherFailed => "MatcherFailed",
            Code::GrammarUnsupportedKeywords => "GrammarUnsupportedKeywords",
            Code::GrammarUnsupportedFormat => "GrammarUnsupportedFormat",
            Code::GrammarUnsupportedOneOf => "GrammarUnsupportedOneOf",
            Code::GrammarExternalRef => "GrammarExternalRef",
            Code::GrammarMissingRef => "GrammarMissingRef",
            Code::GrammarUnsatisfiable => "GrammarUnsatisfiable",
            Code::GrammarInvalid => "GrammarInvalid",
            Code::Napi(status) => status.as_ref(),
        }
    }
}

impl Failure {
    /// An error with a detail.
    pub fn new(code: Code, message: String, detail: Option<String>) -> Failure {
        Failure { error: Error::new(code, message), detail }
    }

    /// The value that a promise is rejected with. Called on the thread of JavaScript.
    pub fn into_rejection(self, env: Env) -> napi::Error {
        match self.into_js_error(env) {
            Ok(error) => napi::Error::from(error),
            Err(error) => error,
        }
    }

    fn into_js_error<'env>(self, env: Env) -> napi::Result<Unknown<'env>> {
        let Failure { error, detail } = self;
        // SAFETY: `env` is that of the running callback.
        let value = unsafe { JsError::from(error).into_value(env.raw()) };
        if value.is_null() {
            // The environment is ending and takes no more values.
            return Err(napi::Error::new(Status::GenericFailure, "the environment is ending"));
        }
        if let Some(detail) = detail {
            // SAFETY: `value` was made above in the same environment.
            let status = unsafe {
                let detail = String::to_napi_value(env.raw(), detail)?;
                sys::napi_set_named_property(env.raw(), value, c"detail".as_ptr(), detail)
            };
            if status != sys::Status::napi_ok {
                return Err(napi::Error::new(Status::from(status), "an error takes no property"));
            }
        }
        // SAFETY: as above.
        Ok(unsafe { Unknown::from_raw_unchecked(env.raw(), value) })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, detail: None }
    }
}

/// An error with a code of the addon.
pub fn error(code: Code, reason: impl Display) -> Error {
    Error::new(code, reason.to_string())
}

/// The error for an argument that does not fit.
pub fn invalid(reason: impl Display) -> Error {
    error(Code::InvalidArg, reason)
}

/// The error for a panic on a thread of a pool.
pub fn panicked(panic: Panicked) -> Error {
    error(Code::Panicked, panic)
}

/// The error of a step.
pub fn step_error(reason: StepError) -> Error {
    let code = match reason {
        StepError::Misfit(_) => Code::InvalidStep,
        StepError::OutOfMemory(_) => Code::OutOfMemory,
        StepError::Multiply(MultiplyError::Shape(_)) => Code::InvalidArg,
        StepError::Multiply(MultiplyError::Panicked(_)) => Code::Panicked,
    };
    error(code, reason)
}

/// The error of a load.
pub fn load_error(reason: LoadError) -> Error {
    let code = match reason {
        LoadError::File(..) | LoadError::Short(..) => Code::UnreadableFile,
        LoadError::Mask(_) => Code::InvalidMask,
        LoadError::Pack(..) => Code::InvalidWeights,
        LoadError::Places(_) => Code::InvalidArg,
        LoadError::Cancelled => Code::InvalidState,
    };
    error(code, reason)
}

/// An error of N-API under its own code.
pub fn of_napi(error: napi::Error) -> Error {
    Error::new(Code::Napi(error.status), error.reason.clone())
}

/// Runs `work`; a panic in it becomes an error.
pub fn guarded<T, E: From<Error>>(
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no message".to_owned());
        Err(error(Code::Panicked, format!("the addon panicked: {text}")).into())
    })
}
