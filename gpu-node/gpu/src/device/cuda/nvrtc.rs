//! NVIDIA's compiler for CUDA C++, NVRTC.

use super::calls::{self, CompilerError, describe_of_compiler, written};
use super::devices::{Capability, version_text};
use super::library::{self, MIN_VERSION};
use crate::fault::DeviceFault;
use cudarc::nvrtc::sys::nvrtcProgram;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

/// The compiler, once it was loaded.
pub(super) struct Nvrtc {
    version: (c_int, c_int),
    /// The architectures that it knows, such as 89, in order.
    architectures: Vec<u32>,
}

/// What the compiler compiles for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The code of an architecture.
    Code(u32),
    /// What the driver compiles for any device from this architecture on.
    Portable(u32),
}

impl Target {
    /// The option of the compiler.
    pub(super) fn option(self) -> String {
        match self {
            Target::Code(architecture) => format!("--gpu-architecture=sm_{architecture}"),
            Target::Portable(architecture) => format!("--gpu-architecture=compute_{architecture}"),
        }
    }
}

impl Nvrtc {
    /// Loads the compiler. `driver` is the version of the driver.
    pub(super) fn load(driver: c_int) -> Result<Nvrtc, DeviceFault> {
        if !library::load(driver) {
            return Err(DeviceFault::Unavailable(format!(
                "NVRTC (libnvrtc), NVIDIA's compiler, is missing: {}",
                how_to_get(driver)
            )));
        }
        let failed = |error: CompilerError| {
            let reason = describe_of_compiler(error);
            DeviceFault::Unavailable(format!("NVRTC, NVIDIA's compiler, cannot be used: {reason}"))
        };
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the call writes two integers.
        unsafe { calls::nvrtcVersion(&mut major, &mut minor) }.map_err(failed)?;
        let version = (major, minor);
        if version < MIN_VERSION {
            let (version, wanted) = (text(version), text(MIN_VERSION));
            return Err(DeviceFault::Unavailable(format!(
                "NVRTC {version}, NVIDIA's compiler, is too old: version {wanted} is needed; {}",
                how_to_get(driver)
            )));
        }
        let mut count = 0;
        // SAFETY: the call writes an integer.
        unsafe { calls::nvrtcGetNumSupportedArchs(&mut count) }.map_err(failed)?;
        let mut architectures: Vec<c_int> = vec![0; count as usize];
        // SAFETY: there is room for as many as the compiler has.
        unsafe { calls::nvrtcGetSupportedArchs(architectures.as_mut_ptr()) }.map_err(failed)?;
        let mut architectures: Vec<u32> = architectures.into_iter().map(|number| number as u32).collect();
        architectures.sort_unstable();
        Ok(Nvrtc { version, architectures })
    }

    /// The version, such as `13.5`.
    pub(super) fn version(&self) -> String {
        text(self.version)
    }

    /// Whether a driver loads its code.
    pub(super) fn is_known_to(&self, driver: c_int) -> bool {
        library::suits(self.version, driver)
    }

    /// What to compile for on a device.
    pub(super) fn target(&self, capability: Capability) -> Result<Target, DeviceFault> {
        target(&self.architectures, capability).ok_or_else(|| {
            DeviceFault::Unavailable(format!(
                "NVRTC {}, NVIDIA's compiler, no longer compiles for compute capability {}.{}: install an older one",
                self.version(),
                capability.major,
                capability.minor
            ))
        })
    }

