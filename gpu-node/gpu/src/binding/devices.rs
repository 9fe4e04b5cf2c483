//! The devices of the machine.

use super::errors::device_error;
use crate::device::{DeviceDescription, Gpu, PassedOver, devices};
use crate::engine::{Forms, ModelConfig, prepare};
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Failure, Result, guarded};
use copal_native::engine_binding::fields::read;
use copal_native::engine_binding::options::{read_config, read_precision};
use napi::bindgen_prelude::{AsyncTask, Unknown};
use napi_derive::napi;

/// A device, as its driver describes it.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsDevice {
    /// The name of the card.
    pub name: String,
    /// `cuda`, `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: String,
    /// Name and version of the driver.
    pub driver: String,
    /// The largest buffer that a kernel can use, bytes.
    pub max_binding_bytes: f64,
    /// Its own memory, bytes, where the interface tells.
    pub memory_bytes: Option<f64>,
}

impl From<&DeviceDescription> for JsDevice {
    fn from(device: &DeviceDescription) -> JsDevice {
        JsDevice {
            name: device.name.clone(),
            api: device.api.to_owned(),
            kind: device.kind.to_owned(),
            driver: device.driver.clone(),
            max_binding_bytes: device.max_binding_bytes as f64,
            memory_bytes: device.memory_bytes.map(|bytes| bytes as f64),
        }
    }
}

/// Lists the devices.
pub struct DevicesJob;

impl Job for DevicesJob {
    type Output = Vec<DeviceDescription>;
    type JsValue = Vec<JsDevice>;

    fn run(&mut self) -> std::result::Result<Vec<DeviceDescription>, Failure> {
        Ok(devices())
    }

    fn into_js(devices: Vec<DeviceDescription>) -> Vec<JsDevice> {
        devices.iter().map(JsDevice::from).collect()
    }
}

/// Lists the devices that an engine can use, best first, on a thread of libuv.
#[napi(js_name = "devices")]
pub fn list_devices() -> AsyncTask<Background<DevicesJob>> {
    AsyncTask::new(Background(DevicesJob))
}

/// The device for an engine, and those before it that cannot be used.
#[napi(object, object_from_js = false)]
pub struct JsSelection {
    /// The device.
    pub device: JsDevice,
    /// The others, best first.
    pub passed_over: Vec<JsPassedOver>,
}

/// A device that cannot be used.
#[napi(object, object_from_js = false)]
pub struct JsPassedOver {
    /// The device.
    pub device: JsDevice,
    /// Why it cannot be used.
    pub reason: String,
}

/// Selects the device for an engine.
pub struct SelectJob {
    device: Option<String>,
    config: ModelConfig,
    forms: Forms,
}

impl Job for SelectJob {
    type Output = (DeviceDescription, Vec<PassedOver>);
    type JsValue = JsSelection;

    fn run(&mut self) -> std::result::Result<Self::Output, Failure> {
        let suits = |gpu: &Gpu| prepare(&self.config, gpu, self.forms);
        let (gpu, passed_over) = Gpu::select(self.device.as_deref(), suits).map_err(device_error)?;
        Ok((gpu.description().clone(), passed_over))
    }

    fn into_js((device, passed_over): Self::Output) -> JsSelection {
        let of = |PassedOver { device, reason }| JsPassedOver { device: JsDevice::from(&device), reason };
        JsSelection {
            device: JsDevice::from(&device),
            passed_over: passed_over.into_iter().map(of).collect(),
        }
    }
}

/// Selects the device for an engine, on a thread of libuv: the first one that opens and for which its kernels compile.
#[napi]
pub fn select_device(options: Unknown<'_>) -> Result<AsyncTask<Background<SelectJob>>> {
    guarded(|| {
        let [device, precision, head_precision, model] =
            read(&options, [c"device", c"precision", c"headPrecision", c"model"])?;
        let config = read_config(model)?;
        let device = device.optional()?.map(|name| name.text()).transpose()?;
        let forms = Forms::of(read_precision(precision)?, read_precision(head_precision)?);
        Ok(AsyncTask::new(Background(SelectJob { device, config, forms })))
    })
}
