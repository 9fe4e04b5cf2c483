//! Weight sets, loaded on threads of libuv.

use super::errors::load_error;
use crate::engine::{WeightLibrary, WeightPlaces, WeightSet};
use copal_native::engine_binding::background::Job;
use copal_native::engine_binding::errors::{Code, Failure, Result, error};
use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Weights that an engine runs.
#[napi(js_name = "EngineWeights")]
pub struct JsWeights {
    pub(super) weights: Option<Arc<WeightSet>>,
    bytes: u64,
    memory_bytes: u64,
}

#[napi]
impl JsWeights {
    /// Bytes that the multiplications of one token read.
    #[napi(getter)]
    pub fn bytes(&self) -> f64 {
        self.bytes as f64
    }

    /// Bytes of the device's memory, with those that they share with other sets.
    #[napi(getter)]
    pub fn memory_bytes(&self) -> f64 {
        self.memory_bytes as f64
    }
}

impl JsWeights {
    /// The weights, unless they were released.
    pub(super) fn loaded(&self) -> Result<Arc<WeightSet>> {
        self.weights.clone().ok_or_else(|| error(Code::InvalidState, "these weights were released"))
    }
}

/// Cancels a load.
#[napi(js_name = "LoadCancellation")]
pub struct JsLoadCancellation {
    cancelled: Arc<AtomicBool>,
}

#[napi]
impl JsLoadCancellation {
    /// Ends the load before its next linear.
    #[napi]
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl JsLoadCancellation {
    pub(super) fn new() -> JsLoadCancellation {
        JsLoadCancellation { cancelled: Arc::default() }
    }

    /// Makes it the cancellation of a load of these places.
    pub(super) fn bind(&self, places: &mut WeightPlaces) {
        places.cancelled = Arc::clone(&self.cancelled);
    }
}

/// Loads a weight set.
pub struct LoadJob {
    pub(super) library: Arc<WeightLibrary>,
    pub(super) places: WeightPlaces,
    pub(super) threads: usize,
}

impl Job for LoadJob {
    type Output = WeightSet;
    type JsValue = JsWeights;

    const IS_PATIENT: bool = true;

    fn run(&mut self) -> std::result::Result<WeightSet, Failure> {
        Ok(self.library.load(&self.places, self.threads).map_err(load_error)?)
    }

    fn into_js(weights: WeightSet) -> JsWeights {
        JsWeights {
            bytes: weights.stream_bytes(),
            memory_bytes: weights.memory_bytes(),
            weights: Some(Arc::new(weights)),
        }
    }
}
