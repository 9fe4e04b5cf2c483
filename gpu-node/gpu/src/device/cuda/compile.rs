//! Compiles the kernels for a model, or takes their code from the cache.

use super::calls::{self, DriverError, describe, written};
use super::context::{Owned, lock};
use super::devices::version_text;
use super::kernels::{Signature, macros, signature, source};
use super::nvrtc::{Target, how_to_get};
use super::{Cuda, Kernel, cache};
use crate::device::kernel::KernelKind;
use crate::fault::DeviceFault;
use copal_native::engine::ModelConfig;
use cudarc::driver::sys::{CUmodule, CUresult};
use std::ffi::CString;
use std::sync::{Arc, Mutex};

/// Held while kernels are compiled: a second engine of one model takes what the first one has compiled. Holds what was compiled
/// last, with its key, if it could not be written into the cache.
static COMPILING: Mutex<Option<(String, Vec<u8>)>> = Mutex::new(None);

impl Cuda {
    /// Compiles kernels, in order, for a model if they need one.
    pub(in crate::device) fn compile(
        &self,
        config: Option<&ModelConfig>,
        kinds: &[KernelKind],
    ) -> Result<Vec<Kernel>, DeviceFault> {
        self.check()?;
        let target = self.nvrtc.target(self.capability)?;
        let mut options = vec![target.option(), "--std=c++17".to_owned()];
        options.extend(macros(config, kinds));
        let module = Arc::new(self.module(&source(kinds), target, &options)?);
        kinds.iter().map(|&kind| self.kernel(&module, signature(kind))).collect()
    }

    /// The module of a source.
    pub(super) fn module(
        &self,
        source: &str,
        target: Target,
        options: &[String],
    ) -> Result<Owned<CUmodule>, DeviceFault> {
        let mut kept = lock(&COMPILING);
        let (compiler, driver) = (self.nvrtc.version(), version_text(self.driver));
        let key = format!("NVRTC {compiler}\ndriver {driver}\n{}\n{source}", options.join("\n"));
        let from_memory = kept.as_ref().filter(|(known, _)| *known == key).map(|(_, code)| code.clone());
        let from_cache = || self.cache.as_ref().and_then(|folder| cache::read(folder, &key));
        if let Some(code) = from_memory.or_else(from_cache) {
            // Code that the driver does not take is compiled again.
            if let Ok(module) = self.load(code)? {
                return Ok(module);
            }
        }
        let code = self.nvrtc.compile(source, target, options).map_err(|messages| {
            DeviceFault::Unavailable(format!(
                "NVRTC {compiler} cannot compile the kernels; COPAL_GPU=vulkan uses the Vulkan driver instead: {messages}"
            ))
        })?;
        let module = self.load(code.clone())?.map_err(|error| {
            DeviceFault::Unavailable(format!(
                "the driver of CUDA {driver} does not take the code of NVRTC {compiler} ({}): {}",
                describe(error),
                how_to_get(self.driver)
            ))
        })?;
        let is_written = self.cache.as_ref().is_some_and(|folder| cache::write(folder, &key, &code).is_ok());
        if !is_written {
            // The next start compiles again.
            *kept = Some((key, code));
        }
        Ok(module)
    }

    /// Loads code, or returns the error of a driver that does not take it.
    fn load(&self, mut code: Vec<u8>) -> Result<Result<Owned<CUmodule>, DriverError>, DeviceFault> {
        // The driver reads text up to a zero.
        code.push(0);
        let _calls = self.enter()?;
        // SAFETY: the code is whole, as the compiler wrote it, and is only read by this call. Modules are unloaded by this
        // function.
        let loaded = unsafe {
            let raw = written(|module| calls::cuModuleLoadData(module, code.as_ptr().cast()));
            Owned::new(&self.context, raw, calls::cuModuleUnload)
        };
        match loaded {
            Err(error) if is_rejection(error) => Ok(Err(error)),
            loaded => self.checked("the kernels", loaded).map(Ok),
        }
    }

    pub(super) fn kernel(
        &self,
        module: &Arc<Owned<CUmodule>>,
        signature: Signature,
    ) -> Result<Kernel, DeviceFault> {
        let _calls = self.enter()?;
        let name = CString::new(signature.name.as_str()).expect("names of kernels have no zeros");
        let find = |function| {
            // SAFETY: the module is loaded, and the call writes a function.
            unsafe { calls::cuModuleGetFunction(function, module.raw(), name.as_ptr()) }
        };
        // SAFETY: as above.
        let function = self.checked("the kernels", unsafe { written(find) })?;
        // SAFETY: the module has the function, and the signature is that of its source.
        Ok(unsafe { Kernel::new(module, function, signature) })
    }
}

/// Whether an error says that code is of another device, or of a newer compiler than the driver knows.
fn is_rejection(error: DriverError) -> bool {
    use CUresult::*;
    let rejections = [
        CUDA_ERROR_INVALID_IMAGE,
        CUDA_ERROR_NO_BINARY_FOR_GPU,
        CUDA_ERROR_INVALID_PTX,
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        CUDA_ERROR_JIT_COMPILER_NOT_FOUND,
        CUDA_ERROR_JIT_COMPILATION_DISABLED,
        CUDA_ERROR_INVALID_SOURCE,
        CUDA_ERROR_SHARED_OBJECT_INIT_FAILED,
    ];
    rejections.into_iter().any(|known| error.is(known))
}
