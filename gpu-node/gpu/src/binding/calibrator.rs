//! The calibration of blocks, in pieces on threads of libuv.

use super::devices::JsDevice;
use super::errors::exchange_error;
use super::idle::idle;
use crate::calibration::{CalibrationMemory, CalibrationOptions, Calibrator, Fault};
use crate::device::{DeviceDescription, Gpu};
use crate::engine::ModelConfig;
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Code, Failure, Result, error, guarded};
use copal_native::engine_binding::fields::{index, read};
use copal_native::engine_binding::options::read_config;
use napi::bindgen_prelude::{AsyncTask, Float32Array, Float32ArraySlice, Uint32ArraySlice, Unknown};
use napi_derive::napi;
use std::sync::{Arc, Mutex};

/// Rows, tokens and pieces that an argument counts at most.
const MAX_COUNT: usize = 1 << 24;

/// The calibration of decoder blocks on one device.
#[napi(js_name = "Calibrator")]
pub struct JsCalibrator {
    /// `None` once it was closed.
    state: Option<Arc<Mutex<Calibrator>>>,
    /// `None` once it was closed.
    gpu: Option<Arc<Gpu>>,
    device: DeviceDescription,
    memory: CalibrationMemory,
}

/// The memory of the device that a calibrator holds.
#[napi(object, object_from_js = false)]
pub struct JsCalibrationMemory {
    /// Weights of a block.
    pub weight_bytes: f64,
    /// Sums of its statistics.
    pub sum_bytes: f64,
    /// Activations of a chunk.
    pub activation_bytes: f64,
}

/// Opens a calibrator.
pub struct OpenCalibratorJob {
    device: Option<String>,
    config: ModelConfig,
    options: CalibrationOptions,
}

impl Job for OpenCalibratorJob {
    type Output = JsCalibrator;
    type JsValue = JsCalibrator;

    fn run(&mut self) -> std::result::Result<JsCalibrator, Failure> {
        let OpenCalibratorJob { device, config, options } = self;
        let opened = Calibrator::open(device.as_deref(), config.clone(), *options);
        let calibrator = opened.map_err(exchange_error)?;
        let (gpu, memory) = (Arc::clone(calibrator.gpu()), calibrator.memory());
        let (device, state) = (gpu.description().clone(), Some(Arc::new(Mutex::new(calibrator))));
        Ok(JsCalibrator { state, gpu: Some(gpu), device, memory })
    }

    fn into_js(calibrator: JsCalibrator) -> JsCalibrator {
        calibrator
    }
}

/// Opens a device on a thread of libuv, and allocates everything.
#[napi]
pub fn open_calibrator(options: Unknown<'_>) -> Result<AsyncTask<Background<OpenCalibratorJob>>> {
    guarded(|| {
        let [device, model, tokens, length, statistics] =
            read(&options, [c"device", c"model", c"tokens", c"length", c"statistics"])?;
        let config = read_config(model)?;
        let device = device.optional()?.map(|name| name.text()).transpose()?;
        let options = CalibrationOptions {
            tokens: tokens.count(MAX_COUNT)?,
            length: length.count(MAX_COUNT)?,
            sensitivities: match &*statistics.text()? {
                "all" => true,
                "moments" => false,
                _ => return Err(statistics.wrong("'all' or 'moments'")),
            },
        };
        Ok(AsyncTask::new(Background(OpenCalibratorJob { device, config, options })))
    })
}

#[napi]
impl JsCalibrator {
    /// The device.
    #[napi(getter)]
    pub fn device(&self) -> JsDevice {
        JsDevice::from(&self.device)
    }

    /// The memory of the device that it holds.
    #[napi]
    pub fn memory(&self) -> JsCalibrationMemory {
        let CalibrationMemory { weights, sums, activations } = self.memory;
        JsCalibrationMemory {
            weight_bytes: weights as f64,
            sum_bytes: sums as f64,
            activation_bytes: activations as f64,
        }
    }

    /// Writes rows of the weights of a linear.
    #[napi]
    pub fn write_linear(
        &self,
        linear: f64,
        first: f64,
        values: Float32ArraySlice<'_>,
    ) -> Result<AsyncTask<Background<CalibratorJob>>> {
        guarded(|| {
            let (linear, first, values) = (place("linear", linear)?, place("first", first)?, values.to_vec());
            self.work(move |calibrator| calibrator.write_linear(linear, first, &values).map(|()| 0))
        })
    }

    /// Writes the factors of a norm.
    #[napi]
    pub fn write_norm(
        &self,
        norm: f64,
        values: Float32ArraySlice<'_>,
    ) -> Result<AsyncTask<Background<CalibratorJob>>> {
        guarded(|| {
            let (norm, values) = (place("norm", norm)?, values.to_vec());
            self.work(move |calibrator| calibrator.write_norm(norm, &values).map(|()| 0))
        })
    }

