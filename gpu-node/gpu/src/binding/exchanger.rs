//! The refinement of masks, in pieces on threads of libuv.

use super::devices::JsDevice;
use super::errors::{device_error, exchange_error};
use super::idle::idle;
use crate::device::{DeviceDescription, Gpu};
use crate::exchange::{Exchanger, Fault, Linear, MAX_COLS, RefinedRows};
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Code, Failure, Result, error, guarded};
use copal_native::engine_binding::fields::read;
use napi::bindgen_prelude::{
    AsyncTask, Float32ArraySlice, Float64Array, Float64ArraySlice, Uint8Array, Uint8ArraySlice, Unknown,
};
use napi_derive::napi;
use std::sync::{Arc, Mutex};

/// The refinement of masks on one device, one linear at a time.
#[napi(js_name = "Exchanger")]
pub struct JsExchanger {
    /// `None` once it was closed.
    state: Option<Arc<Mutex<State>>>,
    /// `None` once it was closed.
    gpu: Option<Arc<Gpu>>,
    device: DeviceDescription,
}

/// What pieces of work change; each has it alone.
pub struct State {
    exchanger: Exchanger,
    linear: Option<Linear>,
}

/// The result for a piece of rows.
#[napi(object, object_from_js = false)]
pub struct JsRefinedRows {
    /// Mask bits.
    pub bits: Uint8Array,
    /// The error of each row.
    pub errors: Float64Array,
}

/// Opens an exchanger.
pub struct OpenExchangerJob {
    device: Option<String>,
}

impl Job for OpenExchangerJob {
    type Output = JsExchanger;
    type JsValue = JsExchanger;

    fn run(&mut self) -> std::result::Result<JsExchanger, Failure> {
        let exchanger = Exchanger::open(self.device.as_deref()).map_err(device_error)?;
        let gpu = Arc::clone(exchanger.gpu());
        let (device, state) = (gpu.description().clone(), State { exchanger, linear: None });
        Ok(JsExchanger { state: Some(Arc::new(Mutex::new(state))), gpu: Some(gpu), device })
    }

    fn into_js(exchanger: JsExchanger) -> JsExchanger {
        exchanger
    }
}

/// Opens a device on a thread of libuv.
#[napi]
pub fn open_exchanger(options: Unknown<'_>) -> Result<AsyncTask<Background<OpenExchangerJob>>> {
    guarded(|| {
        let [device] = read(&options, [c"device"])?;
        let device = device.optional()?.map(|name| name.text()).transpose()?;
        Ok(AsyncTask::new(Background(OpenExchangerJob { device })))
    })
}

#[napi]
impl JsExchanger {
    /// The device.
    #[napi(getter)]
    pub fn device(&self) -> JsDevice {
        JsDevice::from(&self.device)
    }

    /// Begins a linear; resolves to the number of rows of a piece.
    #[napi]
    pub fn begin(&self, options: Unknown<'_>) -> Result<AsyncTask<Background<BeginJob>>> {
        guarded(|| {
            let [diagonal, group] = read(&options, [c"diagonal", c"group"])?;
            let group = group.optional()?.map(|group| group.count(MAX_COLS)).transpose()?;
            let diagonal = diagonal.f64_array()?.to_vec();
            Ok(AsyncTask::new(Background(BeginJob { state: self.state()?, diagonal, group })))
        })
    }

    /// Adds rows of the second moment.
    #[napi]
    pub fn add_moment(&self, rows: Float64ArraySlice<'_>) -> Result<AsyncTask<Background<MomentJob>>> {
        guarded(|| {
            let rows = rows.to_vec();
            Ok(AsyncTask::new(Background(MomentJob { state: self.state()?, rows })))
        })
    }

