use super::{count, guarded, invalid};
use crate::cpu::Implementation;
use crate::exchange::{RowsToRefine, refine};
use napi::bindgen_prelude::{Float32ArraySlice, Float64ArraySlice, Result, Uint8ArraySlice};
use napi_derive::napi;
use std::ops::Range;

/// H of a row of more would take 128 GiB.
const MOST_COLS: usize = 1 << 17;

/// Refines the rows that the arrays hold; blocks its thread.
#[napi(js_name = "swapRows")]
#[allow(clippy::too_many_arguments, reason = "as addon.d.ts lists them")]
pub fn swap_rows_of(
    kernel: Option<String>,
    cols: f64,
    group: Option<f64>,
    weights: Float32ArraySlice<'_>,
    moment: Float64ArraySlice<'_>,
    mut bits: Uint8ArraySlice<'_>,
    gradient: Float64ArraySlice<'_>,
    mut errors: Float64ArraySlice<'_>,
    floor: f64,
) -> Result<()> {
    guarded(|| {
        let kernel = Implementation::select(kernel.as_deref()).map_err(invalid)?;
        let cols = count("cols", cols, MOST_COLS)?;
        let group = group.map(|group| count("group", group, MOST_COLS)).transpose()?;
        if floor.is_nan() {
            return Err(invalid("floor must be a number"));
        }
        let read = [bytes(&weights), bytes(&moment), bytes(&gradient)];
        apart("bits", bytes(&bits), read.iter().chain([&bytes(&errors)]))?;
        apart("errors", bytes(&errors), &read)?;
        // SAFETY: both arrays are apart from each other and from what is read, and this call runs no
        // JavaScript before it returns. Other threads may refine other rows in the same buffers: no
        // array here reaches there, but for the weights, H and gradients, which nobody writes meanwhile.
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

/// Where an array lies.
fn bytes<T>(values: &[T]) -> Range<usize> {
    let Range { start, end } = values.as_ptr_range();
    start.addr()..end.addr()
}

/// Refuses an array that is written to and shares memory with another.
fn apart<'a>(
    name: &str,
    written: Range<usize>,
    others: impl IntoIterator<Item = &'a Range<usize>>,
) -> Result<()> {
    match others.into_iter().any(|other| written.start < other.end && other.start < written.end) {
        true => Err(invalid(format!("{name} shares memory with another array; give it its own"))),
        false => Ok(()),
    }
}
