use super::kernel_of;
use super::matrix::JsMatrix;
use copal_native::engine_binding::MAX_THREADS;
use copal_native::engine_binding::errors::{Code, Error, Result, error, guarded, invalid, panicked};
use copal_native::engine_binding::fields::{count, read};
use copal_native::kernels::{Encoding, MAX_ACTIVATIONS, Multiplier, MultiplyError};
use copal_native::measure::{read_bandwidth, time_pass};
use copal_native::pool::Pool;
use napi::bindgen_prelude::{ClassInstance, Float32ArraySlice, Unknown};
use napi_derive::napi;
use std::sync::Arc;

/// 256 MiB, more than any cache holds.
const BANDWIDTH_WORDS: usize = 32 << 20;

/// A kernel on a fixed number of threads.
#[napi(js_name = "Multiplier")]
pub struct JsMultiplier {
    multiplier: Multiplier,
    threads: usize,
    /// The memory that [`read_bandwidth`](Self::read_bandwidth) reads; allocated on first use.
    memory: Vec<u64>,
}

/// Seconds of one pass over some matrices.
#[napi(object, object_from_js = false)]
pub struct JsPassTime {
    /// Bringing the inputs into the form that the kernels read.
    pub encode_s: f64,
    /// The multiplications.
    pub multiply_s: f64,
}

#[napi]
impl JsMultiplier {
    /// `maxTokens` and `maxCols` bound what it can multiply; the caller's thread is one of `threads`.
    #[napi(constructor)]
    pub fn new(options: Unknown<'_>) -> Result<JsMultiplier> {
        guarded(|| {
            let [kernel, threads, max_tokens, max_cols] =
                read(&options, [c"kernel", c"threads", c"maxTokens", c"maxCols"])?;
            let kernel = kernel_of(kernel)?;
            let threads = threads.count(MAX_THREADS)?;
            let max_tokens = max_tokens.count(MAX_ACTIVATIONS)?;
            let max_cols = max_cols.count(MAX_ACTIVATIONS)?;
            let pool = Pool::new(threads).map_err(|reason| {
                error(Code::ThreadsUnavailable, format!("cannot start {threads} threads: {reason}"))
            })?;
            let multiplier = Multiplier::new(kernel, pool, max_tokens, max_cols).map_err(multiply_error)?;
            Ok(JsMultiplier { multiplier, threads, memory: Vec::new() })
        })
    }

    /// The kernel's name.
    #[napi(getter)]
    pub fn kernel(&self) -> &'static str {
        self.multiplier.implementation().name()
    }

    /// The number of threads that share a multiplication.
    #[napi(getter)]
    pub fn threads(&self) -> f64 {
        self.threads as f64
    }

    /// `outputs[token, row] = Σ matrix[row, col] · inputs[token, col]`.
    #[napi]
    pub fn multiply(
        &mut self,
        matrix: ClassInstance<'_, JsMatrix>,
        inputs: Float32ArraySlice<'_>,
        mut outputs: Float32ArraySlice<'_>,
    ) -> Result<()> {
        let (input, output) = (inputs.as_ptr_range(), outputs.as_ptr_range());
        if input.start < output.end && output.start < input.end {
            return Err(invalid("inputs and outputs share memory; give outputs an array of their own"));
        }
        // SAFETY: the memory belongs to a typed array of this call, which runs no JavaScript before it returns, and
        // does not overlap the only other array. Another thread that writes to a SharedArrayBuffer meanwhile can only
        // change numbers.
        let outputs = unsafe { outputs.as_mut() };
        guarded(|| {
            let matrix = &matrix.matrix;
            self.multiplier
                .encode(Encoding::of(matrix.format()), matrix.cols(), &inputs)
                .and_then(|()| self.multiplier.multiply(matrix, outputs))
                .map_err(multiply_error)
        })
    }

    /// Multiplies every matrix once by `tokens` tokens of made-up inputs and measures it.
    #[napi]
    pub fn time_pass(
        &mut self,
        matrices: Vec<ClassInstance<'_, JsMatrix>>,
        tokens: f64,
    ) -> Result<JsPassTime> {
        guarded(|| {
            let tokens = count("tokens", tokens, MAX_ACTIVATIONS)?;
            let matrices: Vec<_> = matrices.iter().map(|matrix| Arc::clone(&matrix.matrix)).collect();
            let time = time_pass(&mut self.multiplier, &matrices, tokens).map_err(multiply_error)?;
            Ok(JsPassTime { encode_s: time.encode_s, multiply_s: time.multiply_s })
        })
    }

    /// Bytes per second at which the threads together read 256 MiB.
    #[napi]
    pub fn read_bandwidth(&mut self) -> Result<f64> {
        guarded(|| {
            if self.memory.is_empty() {
                self.memory = (0..BANDWIDTH_WORDS as u64).collect();
            }
            read_bandwidth(self.multiplier.pool(), &self.memory).map_err(panicked)
        })
    }

    /// For tests: panics on one of the threads, so that they can check that the process survives it.
    #[napi]
    pub fn provoke_panic(&mut self, thread: f64) -> Result<()> {
        guarded(|| {
            let task = |part: usize| assert!(part as f64 != thread, "provoked on thread {part}");
            self.multiplier.pool().run(&task).map_err(panicked)
        })
    }
}

fn multiply_error(error: MultiplyError) -> Error {
    match error {
        MultiplyError::Shape(_) => invalid(error),
        MultiplyError::Panicked(cause) => panicked(cause),
    }
}
