// Adds a statistic of some tokens to its sum, [rows, cols] f32: the second moment Xᵀ X, its upper triangle, or the sensitivity
// |Y|ᵀ |X|. The sum of all products is added at once.
struct Call {
  tokens: u32,
  // The rows of the left and of the right factor that belong to the first token.
  first_left: u32,
  first_right: u32,
  // Columns of the left factor: all rows of the statistic.
  rows: u32,
  cols: u32,
  // The first row and the end of the rows of the statistic that are summed.
  first_row: u32,
  end_row: u32,
  // The row of the statistic that `sums` begins with.
  part_row: u32,
  // The first column, a multiple of TILE.
  first_col: u32,
  // 1: the sensitivity.
  is_sensitivity: u32,
}
@group(0) @binding(0) var<uniform> call: Call;
// Y, or X, [.., rows].
@group(1) @binding(0) var<storage, read> left_factor: array<f32>;
// X, [.., cols].
@group(1) @binding(1) var<storage, read> right_factor: array<f32>;
// Rows of the statistic.
@group(1) @binding(2) var<storage, read_write> statistic: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let corner = vec2<u32>(call.first_row, call.first_col) + TILE * id.yx;
  if (call.is_sensitivity == 0u && corner.y < corner.x) { return; }
  var sums = tile_product(corner, call.tokens, thread);
  for (var row = 0u; row < 4u; row++) {
    for (var col = 0u; col < 4u; col++) {
      let to = corner + own_corner(thread) + vec2<u32>(row, col);
      if (to.x < call.end_row && to.y < call.cols) {
        statistic[(to.x - call.part_row) * call.cols + to.y] += sums[row][col];
      }
    }
  }
}

// Writes the columns of both factors that are the rows and the columns of the tile. The terms are tokens.
fn fill(corner: vec2<u32>, term: u32, thread: u32) {
  for (var index = thread; index < TILE * DEPTH; index += 256u) {
    let token = term + index / TILE;
    let row = corner.x + index % TILE;
    let col = corner.y + index % TILE;
    var one = 0.0;
    var other = 0.0;
    if (token < call.tokens) {
      if (row < call.rows) { one = left_factor[(call.first_left + token) * call.rows + row]; }
      if (col < call.cols) { other = right_factor[(call.first_right + token) * call.cols + col]; }
    }
    if (call.is_sensitivity == 1u) {
      one = abs(one);
      other = abs(other);
    }
    left[index] = one;
    right[index] = other;
  }
}
