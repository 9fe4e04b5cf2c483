//! Weight sets: loaded and freed on threads of libuv.

use super::form_sample::form_named;
use copal_native::engine::{SetForm, WeightLibrary, WeightPlaces, WeightSet};
use copal_native::engine_binding::background::Job;
use copal_native::engine_binding::errors::{Code, Failure, Result, error, load_error};
use copal_native::engine_binding::fields::read;
use copal_native::engine_binding::places::read_places;
use copal_native::storage::Form;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Weights that an engine runs.
#[napi(js_name = "EngineWeights")]
pub struct JsWeights {
    pub(super) weights: Option<Arc<WeightSet>>,
    bytes: usize,
    memory_bytes: usize,
}

#[napi]
impl JsWeights {
    /// Bytes that the multiplications of one token read.
    #[napi(getter)]
    pub fn bytes(&self) -> f64 {
        self.bytes as f64
    }

    /// Bytes in memory, with what other sets share.
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

/// The places of a model of `layers` blocks, the form of its pruned linears, and the number of threads that pack it.
pub(super) fn read_source(layers: usize, source: &Unknown<'_>) -> Result<(WeightPlaces, SetForm, usize)> {
    let [form, dense_from] = read(source, [c"form", c"denseFrom"])?;
    let form = match form.optional()?.map(|form| form.text()).transpose()?.as_deref() {
        None => SetForm::One(Form::Packed),
        Some("both") => SetForm::Both { dense_from: dense_from.whole()? },
        Some(name) => SetForm::One(form_named(name)?),
    };
    let (places, threads) = read_places(layers, source)?;
    Ok((places, form, threads))
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
    pub(super) form: SetForm,
    pub(super) threads: usize,
}

impl Job for LoadJob {
    type Output = WeightSet;
    type JsValue = JsWeights;

    const IS_PATIENT: bool = true;

    fn run(&mut self) -> std::result::Result<WeightSet, Failure> {
        Ok(self.library.load(&self.places, self.form, self.threads).map_err(load_error)?)
    }

    fn into_js(weights: WeightSet) -> JsWeights {
        let (bytes, memory_bytes) = (weights.stream_bytes(), weights.memory_bytes());
        JsWeights { bytes, memory_bytes, weights: Some(Arc::new(weights)) }
    }
}

/// Gives freed memory back to the system. glibc would keep it, in addition to the memory of the weight set that is loaded
/// next.
pub(super) fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: glibc allows calling it at any time.
        unsafe { malloc_trim(0) };
    }
}
