//! Errors as JavaScript sees them: objects of the class `Error` with a `code` that callers can rely on.

use crate::fault::DeviceFault;
use napi::Status;
use napi::bindgen_prelude::{Env, JsError, Unknown};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The codes of the addon's errors. `addon.d.ts` says what each means: both lists must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidArg,
    InvalidState,
    InvalidStep,
    InvalidPageCount,
    InvalidMask,
    InvalidWeights,
    UnreadableFile,
    OutOfMemory,
    ThreadsUnavailable,
    DeviceUnavailable,
    DeviceLost,
    Panicked,
    /// An error of N-API itself, as when a getter throws.
    Napi(Status),
}

/// An error of a call.
pub type Error = napi::Error<Code>;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of work off the event loop.
#[derive(Debug)]
pub struct Failure(Error);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        match self {
            Code::InvalidArg => "InvalidArg",
            Code::InvalidState => "InvalidState",
            Code::InvalidStep => "InvalidStep",
            Code::InvalidPageCount => "InvalidPageCount",
            Code::InvalidMask => "InvalidMask",
            Code::InvalidWeights => "InvalidWeights",
            Code::UnreadableFile => "UnreadableFile",
            Code::OutOfMemory => "OutOfMemory",
            Code::ThreadsUnavailable => "ThreadsUnavailable",
            Code::DeviceUnavailable => "DeviceUnavailable",
            Code::DeviceLost => "DeviceLost",
            Code::Panicked => "Panicked",
            Code::Napi(status) => status.as_ref(),
        }
    }
}

impl Failure {
    /// The value that a promise is rejected with. Called on the thread of JavaScript.
    pub(super) fn into_rejection(self, env: Env) -> napi::Error {
        // SAFETY: `env` is that of the running callback.
        let value = unsafe { JsError::from(self.0).into_value(env.raw()) };
        if value.is_null() {
            // The environment is ending and takes no more values.
            return napi::Error::new(Status::GenericFailure, "the environment is ending");
        }
        // SAFETY: `value` was made above in the same environment.
        napi::Error::from(unsafe { Unknown::from_raw_unchecked(env.raw(), value) })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

/// An error with a code of the addon.
pub(super) fn error(code: Code, reason: impl Display) -> Error {
    Error::new(code, reason.to_string())
}

/// The error for an argument that does not fit.
pub(super) fn invalid(reason: impl Display) -> Error {
    error(Code::InvalidArg, reason)
}

/// The error for a fault of the device.
pub(super) fn of_device(fault: DeviceFault) -> Error {
    let code = match fault {
        DeviceFault::Unavailable(_) => Code::DeviceUnavailable,
        DeviceFault::OutOfMemory(_) => Code::OutOfMemory,
        DeviceFault::Lost(_) => Code::DeviceLost,
    };
    error(code, fault)
}

/// An error of N-API under its own code.
pub(super) fn of_napi(error: napi::Error) -> Error {
    Error::new(Code::Napi(error.status), error.reason.clone())
}

/// Runs `work`; a panic in it becomes an error.
pub(super) fn guarded<T, E: From<Error>>(
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "no message".to_owned());
        Err(error(Code::Panicked, format!("the addon panicked: {text}")).into())
    })
}
