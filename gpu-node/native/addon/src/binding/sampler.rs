use super::kernel_of;
use copal_native::engine::{Cuts, LogitFault, Sampler};
use copal_native::engine_binding::errors::{Code, Error, Result, error, guarded, invalid};
use copal_native::engine_binding::fields::read;
use napi::bindgen_prelude::{Float32ArraySlice, Float64ArraySlice, Unknown};
use napi_derive::napi;

/// Larger than any vocabulary.
const MAX_VOCAB: usize = 1 << 24;

/// The loops over a vocabulary that choose a token.
#[napi(js_name = "Sampler")]
pub struct JsSampler {
    sampler: Sampler,
}

#[napi]
impl JsSampler {
    /// A sampler of logits `[vocabSize]`, in vectors of the instruction set that the kernel uses.
    #[napi(constructor)]
    pub fn new(options: Unknown<'_>) -> Result<JsSampler> {
        guarded(|| {
            let [kernel, vocab_size] = read(&options, [c"kernel", c"vocabSize"])?;
            Ok(JsSampler { sampler: Sampler::new(kernel_of(kernel)?, vocab_size.count(MAX_VOCAB)?) })
        })
    }

    /// Natural logarithm of the sum of the exponentials of the logits.
    #[napi]
    pub fn log_sum_exp(&mut self, logits: Float32ArraySlice<'_>) -> Result<f64> {
        guarded(|| {
            self.check(&logits)?;
            self.sampler.log_sum_exp(&logits).map_err(logit_error)
        })
    }

    /// Draws a token. The settings are a typed array that the caller reuses, because this runs once per generated token
    /// and reading the properties of an object takes longer.
    #[napi]
    pub fn draw(&mut self, logits: Float32ArraySlice<'_>, settings: Float64ArraySlice<'_>) -> Result<f64> {
        guarded(|| {
            self.check(&logits)?;
            let (cuts, chance) = read_settings(&settings)?;
            let token = self.sampler.draw(&logits, cuts, chance);
            token.map(|token| token as f64).map_err(logit_error)
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

/// The settings in the order that `addon.d.ts` gives.
fn read_settings(settings: &[f64]) -> Result<(Cuts, f64)> {
    let &[temperature, min_p, top_k, top_p, chance] = settings else {
        return Err(invalid(format!("settings has {} numbers; 5 are expected", settings.len())));
    };
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
    Ok((Cuts { temperature, min_p, top_k: top_k as usize, top_p }, chance))
}

fn logit_error(fault: LogitFault) -> Error {
    error(Code::InvalidLogits, fault)
}
