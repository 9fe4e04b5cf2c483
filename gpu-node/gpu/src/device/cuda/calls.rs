//! The functions of the driver and of the compiler that are called.
//!
//! The bindings declare results as enums of Rust. A newer library may return a number that they lack, which would be undefined
//! behaviour; here results are numbers.

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUfunction, CUgraph, CUgraphExec, CUmodule,
    CUresult, CUstream, CUstreamCaptureMode, culib as driver,
};
use cudarc::nvrtc::sys::{culib as compiler, nvrtcProgram};
use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_ulonglong, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// What a call of the driver returned instead of success, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DriverError(pub(super) u32);

impl DriverError {
    /// Whether it is an error that the bindings name.
    pub(super) fn is(self, known: CUresult) -> bool {
        self.0 == known as u32
    }
}

/// What a call of the compiler returned instead of success, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompilerError(pub(super) u32);

/// What a function that an old library lacks returns: `CUDA_ERROR_NOT_FOUND`, which is no number of the compiler.
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
            let function = FUNCTION.get_or_init(find).ok_or($error(MISSING))?;
            // SAFETY: passed on.
            match unsafe { function($($argument),*) } {
                0 => Ok(()),
                number => Err($error(number)),
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

/// The driver's name and text of an error; its number where the driver has none.
pub(super) fn describe(error: DriverError) -> String {
    let text = |call: unsafe fn(u32, *mut *const c_char) -> Result<(), DriverError>| {
        // SAFETY: the driver has returned the error, and texts are never freed.
        let found = unsafe { written(|text| call(error.0, text)) }.ok().filter(|text| !text.is_null())?;
        // SAFETY: as above.
        Some(unsafe { CStr::from_ptr(found) }.to_string_lossy().into_owned())
    };
    match (text(cuGetErrorName), text(cuGetErrorString)) {
        (Some(name), Some(meaning)) => format!("{name}: {meaning}"),
        _ => format!("error {} of CUDA, which the driver does not describe", error.0),
    }
}