    /// Sets the sums to zero.
    #[napi]
    pub fn clear(&self) -> Result<AsyncTask<Background<CalibratorJob>>> {
        guarded(|| self.work(|calibrator| calibrator.clear().map(|()| 0)))
    }

    /// Begins a chunk; resolves to the number of pieces.
    #[napi]
    pub fn begin(
        &self,
        hidden: Float32ArraySlice<'_>,
        lengths: Uint32ArraySlice<'_>,
    ) -> Result<AsyncTask<Background<CalibratorJob>>> {
        guarded(|| {
            let hidden = hidden.to_vec();
            let lengths: Vec<_> = lengths.iter().map(|&length| length as usize).collect();
            self.work(move |calibrator| calibrator.begin(&hidden, &lengths))
        })
    }

    /// Runs a piece of the chunk.
    #[napi]
    pub fn run(&self, piece: f64) -> Result<AsyncTask<Background<CalibratorJob>>> {
        guarded(|| {
            let piece = place("piece", piece)?;
            self.work(move |calibrator| calibrator.run(piece).map(|()| 0))
        })
    }

    /// Downloads rows of the residual stream.
    #[napi]
    pub fn read_stream(&self, first: f64, end: f64) -> Result<AsyncTask<Background<ReadJob>>> {
        guarded(|| {
            let rows = place("first", first)?..place("end", end)?;
            self.read(move |calibrator| calibrator.read_stream(rows))
        })
    }

    /// Downloads rows of a second moment.
    #[napi]
    pub fn read_moment(&self, input: f64, first: f64, end: f64) -> Result<AsyncTask<Background<ReadJob>>> {
        guarded(|| {
            let (input, rows) = (place("input", input)?, place("first", first)?..place("end", end)?);
            self.read(move |calibrator| calibrator.read_moment(input, rows))
        })
    }

    /// Downloads rows of a sensitivity.
    #[napi]
    pub fn read_sensitivity(
        &self,
        linear: f64,
        first: f64,
        end: f64,
    ) -> Result<AsyncTask<Background<ReadJob>>> {
        guarded(|| {
            let (linear, rows) = (place("linear", linear)?, place("first", first)?..place("end", end)?);
            self.read(move |calibrator| calibrator.read_sensitivity(linear, rows))
        })
    }

    /// For tests: loses the device.
    #[napi]
    pub fn provoke_device_loss(&self) {
        self.gpu.iter().for_each(|gpu| gpu.lose());
    }

    /// Frees the memory and the device: at once, or when the call ends that is running.
    #[napi]
    pub fn close(&mut self) {
        self.state = None;
        self.gpu = None;
    }

    fn work(
        &self,
        work: impl FnOnce(&mut Calibrator) -> std::result::Result<usize, Fault> + Send + 'static,
    ) -> Result<AsyncTask<Background<CalibratorJob>>> {
        Ok(AsyncTask::new(Background(CalibratorJob { state: self.state()?, work: Some(Box::new(work)) })))
    }

    fn read(
        &self,
        work: impl FnOnce(&mut Calibrator) -> std::result::Result<Vec<f32>, Fault> + Send + 'static,
    ) -> Result<AsyncTask<Background<ReadJob>>> {
        Ok(AsyncTask::new(Background(ReadJob { state: self.state()?, work: Some(Box::new(work)) })))
    }

    fn state(&self) -> Result<Arc<Mutex<Calibrator>>> {
        self.state.clone().ok_or_else(|| error(Code::InvalidState, "this calibrator was closed"))
    }
}

/// A whole number from 0.
fn place(name: &str, value: f64) -> Result<usize> {
    index(name, value, MAX_COUNT)
}

type Work<T> = Box<dyn FnOnce(&mut Calibrator) -> std::result::Result<T, Fault> + Send>;

/// A call that counts something, or nothing.
pub struct CalibratorJob {
    state: Arc<Mutex<Calibrator>>,
    work: Option<Work<usize>>,
}

impl Job for CalibratorJob {
    type Output = usize;
    type JsValue = f64;

    fn run(&mut self) -> std::result::Result<usize, Failure> {
        call(&self.state, &mut self.work)
    }

    fn into_js(count: usize) -> f64 {
        count as f64
    }
}

/// A download.
pub struct ReadJob {
    state: Arc<Mutex<Calibrator>>,
    work: Option<Work<Vec<f32>>>,
}

impl Job for ReadJob {
    type Output = Vec<f32>;
    type JsValue = Float32Array;

    fn run(&mut self) -> std::result::Result<Vec<f32>, Failure> {
        call(&self.state, &mut self.work)
    }

    fn into_js(values: Vec<f32>) -> Float32Array {
        Float32Array::new(values)
    }
}

fn call<T>(state: &Mutex<Calibrator>, work: &mut Option<Work<T>>) -> std::result::Result<T, Failure> {
    let work = work.take().expect("a job runs once");
    Ok(work(&mut *idle(state)?).map_err(exchange_error)?)
}
