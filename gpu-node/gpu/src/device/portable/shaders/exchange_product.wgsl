// E H, [rows, cols] f32. Each number has the same bits whatever rows are beside it.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let cols = shape.cols;
  let corner = TILE * id.yx;
  var sums = tile_product(corner, cols, thread);
  for (var row = 0u; row < 4u; row++) {
    for (var col = 0u; col < 4u; col++) {
      let to = corner + own_corner(thread) + vec2<u32>(row, col);
      if (to.x < rows && to.y < cols) { gradient[to.x * cols + to.y] = sums[row][col]; }
    }
  }
}

// Writes E, transposed, and H. The terms are the columns of E and the rows of H.
fn fill(corner: vec2<u32>, term: u32, thread: u32) {
  let cols = shape.cols;
  for (var index = thread; index < TILE * DEPTH; index += 256u) {
    left[(index % DEPTH) * TILE + index / DEPTH] = pruned(corner.x + index / DEPTH, term + index % DEPTH);
    let row = term + index / TILE;
    let col = corner.y + index % TILE;
    var value = 0.0;
    if (row < cols && col < cols) { value = moment(row, col); }
    right[index] = value;
  }
}

fn pruned(row: u32, col: u32) -> f32 {
  let cols = shape.cols;
  if (row >= rows || col >= cols) { return 0.0; }
  let word = bits[row * ((cols + 31u) / 32u) + col / 32u];
  return select(0.0, weights[row * cols + col], ((word >> (col % 32u)) & 1u) == 0u);
}