    /// Adds a piece of rows; resolves to their errors.
    #[napi]
    pub fn add_rows(
        &self,
        weights: Float32ArraySlice<'_>,
        bits: Uint8ArraySlice<'_>,
    ) -> Result<AsyncTask<Background<RowsJob>>> {
        guarded(|| {
            let (weights, bits) = (weights.to_vec(), bits.to_vec());
            Ok(AsyncTask::new(Background(RowsJob { state: self.state()?, weights, bits })))
        })
    }

    /// Refines a piece.
    #[napi]
    pub fn refine(&self, piece: f64, floor: f64) -> Result<AsyncTask<Background<RefineJob>>> {
        guarded(|| {
            // A place that is no whole number from 0 has no piece.
            let piece = if piece.fract() == 0.0 && piece >= 0.0 { piece as usize } else { usize::MAX };
            Ok(AsyncTask::new(Background(RefineJob { state: self.state()?, piece, floor })))
        })
    }

    /// For tests: loses the device.
    #[napi]
    pub fn provoke_device_loss(&self) {
        self.gpu.iter().for_each(|gpu| gpu.lose());
    }

    /// Frees the linear and the device: at once, or when the call ends that is running.
    #[napi]
    pub fn close(&mut self) {
        self.state = None;
        self.gpu = None;
    }

    fn state(&self) -> Result<Arc<Mutex<State>>> {
        self.state.clone().ok_or_else(|| error(Code::InvalidState, "this exchanger was closed"))
    }
}

/// Begins a linear.
pub struct BeginJob {
    state: Arc<Mutex<State>>,
    diagonal: Vec<f64>,
    group: Option<usize>,
}

impl Job for BeginJob {
    type Output = usize;
    type JsValue = f64;

    fn run(&mut self) -> std::result::Result<usize, Failure> {
        let mut state = idle(&self.state)?;
        // Its memory is free for the next one.
        state.linear = None;
        let linear = state.exchanger.begin(&self.diagonal, self.group).map_err(exchange_error)?;
        let rows = linear.piece_rows();
        state.linear = Some(linear);
        Ok(rows)
    }

    fn into_js(rows: usize) -> f64 {
        rows as f64
    }
}

/// Adds rows of the second moment.
pub struct MomentJob {
    state: Arc<Mutex<State>>,
    rows: Vec<f64>,
}

impl Job for MomentJob {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        on_linear(&self.state, |linear| linear.add_moment(&self.rows))
    }

    fn into_js((): ()) {}
}

/// Adds a piece of rows.
pub struct RowsJob {
    state: Arc<Mutex<State>>,
    weights: Vec<f32>,
    bits: Vec<u8>,
}

impl Job for RowsJob {
    type Output = Vec<f64>;
    type JsValue = Float64Array;

    fn run(&mut self) -> std::result::Result<Vec<f64>, Failure> {
        on_linear(&self.state, |linear| linear.add_rows(&self.weights, &self.bits))
    }

    fn into_js(errors: Vec<f64>) -> Float64Array {
        Float64Array::new(errors)
    }
}

/// Refines a piece.
pub struct RefineJob {
    state: Arc<Mutex<State>>,
    piece: usize,
    floor: f64,
}

impl Job for RefineJob {
    type Output = RefinedRows;
    type JsValue = JsRefinedRows;

    fn run(&mut self) -> std::result::Result<RefinedRows, Failure> {
        on_linear(&self.state, |linear| linear.refine(self.piece, self.floor))
    }

    fn into_js(RefinedRows { bits, errors }: RefinedRows) -> JsRefinedRows {
        JsRefinedRows { bits: Uint8Array::new(bits), errors: Float64Array::new(errors) }
    }
}

fn on_linear<T>(
    state: &Mutex<State>,
    work: impl FnOnce(&mut Linear) -> std::result::Result<T, Fault>,
) -> std::result::Result<T, Failure> {
    let mut state = idle(state)?;
    let linear = state.linear.as_mut();
    let linear = linear.ok_or_else(|| error(Code::InvalidState, "no linear was begun"))?;
    Ok(work(linear).map_err(exchange_error)?)
}