    /// Compiles a source, or returns the messages of the compiler.
    pub(super) fn compile(
        &self,
        source: &str,
        target: Target,
        options: &[String],
    ) -> Result<Vec<u8>, String> {
        let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
        let source = text(source)?;
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let (name, none) = (c"copal.cu".as_ptr(), ptr::null());
        type Size = unsafe fn(nvrtcProgram, *mut usize) -> Result<(), CompilerError>;
        type Bytes = unsafe fn(nvrtcProgram, *mut c_char) -> Result<(), CompilerError>;
        let (size, code): (Size, Bytes) = match target {
            Target::Code(_) => (calls::nvrtcGetCUBINSize, calls::nvrtcGetCUBIN),
            Target::Portable(_) => (calls::nvrtcGetPTXSize, calls::nvrtcGetPTX),
        };
        // SAFETY: each size is that of the bytes that are written next.
        let read = |program: &Program, (size, bytes): (Size, Bytes)| unsafe {
            let mut image = vec![0_u8; written(|count| size(program.0, count))?];
            bytes(program.0, image.as_mut_ptr().cast())?;
            Ok(image)
        };
        // SAFETY: the texts live as long as the program, which is compiled once.
        unsafe {
            let create = |program| calls::nvrtcCreateProgram(program, source.as_ptr(), name, 0, none, none);
            let program = Program(written(create).map_err(describe_of_compiler)?);
            if let Err(error) =
                calls::nvrtcCompileProgram(program.0, options.len() as c_int, options.as_ptr())
            {
                let log = read(&program, (calls::nvrtcGetProgramLogSize, calls::nvrtcGetProgramLog));
                let log = log.map_err(describe_of_compiler)?;
                let log = CStr::from_bytes_until_nul(&log).unwrap_or(c"").to_string_lossy();
                return Err(format!("{}\n{log}", describe_of_compiler(error)));
            }
            read(&program, (size, code)).map_err(describe_of_compiler)
        }
    }
}

/// The newest architecture that a device can run: its own, else what the driver compiles.
fn target(architectures: &[u32], capability: Capability) -> Option<Target> {
    let own = capability.number();
    let newest = architectures.iter().copied().filter(|&architecture| architecture <= own).max()?;
    Some(if newest == own { Target::Code(own) } else { Target::Portable(newest) })
}

fn text((major, minor): (c_int, c_int)) -> String {
    format!("{major}.{minor}")
}

/// How to install a compiler whose code the driver loads.
pub(super) fn how_to_get(driver: c_int) -> String {
    let package = if driver < 13_000 { "nvidia-cuda-nvrtc-cu12" } else { "nvidia-cuda-nvrtc" };
    format!(
        "run `pip install {package}` and add the folder of its library to LD_LIBRARY_PATH, or install the CUDA toolkit \
         {} or older; COPAL_GPU=vulkan uses the Vulkan driver instead",
        version_text(driver)
    )
}

struct Program(nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was created, and is destroyed once. What fails has no consequence.
        let _ = unsafe { calls::nvrtcDestroyProgram(&mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, how_to_get, target};
    use crate::device::cuda::devices::Capability;

    #[test]
    fn a_device_gets_its_own_code_or_what_the_driver_compiles_from_the_newest_known_architecture() {
        let known = [75, 80, 86, 89, 90];
        let of = |major, minor| target(&known, Capability { major, minor });
        assert_eq!(of(8, 9), Some(Target::Code(89)));
        assert_eq!(of(7, 5), Some(Target::Code(75)));
        assert_eq!(of(12, 0), Some(Target::Portable(90)));
        assert_eq!(of(8, 7), Some(Target::Portable(86)));
        assert_eq!(of(7, 0), None);
        assert_eq!(Target::Code(89).option(), "--gpu-architecture=sm_89");
        assert_eq!(Target::Portable(90).option(), "--gpu-architecture=compute_90");
    }

    #[test]
    fn the_package_of_the_compiler_is_one_that_the_driver_can_use() {
        assert!(how_to_get(12_040).contains("nvidia-cuda-nvrtc-cu12` and"), "{}", how_to_get(12_040));
        assert!(how_to_get(13_010).contains("nvidia-cuda-nvrtc` and"), "{}", how_to_get(13_010));
        assert!(how_to_get(13_010).contains("toolkit 13.1 or older"), "{}", how_to_get(13_010));
    }
}
