//! State that calls change on threads of libuv, one at a time.

use copal_native::engine_binding::errors::{Code, Result, error};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// The state, unless another call has it: a thread of libuv never waits for one.
pub(super) fn idle<T>(state: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    match state.try_lock() {
        Ok(state) => Ok(state),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => {
            Err(error(Code::InvalidState, "another call is running; await it first"))
        }
    }
}
