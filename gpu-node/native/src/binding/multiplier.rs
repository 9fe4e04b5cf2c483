use super::matrix::JsMatrix;
use super::{MOST_THREADS, count, guarded, invalid};
use crate::cpu::Implementation;
use crate::kernels::{Encoding, MAX_ACTIVATIONS, Multiplier, MultiplyError};
use crate::measure::{read_bandwidth, time_pass};
use crate::pool::{Panicked, Pool};
use napi::bindgen_prelude::{ClassInstance, Error, Float32ArraySlice, Result, Status};
use napi_derive::napi;
use std::sync::Arc;

/// Larger than any cache.
const BANDWIDTH_WORDS: usize = 32 << 20;

/// A kernel on threads of its own.
#[napi(js_name = "Multiplier")]
pub struct JsMultiplier {
    multiplier: Multiplier,
    threads: usize,
    /// What the bandwidth is measured on; allocated when it is first asked for.
    memory: Vec<u64>,
}

#[napi]
impl JsMultiplier {
    /// The kernel called `kernel`, or the machine's best, on `threads` threads, the caller's among
    /// them, with room for `maxTokens` tokens and matrices of up to `maxCols` columns.
    #[napi(constructor)]
    pub fn new(kernel: Option<String>, threads: f64, max_tokens: f64, max_cols: f64) -> Result<JsMultiplier> {
        guarded(|| {
            let kernel = Implementation::select(kernel.as_deref()).map_err(invalid)?;
            let threads = count("threads", threads, MOST_THREADS)?;
            let max_tokens = count("maxTokens", max_tokens, MAX_ACTIVATIONS)?;
            let max_cols = count("maxCols", max_cols, MAX_ACTIVATIONS)?;
            let pool = Pool::new(threads).map_err(|error| {
                Error::new(Status::GenericFailure, format!("cannot start {threads} threads: {error}"))
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

    /// Threads that share a multiplication.
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
        // SAFETY: the memory is that of a typed array of this call, which runs no JavaScript before it
        // returns, and it is apart from the only other array. What another thread does to a
        // SharedArrayBuffer meanwhile can only change numbers.
        let outputs = unsafe { outputs.as_mut() };
        guarded(|| {
            let matrix = &matrix.matrix;
            self.multiplier
                .encode(Encoding::of(matrix.format()), matrix.cols(), &inputs)
                .and_then(|()| self.multiplier.multiply(matrix, outputs))
                .map_err(multiply_error)
        })
    }

    /// Seconds of encoding and of multiplying every matrix once, by `tokens` tokens.
    #[napi]
    pub fn time_pass(&mut self, matrices: Vec<ClassInstance<'_, JsMatrix>>, tokens: f64) -> Result<Vec<f64>> {
        guarded(|| {
            let tokens = count("tokens", tokens, MAX_ACTIVATIONS)?;
            let matrices: Vec<_> = matrices.iter().map(|matrix| Arc::clone(&matrix.matrix)).collect();
            let time = time_pass(&mut self.multiplier, &matrices, tokens).map_err(multiply_error)?;
            Ok(vec![time.encode_s, time.multiply_s])
        })
    }

    /// Bytes a second that the threads read of 256 MiB.
    #[napi]
    pub fn read_bandwidth(&mut self) -> Result<f64> {
        guarded(|| {
            if self.memory.is_empty() {
                self.memory = (0..BANDWIDTH_WORDS as u64).collect();
            }
            read_bandwidth(self.multiplier.pool(), &self.memory).map_err(panicked)
        })
    }

    /// Panics on purpose on one of the threads: how tests know that the process outlives it.
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

fn panicked(error: Panicked) -> Error {
    Error::new(Status::GenericFailure, error.to_string())
}
