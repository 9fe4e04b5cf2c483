use super::{MAX_COLS, kernel_of, range_of, require_apart};
use copal_native::engine_binding::errors::{Result, guarded, invalid};
use copal_native::engine_binding::fields::read;
use copal_native::rounding::{RowsToRound, round_to_int4};
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

/// More threads than a machine has processors help nobody.
const MAX_THREADS: usize = 1 << 10;

/// Rounds the rows that the arrays hold; blocks its thread.
#[napi]
pub fn round_to_int4_rows(options: Unknown<'_>) -> Result<()> {
    guarded(|| {
        let [kernel, threads, cols, values, bits, moment, damping, gradient] = read(
            &options,
            [c"kernel", c"threads", c"cols", c"values", c"bits", c"moment", c"damping", c"gradient"],
        )?;
        let kernel = kernel_of(kernel)?;
        let (threads, cols) = (threads.count(MAX_THREADS)?, cols.count(MAX_COLS)?);
        let damping = damping.number()?;
        if !(damping >= 0.0 && damping.is_finite()) {
            return Err(invalid("damping must be a number of at least 0"));
        }
        let (bits, moment) = (bits.u8_array()?, moment.f64_array()?);
        let (mut values, mut gradient) = (values.f32_array()?, gradient.f64_array()?);
        let inputs = [range_of(&bits), range_of(&moment)];
        require_apart("values", range_of(&values), inputs.iter().chain([&range_of(&gradient)]))?;
        require_apart("gradient", range_of(&gradient), &inputs)?;
        // SAFETY: neither array overlaps the other or an input, and this call runs no more JavaScript before it
        // returns. The caller lets no thread write to the inputs meanwhile.
        let (values, gradient) = unsafe { (values.as_mut(), gradient.as_mut()) };
        let rows = RowsToRound { cols, values, bits: &bits, moment: &moment, damping, gradient };
        round_to_int4(kernel, rows, threads).map_err(invalid)
    })
}
