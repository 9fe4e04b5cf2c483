// E H, [rows, cols] f32, a product of matrices: a workgroup computes a tile of 64 rows and 64 columns, a thread 4 × 4
// of it. 256 products are added one after another, then their sum to the others, which rounds less than one sum of all.
// Each number has the same bits whatever rows are beside it.
const TILE = 64u;
const DEPTH = 16u;
// Steps of DEPTH columns that are added before their sum is added to the others.
const RUN = 16u;

// E, [DEPTH, TILE]: transposed. H, [DEPTH, TILE].
var<workgroup> errors: array<f32, 1024>;
var<workgroup> moments: array<f32, 1024>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let cols = shape.cols;
  let first_row = id.y * TILE;
  let first_col = id.x * TILE;
  let own_row = 4u * (thread / 16u);
  let own_col = 4u * (thread % 16u);
  var sums: array<vec4<f32>, 4>;
  var parts: array<vec4<f32>, 4>;
  var step = 0u;
  for (var from_col = 0u; from_col < cols; from_col += DEPTH) {
    for (var index = thread; index < TILE * DEPTH; index += 256u) {
      errors[(index % DEPTH) * TILE + index / DEPTH] = pruned(first_row + index / DEPTH, from_col + index % DEPTH);
      let from_row = from_col + index / TILE;
      let col = first_col + index % TILE;
      var value = 0.0;
      if (from_row < cols && col < cols) { value = moment(from_row, col); }
      moments[index] = value;
    }
    workgroupBarrier();
    for (var depth = 0u; depth < DEPTH; depth++) {
      let at = depth * TILE + own_col;
      let values = vec4<f32>(moments[at], moments[at + 1u], moments[at + 2u], moments[at + 3u]);
      for (var row = 0u; row < 4u; row++) { parts[row] += errors[depth * TILE + own_row + row] * values; }
    }
    workgroupBarrier();
    step++;
    if (step % RUN == 0u) {
      for (var row = 0u; row < 4u; row++) {
        sums[row] += parts[row];
        parts[row] = vec4<f32>();
      }
    }
  }
  for (var row = 0u; row < 4u; row++) {
    let sum = sums[row] + parts[row];
    for (var col = 0u; col < 4u; col++) {
      let to_row = first_row + own_row + row;
      let to_col = first_col + own_col + col;
      if (to_row < rows && to_col < cols) { gradient[to_row * cols + to_col] = sum[col]; }
    }
  }
}

fn pruned(row: u32, col: u32) -> f32 {
  let cols = shape.cols;
  if (row >= rows || col >= cols) { return 0.0; }
  let word = bits[row * ((cols + 31u) / 32u) + col / 32u];
  return select(0.0, weights[row * cols + col], ((word >> (col % 32u)) & 1u) == 0u);
}
