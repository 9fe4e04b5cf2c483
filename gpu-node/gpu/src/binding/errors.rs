//! Errors of the device and of the engine.

use crate::engine::{Fault, LoadFault};
use crate::exchange;
use crate::fault::DeviceFault;
use copal_native::engine_binding::errors::{self, Code, Error, error};

/// The error for a fault of the device.
pub(super) fn device_error(fault: DeviceFault) -> Error {
    let code = match fault {
        DeviceFault::Unavailable(_) => Code::DeviceUnavailable,
        DeviceFault::OutOfMemory(_) => Code::OutOfMemory,
        DeviceFault::Lost(_) => Code::DeviceLost,
    };
    error(code, fault)
}

/// The error for a fault of an engine.
pub(super) fn engine_error(fault: Fault) -> Error {
    let code = match fault {
        Fault::Device(fault)
        | Fault::Pages(_, fault @ (DeviceFault::Lost(_) | DeviceFault::Unavailable(_))) => {
            return device_error(fault);
        }
        Fault::Step(reason) => return errors::step_error(reason),
        Fault::Model(_) => Code::InvalidArg,
        Fault::Pages(..) => Code::InvalidPageCount,
    };
    error(code, fault)
}

/// The error for a fault of a load.
pub(super) fn load_error(fault: LoadFault) -> Error {
    match fault {
        LoadFault::Device(fault) => device_error(fault),
        LoadFault::Files(reason) => errors::load_error(reason),
    }
}

/// The error for a fault of a refinement.
pub(super) fn exchange_error(fault: exchange::Fault) -> Error {
    match fault {
        exchange::Fault::Invalid(reason) => error(Code::InvalidArg, reason),
        exchange::Fault::Device(fault) => device_error(fault),
    }
}
