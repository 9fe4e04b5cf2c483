//! What the bindings of both addons share. It has no classes and functions for Node, because each addon would register
//! those of both.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `errors` | errors with codes; a panic becomes an error |
//! | `fields` | reads the properties of arguments |
//! | `background` | work for the threads of libuv |
//! | `options`, `places` | the options of an engine, and the places of its weights |
//! | `step_engine` | what an engine does for the thread of its steps |
//! | `step`, `step_thread` | reads a step, and runs it on the thread of its engine |
//! | `running_engine` | an open engine: steps, logits, usage, and its end |
//!
//! An argument that is an object is read by [`fields`]: every property once, before anything is checked. A getter may
//! run JavaScript, which could detach an array buffer, so typed arrays are borrowed only after the last property was
//! read. Arrays that are used after a call has returned are copied during the call.

#![allow(unsafe_code)]

pub mod background;
pub mod errors;
pub mod fields;
pub mod options;
pub mod places;
pub mod running_engine;
pub mod step;
pub mod step_engine;
mod step_thread;

/// The largest number of threads that share a step or load; `serving/contract/backend.ts` has the same limit.
pub const MAX_THREADS: usize = 256;
const MAX_PAGES: usize = 1 << 24;
