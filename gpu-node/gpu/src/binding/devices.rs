//! The devices of the machine.

use crate::device::{DeviceDescription, devices};
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::Failure;
use napi::bindgen_prelude::AsyncTask;
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

    fn run(&mut self) -> Result<Vec<DeviceDescription>, Failure> {
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
