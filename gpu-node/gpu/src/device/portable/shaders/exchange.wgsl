// The buffers of every kernel that refines a mask. H is the second moment [cols, cols] f32, symmetric, in parts of
// `part_rows` rows; `moment_at(part, at)` reads a part. A piece is some rows of the linear. H and each row of W are
// scaled by powers of two, so that no value is above 1.
struct Shape {
  cols: u32,
  // Columns of a group: both weights of an exchange are in the same group. 0: anywhere in the row.
  group: u32,
  part_rows: u32,
}
@group(1) @binding(5) var<uniform> shape: Shape;
// The diagonal of H, [cols] f32.
@group(1) @binding(6) var<storage, read> diagonal: array<f32>;
// Rows of the piece.
@group(1) @binding(0) var<uniform> rows: u32;
// W, [rows, cols] f32.
@group(1) @binding(1) var<storage, read> weights: array<f32>;
// The mask, [rows, ceil(cols / 32)] words: a weight is kept where its bit is 1.
@group(1) @binding(2) var<storage, read_write> bits: array<u32>;
// E H, [rows, cols] f32; E is W where it is pruned, and 0 elsewhere.
@group(1) @binding(3) var<storage, read_write> gradient: array<f32>;
// For each row the least gain of an exchange, and its error e H eᵀ.
@group(1) @binding(4) var<storage, read_write> figures: array<vec2<f32>>;

// H at a row and a column.
fn moment(row: u32, col: u32) -> f32 {
  let part = row / shape.part_rows;
  return moment_at(part, (row - part * shape.part_rows) * shape.cols + col);
}
