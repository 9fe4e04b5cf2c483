// Adds Xᵀ X of the rows of X to the second moment H [cols, cols] f32, its upper triangle: a product of matrices. A workgroup
// computes a tile of 64 rows and 64 columns, a thread 4 × 4 of it. 256 products are added one after another, then their sum
// to the others, and the sum of all to H, which rounds less than one sum of all.
struct Shape {
  // Rows of X.
  tokens: u32,
  cols: u32,
  // The first row and the end of the rows of H that are summed, the first one a multiple of TILE.
  first_row: u32,
  end_row: u32,
  // The row of H that `moment` begins with.
  part_row: u32,
}
@group(0) @binding(0) var<uniform> shape: Shape;
// X, [tokens, cols] f32.
@group(1) @binding(0) var<storage, read> inputs: array<f32>;
// Rows of H.
@group(1) @binding(1) var<storage, read_write> moment: array<f32>;

const TILE = 64u;
const DEPTH = 16u;
// Steps of DEPTH tokens that are added before their sum is added to the others.
const RUN = 16u;

// The columns of X that are the rows and the columns of the tile, [DEPTH, TILE] each.
var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<f32, 1024>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first_row = shape.first_row + id.y * TILE;
  let first_col = id.x * TILE;
  if (first_col < first_row) { return; }
  let own_row = 4u * (thread / 16u);
  let own_col = 4u * (thread % 16u);
  var sums: array<vec4<f32>, 4>;
  var parts: array<vec4<f32>, 4>;
  var step = 0u;
  for (var from_token = 0u; from_token < shape.tokens; from_token += DEPTH) {
    for (var index = thread; index < TILE * DEPTH; index += 256u) {
      let token = from_token + index / TILE;
      left[index] = input(token, first_row + index % TILE);
      right[index] = input(token, first_col + index % TILE);
    }
    workgroupBarrier();
    for (var depth = 0u; depth < DEPTH; depth++) {
      let at = depth * TILE + own_col;
      let values = vec4<f32>(right[at], right[at + 1u], right[at + 2u], right[at + 3u]);
      for (var row = 0u; row < 4u; row++) { parts[row] += left[depth * TILE + own_row + row] * values; }
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
      if (to_row < shape.end_row && to_col < shape.cols) {
        moment[(to_row - shape.part_row) * shape.cols + to_col] += sum[col];
      }
    }
  }
}

fn input(token: u32, col: u32) -> f32 {
  if (token >= shape.tokens || col >= shape.cols) { return 0.0; }
  return inputs[token * shape.cols + col];
}
