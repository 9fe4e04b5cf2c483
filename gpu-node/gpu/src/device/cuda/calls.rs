//! The functions of the driver and of the compiler that are called.
//!
//! The bindings declare results as enums of Rust. A newer library may return a number that they lack, which would be undefined
//! behaviour; here results are numbers.

use super::library::library as compiler;
use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUfunction, CUgraph, CUgraphExec, CUmodule,
    CUresult, CUstream, CUstreamCaptureMode, culib as driver,
};
use cudarc::nvrtc::sys::nvrtcProgram;
use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// An error that a call of the driver returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DriverError {
    pub(super) number: u32,
    /// The function, if the library lacks it.
    missing: Option<&'static str>,
}

impl DriverError {
    /// Whether it is an error that the bindings name.
    pub(super) fn is(self, known: CUresult) -> bool {
        self.number == known as u32
    }
}

/// An error that a call of the compiler returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompilerError {
    number: u32,
    /// The function, if the library lacks it.
    missing: Option<&'static str>,
}

/// Error for a function that the library lacks: `CUDA_ERROR_NOT_FOUND`, which is no number of the compiler.
const MISSING: u32 = CUresult::CUDA_ERROR_NOT_FOUND as u32;

/// Declares functions that return a number, 0 for success, and are looked up when they are first called.
macro_rules! functions {
    ($library:ident, $error:ident, $($name:ident($($argument:ident: $type:ty),*);)*) => {$(
        /// # Safety
        /// The library must be there. The arguments must be what its documentation asks for.
        #[allow(non_snake_case, clippy::too_many_arguments)]
        pub(super) unsafe fn $name($($argument: $type),*) -> Result<(), $error> {
            type Function = unsafe extern "C" fn($($type),*) -> u32;
            static FUNCTION: OnceLock<Option<Function>> = OnceLock::new();
            // SAFETY: the function has this type in every version of the library that is used.
            let find = || unsafe { $library().get::<Function>(stringify!($name).as_bytes()) }.ok().map(|found| *found);
            let function = FUNCTION.get_or_init(find)
                .ok_or($error { number: MISSING, missing: Some(stringify!($name)) })?;
            // SAFETY: passed on.
            match unsafe { function($($argument),*) } {
                0 => Ok(()),
                number => Err($error { number, missing: None }),
            }
        }
    )*};
}

functions! { driver, DriverError,
    cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int);
    cuCtxSetCurrent(context: CUcontext);
    cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    cuDeviceGetAttribute(value: *mut c_int, attribute: CUdevice_attribute, device: CUdevice);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGetName(name: *mut c_char, bytes: c_int, device: CUdevice);
    cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    cuDevicePrimaryCtxReset_v2(device: CUdevice);
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    cuDriverGetVersion(version: *mut c_int);
    cuGetErrorName(error: u32, text: *mut *const c_char);
    cuGetErrorString(error: u32, text: *mut *const c_char);
    cuGraphDestroy(graph: CUgraph);
    cuGraphExecDestroy(graph: CUgraphExec);
    cuGraphInstantiateWithFlags(launchable: *mut CUgraphExec, graph: CUgraph, flags: c_ulonglong);
    cuGraphLaunch(graph: CUgraphExec, stream: CUstream);
    cuInit(flags: c_uint);
    cuLaunchKernel(
        function: CUfunction, groups_x: c_uint, groups_y: c_uint, groups_z: c_uint, threads_x: c_uint,
        threads_y: c_uint, threads_z: c_uint, shared_bytes: c_uint, stream: CUstream,
        parameters: *mut *mut c_void, extra: *mut *mut c_void
    );
    cuMemAllocAsync(address: *mut CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize);
    cuMemFreeHost(memory: *mut c_void);
    cuMemFree_v2(address: CUdeviceptr);
    cuMemHostAlloc(memory: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemsetD8Async(address: CUdeviceptr, value: c_uchar, bytes: usize, stream: CUstream);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
    cuModuleUnload(module: CUmodule);
    cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    cuStreamCreateWithPriority(stream: *mut CUstream, flags: c_uint, priority: c_int);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuStreamSynchronize(stream: CUstream);
}

