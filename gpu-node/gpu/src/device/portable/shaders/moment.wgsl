// Adds Xᵀ X of the rows of X to the second moment H [cols, cols] f32, its upper triangle. The sum of all products is added to
// H at once.
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
@group(1) @binding(0) var<uniform> shape: Shape;
// X, [tokens, cols] f32.
@group(1) @binding(1) var<storage, read> inputs: array<f32>;
// Rows of H.
@group(1) @binding(2) var<storage, read_write> moment: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let corner = vec2<u32>(shape.first_row, 0u) + TILE * id.yx;
  if (corner.y < corner.x) { return; }
  var sums = tile_product(corner, shape.tokens, thread);
  for (var row = 0u; row < 4u; row++) {
    for (var col = 0u; col < 4u; col++) {
      let to = corner + own_corner(thread) + vec2<u32>(row, col);
      if (to.x < shape.end_row && to.y < shape.cols) {
        moment[(to.x - shape.part_row) * shape.cols + to.y] += sums[row][col];
      }
    }
  }
}

// Writes the columns of X that are the rows and the columns of the tile. The terms are tokens.
fn fill(corner: vec2<u32>, term: u32, thread: u32) {
  for (var index = thread; index < TILE * DEPTH; index += 256u) {
    let token = term + index / TILE;
    left[index] = input(token, corner.x + index % TILE);
    right[index] = input(token, corner.y + index % TILE);
  }
}

fn input(token: u32, col: u32) -> f32 {
  if (token >= shape.tokens || col >= shape.cols) { return 0.0; }
  return inputs[token * shape.cols + col];
}
