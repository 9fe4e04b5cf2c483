//! Why an engine fails.

use super::StepError;
use crate::fault::DeviceFault;
use std::fmt;

/// Why an engine cannot be made, or a step failed.
#[derive(Debug)]
pub enum Fault {
    /// The kernels do not take such a model.
    Model(String),
    /// The device cannot have so many pages.
    Pages(usize, DeviceFault),
    /// The work does not fit; only the dropped sequences have changed.
    Step(StepError),
    /// The device. The sequences of the step hold no more than the tokens before the position of their work.
    Device(DeviceFault),
}

impl From<DeviceFault> for Fault {
    fn from(fault: DeviceFault) -> Fault {
        Fault::Device(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Model(reason) => f.write_str(reason),
            Fault::Pages(pages, fault) => {
                write!(
                    f,
                    "the device cannot hold {pages} pages of keys and values ({fault}); give the cache fewer tokens"
                )
            }
            Fault::Step(error) => error.fmt(f),
            Fault::Device(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}
