// The outputs X Wᵀ of a linear of a block, of some rows of X and of W, f32. An output has the same bits whatever is computed
// beside it.
struct Call {
  // Rows of X that are multiplied, and the first of them.
  tokens: u32,
  first_input: u32,
  // The row of the outputs that the first of them is written to.
  first_output: u32,
  // Columns of W, and all its rows: columns of the outputs.
  cols: u32,
  rows: u32,
  // The first row and the end of the rows of W that are multiplied.
  first_row: u32,
  end_row: u32,
  // The row of W that `weights` begins with.
  part_row: u32,
}
@group(0) @binding(0) var<uniform> call: Call;
// X, [.., cols].
@group(1) @binding(0) var<storage, read> inputs: array<f32>;
// Rows of W, [.., cols].
@group(1) @binding(1) var<storage, read> weights: array<f32>;
// [.., rows]
@group(1) @binding(2) var<storage, read_write> outputs: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let corner = vec2<u32>(0u, call.first_row) + TILE * id.yx;
  var sums = tile_product(corner, call.cols, thread);
  for (var token = 0u; token < 4u; token++) {
    for (var row = 0u; row < 4u; row++) {
      let to = corner + own_corner(thread) + vec2<u32>(token, row);
      if (to.x < call.tokens && to.y < call.end_row) {
        outputs[(call.first_output + to.x) * call.rows + to.y] = sums[token][row];
      }
    }
  }
}

// Writes rows of X and of W, both transposed. The terms are columns.
fn fill(corner: vec2<u32>, term: u32, thread: u32) {
  for (var index = thread; index < TILE * DEPTH; index += 256u) {
    let place = index / DEPTH;
    let col = term + index % DEPTH;
    var input = 0.0;
    var weight = 0.0;
    if (col < call.cols) {
      let token = corner.x + place;
      let row = corner.y + place;
      if (token < call.tokens) { input = inputs[(call.first_input + token) * call.cols + col]; }
      if (row < call.end_row) { weight = weights[(row - call.part_row) * call.cols + col]; }
    }
    left[(index % DEPTH) * TILE + place] = input;
    right[(index % DEPTH) * TILE + place] = weight;
  }
}
