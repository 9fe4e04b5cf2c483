//! Faults of a device.

use std::fmt;

/// Why a device cannot do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceFault {
    /// There is no such device, or it cannot be opened.
    Unavailable(String),
    /// The device has no memory for it. The device goes on.
    OutOfMemory(String),
    /// The device was lost, or its driver failed. Nothing runs on it any more.
    Lost(String),
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceFault::Unavailable(reason) => f.write_str(reason),
            DeviceFault::OutOfMemory(what) => write!(f, "the device has no memory for {what}"),
            DeviceFault::Lost(reason) => write!(f, "the device was lost: {reason}"),
        }
    }
}

impl std::error::Error for DeviceFault {}
