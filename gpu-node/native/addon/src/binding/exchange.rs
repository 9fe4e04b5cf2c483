use super::{MAX_COLS, kernel_of, range_of, require_apart};
use copal_native::engine_binding::errors::{Result, guarded, invalid};
use copal_native::engine_binding::fields::read;
use copal_native::exchange::{RowsToRefine, refine};
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

/// Refines the rows that the arrays hold; blocks its thread.
#[napi]
pub fn exchange_rows(options: Unknown<'_>) -> Result<()> {
    guarded(|| {
        let [kernel, cols, group, weights, moment, bits, gradient, errors, floor] = read(
            &options,
            [c"kernel", c"cols", c"group", c"weights", c"moment", c"bits", c"gradient", c"errors", c"floor"],
        )?;
        let kernel = kernel_of(kernel)?;
        let cols = cols.count(MAX_COLS)?;
        let group = group.optional()?.map(|group| group.count(MAX_COLS)).transpose()?;
        let floor = floor.number()?;
        if floor.is_nan() {
            return Err(invalid("floor must be a number"));
        }
        let (weights, moment, gradient) = (weights.f32_array()?, moment.f64_array()?, gradient.f64_array()?);
        let (mut bits, mut errors) = (bits.u8_array()?, errors.f64_array()?);
        let inputs = [range_of(&weights), range_of(&moment), range_of(&gradient)];
        require_apart("bits", range_of(&bits), inputs.iter().chain([&range_of(&errors)]))?;
        require_apart("errors", range_of(&errors), &inputs)?;
        // SAFETY: neither array overlaps the other or an input, and this call runs no more JavaScript before it
        // returns. Other threads may refine other rows in the same buffers: the arrays here do not reach those,
        // except the weights, moment and gradients, which nobody writes meanwhile.
        let (bits, errors) = unsafe { (bits.as_mut(), errors.as_mut()) };
        let rows = RowsToRefine {
            cols,
            group,
            weights: &weights,
            moment: &moment,
            bits,
            gradient: &gradient,
            errors,
        };
        refine(kernel, rows, floor).map_err(invalid)
    })
}
