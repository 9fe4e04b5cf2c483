//! Sums of second moments, in pieces on threads of libuv.

use super::devices::JsDevice;
use super::errors::{device_error, exchange_error};
use super::idle::idle;
use crate::device::Gpu;
use crate::moments::{MAX_COLS, MomentSums};
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Code, Failure, Result, error, guarded};
use copal_native::engine_binding::fields::{count, read};
use napi::bindgen_prelude::{AsyncTask, Float32Array, Float32ArraySlice, Uint32ArraySlice, Unknown};
use napi_derive::napi;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Sums of second moments on one device.
#[napi(js_name = "MomentSums")]
pub struct JsMomentSums {
    /// `None` once it was closed.
    sums: Option<Arc<Mutex<MomentSums>>>,
    gpu: Arc<Gpu>,
}

#[napi]
impl JsMomentSums {
    /// Opens a device.
    #[napi(constructor)]
    pub fn new(options: Unknown<'_>) -> Result<JsMomentSums> {
        guarded(|| {
            let [device] = read(&options, [c"device"])?;
            let device = device.optional()?.map(|name| name.text()).transpose()?;
            let sums = MomentSums::open(device.as_deref()).map_err(device_error)?;
            let gpu = Arc::clone(sums.gpu());
            Ok(JsMomentSums { sums: Some(Arc::new(Mutex::new(sums))), gpu })
        })
    }

    /// The device.
    #[napi(getter)]
    pub fn device(&self) -> JsDevice {
        JsDevice::from(self.gpu.description())
    }

    /// Sets the sums to zero.
    #[napi]
    pub fn begin(&self, cols: Uint32ArraySlice<'_>) -> Result<AsyncTask<Background<BeginJob>>> {
        guarded(|| {
            let cols = cols.iter().map(|&cols| cols as usize).collect();
            Ok(AsyncTask::new(Background(BeginJob { sums: self.sums()?, cols })))
        })
    }

    /// Uploads inputs; resolves to the number of pieces.
    #[napi]
    pub fn upload(
        &self,
        sum: f64,
        inputs: Float32ArraySlice<'_>,
    ) -> Result<AsyncTask<Background<UploadJob>>> {
        guarded(|| {
            let (sum, inputs) = (place("sum", sum)?, inputs.to_vec());
            Ok(AsyncTask::new(Background(UploadJob { sums: self.sums()?, sum, inputs })))
        })
    }

    /// Adds a piece.
    #[napi]
    pub fn add(&self, piece: f64) -> Result<AsyncTask<Background<AddJob>>> {
        guarded(|| {
            let piece = place("piece", piece)?;
            Ok(AsyncTask::new(Background(AddJob { sums: self.sums()?, piece })))
        })
    }

    /// Downloads rows of a sum.
    #[napi]
    pub fn read(&self, sum: f64, first: f64, end: f64) -> Result<AsyncTask<Background<ReadJob>>> {
        guarded(|| {
            let (sum, rows) = (place("sum", sum)?, place("first", first)?..place("end", end)?);
            Ok(AsyncTask::new(Background(ReadJob { sums: self.sums()?, sum, rows })))
        })
    }

    /// For tests: loses the device.
    #[napi]
    pub fn provoke_device_loss(&self) {
        self.gpu.lose();
    }

    /// Frees the sums, and the device once nothing runs on it.
    #[napi]
    pub fn close(&mut self) {
        self.sums = None;
    }

    fn sums(&self) -> Result<Arc<Mutex<MomentSums>>> {
        self.sums.clone().ok_or_else(|| error(Code::InvalidState, "these sums were closed"))
    }
}

/// A whole number from 0.
fn place(name: &str, value: f64) -> Result<usize> {
    Ok(count(name, value + 1.0, MAX_COLS + 1)? - 1)
}

/// Sets the sums to zero.
pub struct BeginJob {
    sums: Arc<Mutex<MomentSums>>,
    cols: Vec<usize>,
}

impl Job for BeginJob {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        Ok(idle(&self.sums)?.begin(&self.cols).map_err(exchange_error)?)
    }

    fn into_js((): ()) {}
}

/// Uploads inputs.
pub struct UploadJob {
    sums: Arc<Mutex<MomentSums>>,
    sum: usize,
    inputs: Vec<f32>,
}

impl Job for UploadJob {
    type Output = usize;
    type JsValue = f64;

    fn run(&mut self) -> std::result::Result<usize, Failure> {
        Ok(idle(&self.sums)?.upload(self.sum, &self.inputs).map_err(exchange_error)?)
    }

    fn into_js(pieces: usize) -> f64 {
        pieces as f64
    }
}

/// Adds a piece.
pub struct AddJob {
    sums: Arc<Mutex<MomentSums>>,
    piece: usize,
}

impl Job for AddJob {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        Ok(idle(&self.sums)?.add(self.piece).map_err(exchange_error)?)
    }

    fn into_js((): ()) {}
}

/// Downloads rows of a sum.
pub struct ReadJob {
    sums: Arc<Mutex<MomentSums>>,
    sum: usize,
    rows: Range<usize>,
}

impl Job for ReadJob {
    type Output = Vec<f32>;
    type JsValue = Float32Array;

    fn run(&mut self) -> std::result::Result<Vec<f32>, Failure> {
        Ok(idle(&self.sums)?.read(self.sum, self.rows.clone()).map_err(exchange_error)?)
    }

    fn into_js(values: Vec<f32>) -> Float32Array {
        Float32Array::new(values)
    }
}