functions! { compiler, CompilerError,
    nvrtcCompileProgram(program: nvrtcProgram, count: c_int, options: *const *const c_char);
    nvrtcCreateProgram(
        program: *mut nvrtcProgram, source: *const c_char, name: *const c_char, headers: c_int,
        contents: *const *const c_char, names: *const *const c_char
    );
    nvrtcDestroyProgram(program: *mut nvrtcProgram);
    nvrtcGetCUBIN(program: nvrtcProgram, code: *mut c_char);
    nvrtcGetCUBINSize(program: nvrtcProgram, bytes: *mut usize);
    nvrtcGetNumSupportedArchs(count: *mut c_int);
    nvrtcGetPTX(program: nvrtcProgram, code: *mut c_char);
    nvrtcGetPTXSize(program: nvrtcProgram, bytes: *mut usize);
    nvrtcGetProgramLog(program: nvrtcProgram, log: *mut c_char);
    nvrtcGetProgramLogSize(program: nvrtcProgram, bytes: *mut usize);
    nvrtcGetSupportedArchs(architectures: *mut c_int);
    nvrtcVersion(major: *mut c_int, minor: *mut c_int);
}

/// Returns what a call writes.
///
/// # Safety
/// A call that succeeds must write a value.
pub(super) unsafe fn written<T, E>(call: impl FnOnce(*mut T) -> Result<(), E>) -> Result<T, E> {
    let mut value = MaybeUninit::uninit();
    call(value.as_mut_ptr())?;
    // SAFETY: the caller vouches for it.
    Ok(unsafe { value.assume_init() })
}

/// The driver's name and text of an error; its number where the driver has none; the function that an old driver lacks.
pub(super) fn describe(error: DriverError) -> String {
    if let Some(function) = error.missing {
        return format!("the driver lacks the function {function}: install a newer one");
    }
    let text = |call: unsafe fn(u32, *mut *const c_char) -> Result<(), DriverError>| {
        // SAFETY: the driver has returned the error, and texts are never freed.
        let found =
            unsafe { written(|text| call(error.number, text)) }.ok().filter(|text| !text.is_null())?;
        // SAFETY: as above.
        Some(unsafe { CStr::from_ptr(found) }.to_string_lossy().into_owned())
    };
    match (text(cuGetErrorName), text(cuGetErrorString)) {
        (Some(name), Some(meaning)) => format!("{name}: {meaning}"),
        _ => format!("error {} of CUDA, which the driver does not describe", error.number),
    }
}

/// The compiler's name of an error; its number where the compiler has none; the function that it lacks.
pub(super) fn describe_of_compiler(error: CompilerError) -> String {
    type Name = unsafe extern "C" fn(u32) -> *const c_char;
    if let Some(function) = error.missing {
        return format!("it lacks the function {function}");
    }
    // SAFETY: the compiler has returned the error; the function has this type in every version.
    let name = unsafe {
        let found = compiler().get::<Name>(b"nvrtcGetErrorString");
        found.ok().map(|name| name(error.number)).filter(|text| !text.is_null())
    };
    match name {
        // SAFETY: the text ends with a zero, and is never freed.
        Some(text) => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
        None => format!("error {}", error.number),
    }
}

#[cfg(test)]
mod tests {
    use super::{CompilerError, DriverError, MISSING, compiler, describe, describe_of_compiler, driver};
    use crate::device::cuda::{devices, library};
    use std::sync::OnceLock;

    functions! { driver, DriverError, cuNoSuchFunction(); }
    functions! { compiler, CompilerError, nvrtcNoSuchFunction(); }

    #[test]
    fn a_function_that_the_driver_lacks_is_named() {
        if devices::find().is_empty() {
            return;
        }
        // SAFETY: the driver is there, and has no such function.
        let error = unsafe { cuNoSuchFunction() }.unwrap_err();
        assert_eq!(describe(error), "the driver lacks the function cuNoSuchFunction: install a newer one");
    }

    #[test]
    fn errors_of_the_compiler_have_its_names() {
        if !library::load(12_040) {
            return;
        }
        let name_of = |number| describe_of_compiler(CompilerError { number, missing: None });
        assert_eq!(name_of(6), "NVRTC_ERROR_COMPILATION");
        // SAFETY: the compiler is there, and has no such function.
        let error = unsafe { nvrtcNoSuchFunction() }.unwrap_err();
        assert_eq!(describe_of_compiler(error), "it lacks the function nvrtcNoSuchFunction");
    }
}
