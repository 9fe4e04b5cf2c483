// The inputs of every kernel of a step: `step` holds the data that was uploaded for it, `call` the places in it.
struct Call {
  // Rows that the kernel works on.
  rows: u32,
  // Places in `step`, one word for each row of the batch: the token; its position; the place of its page table.
  tokens: u32,
  positions: u32,
  tables: u32,
  // Place of the cosines and sines, f32, [rows, HEAD_DIM].
  angles: u32,
  // Place of the picked rows, or of the scores to compute.
  picks: u32,
  // First row of a sum or of attention, and 1 if the sum starts at 0.
  first: u32,
  reset: u32,
  // Always 0, which no compiler knows.
  zero: u32,
}
@group(0) @binding(0) var<uniform> call: Call;
@group(0) @binding(1) var<storage, read> step: array<u32>;
