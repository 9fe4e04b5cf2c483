use super::{count, guarded, invalid};
use crate::cpu::Implementation;
use crate::engine::{Cuts, LogitFault, Sampler};
use napi::bindgen_prelude::{Float32ArraySlice, Result};
use napi::{Error, Status};
use napi_derive::napi;

/// Tokens of a vocabulary, more than any has.
const MOST_VOCAB: usize = 1 << 24;

/// The loops over a vocabulary that choose a token.
#[napi(js_name = "Sampler")]
pub struct JsSampler {
    sampler: Sampler,
}

#[napi]
impl JsSampler {
    /// For logits `[vocab]`, by the loops that go with the kernel called `kernel`, or with the machine's best.
    #[napi(constructor)]
    pub fn new(kernel: Option<String>, vocab: f64) -> Result<JsSampler> {
        guarded(|| {
            let kernel = Implementation::select(kernel.as_deref()).map_err(invalid)?;
            Ok(JsSampler { sampler: Sampler::new(kernel, count("vocab", vocab, MOST_VOCAB)?) })
        })
    }

    /// Natural logarithm of the sum of the exponentials of the logits.
    #[napi]
    pub fn log_sum_exp(&mut self, logits: Float32ArraySlice<'_>) -> Result<f64> {
        guarded(|| {
            self.check(&logits)?;
            self.sampler.log_sum_exp(&logits).map_err(fault)
        })
    }

    /// A token of the logits.
    #[napi]
    pub fn draw(
        &mut self,
        logits: Float32ArraySlice<'_>,
        temperature: f64,
        min_p: f64,
        top_k: f64,
        top_p: f64,
        chance: f64,
    ) -> Result<f64> {
        guarded(|| {
            self.check(&logits)?;
            if !(temperature >= 0.0 && temperature.is_finite()) {
                return Err(invalid(format!("temperature must be a number from 0, not {temperature}")));
            }
            for (name, part) in [("minP", min_p), ("topP", top_p), ("chance", chance)] {
                if !(0.0..=1.0).contains(&part) {
                    return Err(invalid(format!("{name} must be a number from 0 to 1, not {part}")));
                }
            }
            if top_k < 0.0 || top_k.fract() != 0.0 {
                return Err(invalid(format!("topK must be a whole number from 0, not {top_k}")));
            }
            let top_k = top_k as usize;
            let token = self.sampler.draw(&logits, Cuts { temperature, min_p, top_k, top_p }, chance);
            token.map(|token| token as f64).map_err(fault)
        })
    }

    fn check(&self, logits: &[f32]) -> Result<()> {
        let vocab = self.sampler.vocab();
        match logits.len() == vocab {
            true => Ok(()),
            false => Err(invalid(format!("{} logits are not those of {vocab} tokens", logits.len()))),
        }
    }
}

fn fault(fault: LogitFault) -> Error {
    Error::new(Status::GenericFailure, fault.to_string())
}
