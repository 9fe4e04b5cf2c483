//! Every kernel against an oracle in double precision, on the first device of the machine. In CI that is Mesa's software
//! Vulkan driver.

mod attention;
mod outputs;
mod product;
#[path = "../../../tests/support/stored.rs"]
mod stored;
#[path = "../../../../native/tests/support/mod.rs"]
mod support;

use super::{CALL_STRIDE, Kernels};
use crate::device::Gpu;
use crate::layout::Form;
use copal_native::engine::ModelConfig;
use wgpu::{Buffer, BufferUsages, ComputePass, ComputePassDescriptor};

/// A device with the kernels of a model.
struct Device {
    gpu: Gpu,
    kernels: Kernels,
    config: ModelConfig,
}

/// A model of which tests change what they need.
fn config() -> ModelConfig {
    let rope = (0..8).map(|pair| 10_000f64.powf(-f64::from(pair) / 8.0)).collect();
    ModelConfig {
        hidden: 48,
        layers: 1,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        intermediate: 72,
        vocab: 99,
        context: 4096,
        eps: 1e-5,
        rope,
    }
}

impl Device {
    fn new(config: ModelConfig) -> Device {
        let gpu = Gpu::open(None).expect("tests need a device; Debian's mesa-vulkan-drivers has one");
        let kernels = Kernels::new(&gpu, &config, &Form::ALL).unwrap();
        Device { gpu, kernels, config }
    }

    /// A buffer with these floats.
    fn floats(&self, floats: &[f32]) -> Buffer {
        self.words(&floats.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
    }

    fn words(&self, words: &[u32]) -> Buffer {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let buffer = self.gpu.allocate("a test", 4 * words.len() as u64, usage).unwrap();
        self.gpu.upload(&buffer, words).unwrap();
        buffer
    }

    /// Runs kernels with a call, whose places count from the start of `data`, and returns the words of a buffer.
    fn run(
        &self,
        call: [u32; 8],
        data: &[u32],
        kernels: impl FnOnce(&mut ComputePass<'_>),
        (from, count): (&Buffer, usize),
    ) -> Vec<u32> {
        let mut words = data.to_vec();
        words.resize(words.len().next_multiple_of(CALL_STRIDE as usize / 4), 0);
        let offset = 4 * words.len() as u32;
        words.extend(call);
        words.extend([0; 4]);
        let usage = BufferUsages::STORAGE | BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let step = self.gpu.allocate("a test", 4 * words.len() as u64, usage).unwrap();
        self.gpu.upload(&step, &words).unwrap();
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let results = self.gpu.allocate("a test", 4 * count as u64, usage).unwrap();
        let commands = self.gpu.run("a test", || {
            let bound = self.kernels.bind_step(&self.gpu, &step);
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
                pass.set_bind_group(0, &bound, &[offset]);
                kernels(&mut pass);
            }
            encoder.copy_buffer_to_buffer(from, 0, &results, 0, 4 * count as u64);
            encoder.finish()
        });
        let submission = self.gpu.submit(commands.unwrap()).unwrap();
        let floats = self.gpu.read(&results, count, submission).unwrap();
        floats.into_iter().map(f32::to_bits).collect()
    }
}

fn to_floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&bits| f32::from_bits(bits)).collect()
}

/// Checks a number against the oracle's, with a tolerance relative to `size`.
fn assert_close(found: f32, expected: f64, size: f64, what: &str) {
    let fits = match expected.is_finite() {
        true => (f64::from(found) - expected).abs() <= 1e-5 * size + 1e-6,
        false => found.is_nan() == expected.is_nan() && (expected.is_nan() || f64::from(found) == expected),
    };
    assert!(fits, "{what}: {found}, expected {expected} within {:e}", 1e-5 * size);
}
