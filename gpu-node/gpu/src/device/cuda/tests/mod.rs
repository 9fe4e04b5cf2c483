//! Tests on a device: the one of the software driver (`tests/software-cuda`), or a card. Without either they do nothing, unless
//! COPAL_GPU asks for a device of CUDA.

mod faults;
mod steps;

use super::context::{Owned, lock};
use super::kernels::Signature;
use super::{Card, Cuda, Kernel, cards};
use crate::device::{self, Command, DeviceDescription};
use crate::fault::DeviceFault;
use cudarc::driver::sys::CUmodule;
use std::sync::Arc;

/// `to[i] += factor · from[i]` for a number of floats; the call is the number and the factor.
const ADD: &str = r#"
extern "C" __global__ void __launch_bounds__(64) add(
    const unsigned* step, unsigned call, const float* from, float* to) {
  unsigned at = blockIdx.x * 64 + threadIdx.x;
  if (at < step[call]) to[at] += step[call + 1] * from[at];
}
"#;
/// Words from one call to the next.
const CALL_WORDS: usize = 64;

fn card() -> Option<Card> {
    let found = cards().into_iter().next();
    let is_wanted = std::env::var("COPAL_GPU").is_ok_and(|name| name.to_lowercase().contains("cuda"));
    assert!(found.is_some() || !is_wanted, "COPAL_GPU names a device that does not exist");
    found
}

fn description() -> Option<DeviceDescription> {
    card().map(|card| card.description)
}

/// An open device, and the kernel `add`.
struct Device {
    cuda: Cuda,
    add: device::Kernel,
}

impl Device {
    /// `None` without a device.
    fn open() -> Option<Device> {
        let cuda = Cuda::open(card()?).unwrap();
        let add = device::Kernel::Cuda(kernel(&cuda, &module(&cuda, ADD).unwrap()));
        Some(Device { cuda, add })
    }

    fn floats(&self, floats: &[f32]) -> device::Buffer {
        let words: Vec<u32> = floats.iter().map(|value| value.to_bits()).collect();
        let buffer = self.cuda.allocate("a test", 4 * words.len() as u64).unwrap();
        self.cuda.upload_at(&buffer, 0, &words).unwrap();
        device::Buffer::Cuda(buffer)
    }

    fn zeros(&self, count: usize) -> device::Buffer {
        let buffer = self.cuda.allocate("a test", 4 * count as u64).unwrap();
        device::Buffer::Cuda(buffer)
    }

    fn read(&self, buffer: &device::Buffer, count: usize) -> Vec<f32> {
        self.cuda.run_lists(None, &[], Some((buffer.cuda(), count))).unwrap()
    }

    /// The data of calls of `add`.
    fn calls(&self, calls: &[(usize, u32)]) -> Vec<u32> {
        let mut words = Vec::new();
        for &(count, factor) in calls {
            words.extend([count as u32, factor]);
            words.resize(words.len().next_multiple_of(CALL_WORDS), 0);
        }
        words
    }

    fn run(&self, upload: (&device::Buffer, &[u32]), commands: &[Command<'_>]) -> Result<(), DeviceFault> {
        let (buffer, words) = upload;
        self.cuda.run_lists(Some((buffer.cuda(), words)), &[commands], None).map(drop)
    }

    /// Runs `add` eight times.
    fn double(
        &self,
        (pair, step_bound): (&device::Bound, &device::Bound),
        step: &device::Buffer,
    ) -> Result<(), DeviceFault> {
        let run = || Command::Run { kernel: &self.add, call: (step_bound, 0), bound: pair, groups: (1, 1) };
        let commands: Vec<_> = (0..8).map(|_| run()).collect();
        self.run((step, &self.calls(&[(64, 1)])), &commands)
    }

    fn graphs(&self) -> usize {
        lock(&self.cuda.state).graphs.len()
    }
}

fn module(cuda: &Cuda, source: &str) -> Result<Arc<Owned<CUmodule>>, DeviceFault> {
    let target = cuda.nvrtc.target(cuda.capability)?;
    cuda.module(source, target, &[target.option()]).map(Arc::new)
}

fn kernel(cuda: &Cuda, module: &Arc<Owned<CUmodule>>) -> Kernel {
    let signature = Signature { name: "add".to_owned(), threads: 64, buffers: 2, has_call: true };
    cuda.kernel(module, signature).unwrap()
}

fn bound(buffers: &[&device::Buffer]) -> device::Bound {
    device::Bound::Cuda(super::Bound::new(buffers.iter().map(|buffer| buffer.cuda())))
}
