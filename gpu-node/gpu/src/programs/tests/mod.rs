//! Every kernel against an oracle in double precision, on the first device of the machine, or the one that COPAL_GPU names. In
//! CI that is Mesa's software Vulkan driver, and then the software CUDA driver of the tests.

mod attention;
mod outputs;
mod product;

use super::Kernels;
use crate::device::kernel::CALL_STRIDE;
use crate::device::{Bound, Buffer, BufferUse, Command, Gpu, Kernel};
use crate::layout::Form;
use copal_native::engine::ModelConfig;

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
    /// Without products.
    fn new(config: ModelConfig) -> Device {
        Device::with_products(config, &[])
    }

    fn with_products(config: ModelConfig, forms: &[Form]) -> Device {
        let name = std::env::var("COPAL_GPU").ok();
        let gpu = Gpu::open(name.as_deref());
        let gpu = gpu.expect("tests need a device; Debian's mesa-vulkan-drivers has one");
        let kernels = Kernels::new(&gpu, &config, forms).unwrap();
        Device { gpu, kernels, config }
    }

    /// A buffer with these floats.
    fn floats(&self, floats: &[f32]) -> Buffer {
        self.words(&to_words(floats))
    }

    fn words(&self, words: &[u32]) -> Buffer {
        self.gpu.stored(words, BufferUse::Work).unwrap()
    }

    /// Runs a kernel once, with a call whose places count from the start of `data`, and returns the words of a buffer.
    fn run(
        &self,
        call: [u32; 8],
        data: &[u32],
        (kernel, buffers, groups): (&Kernel, &[&Buffer], (u32, u32)),
        result: (&Buffer, usize),
    ) -> Vec<u32> {
        let (step, bound) = (self.step(call, data), self.gpu.bind(kernel, buffers).unwrap());
        self.finish(&step, vec![Command::Run { kernel, call: step.call(), bound: &bound, groups }], result)
    }

    /// The data of a step with one call.
    fn step(&self, call: [u32; 8], data: &[u32]) -> Step {
        let mut words = data.to_vec();
        words.resize(words.len().next_multiple_of(CALL_STRIDE as usize / 4), 0);
        let offset = 4 * words.len() as u32;
        words.extend(call);
        words.extend([0; 4]);
        let buffer = self.gpu.allocate("a test", 4 * words.len() as u64, BufferUse::Step).unwrap();
        Step { bound: self.gpu.bind_step(&buffer).unwrap(), buffer, words, offset }
    }

    /// Runs the commands of a step, and returns the words of a buffer.
    fn finish(&self, step: &Step, commands: Vec<Command<'_>>, (from, count): (&Buffer, usize)) -> Vec<u32> {
        let bytes = 4 * count as u64;
        let results = self.gpu.allocate("a test", bytes, BufferUse::Results).unwrap();
        let mut commands: Vec<Command<'_>> = commands;
        commands.push(Command::Copy { from: (from, 0), to: (&results, 0), bytes });
        let upload = Some((&step.buffer, &step.words[..]));
        let floats = self.gpu.run(upload, &commands, Some((&results, count))).unwrap();
        floats.into_iter().map(f32::to_bits).collect()
    }

    /// The words of a buffer.
    fn read(&self, buffer: &Buffer, count: usize) -> Vec<u32> {
        self.finish(&self.step([0; 8], &[]), Vec::new(), (buffer, count))
    }
}

/// The data of a step with one call.
struct Step {
    buffer: Buffer,
    words: Vec<u32>,
    bound: Bound,
    offset: u32,
}

impl Step {
    fn call(&self) -> (&Bound, u32) {
        (&self.bound, self.offset)
    }
}

fn to_words(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|value| value.to_bits()).collect()
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
