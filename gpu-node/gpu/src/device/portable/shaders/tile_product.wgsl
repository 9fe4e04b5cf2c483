// Products of matrices by tiles: a workgroup computes a tile of 64 rows and 64 columns, a thread 4 × 4 of it. 256 products
// are added one after another, then their sum to the others, which rounds less than one sum of all.
//
// The kernel has `fill(corner, term, thread)`, which writes `left` and `right` of DEPTH terms from `term` on, for the tile at
// `corner`, its first row and column.
const TILE = 64u;
const DEPTH = 16u;
// Steps of DEPTH terms that are added before their sum is added to the others.
const RUN = 16u;

// Of each term the rows and the columns of the tile, [DEPTH, TILE].
var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<f32, 1024>;

// The row and the column of a thread's 4 × 4 within the tile.
fn own_corner(thread: u32) -> vec2<u32> { return 4u * vec2<u32>(thread / 16u, thread % 16u); }

// The sums of `terms` products, of a thread's 4 rows.
fn tile_product(corner: vec2<u32>, terms: u32, thread: u32) -> array<vec4<f32>, 4> {
  let own = own_corner(thread);
  var sums: array<vec4<f32>, 4>;
  var parts: array<vec4<f32>, 4>;
  var step = 0u;
  for (var term = 0u; term < terms; term += DEPTH) {
    fill(corner, term, thread);
    workgroupBarrier();
    for (var depth = 0u; depth < DEPTH; depth++) {
      let at = depth * TILE + own.y;
      let values = vec4<f32>(right[at], right[at + 1u], right[at + 2u], right[at + 3u]);
      for (var row = 0u; row < 4u; row++) { parts[row] += left[depth * TILE + own.x + row] * values; }
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
  for (var row = 0u; row < 4u; row++) { sums[row] += parts[row]; }
  return sums;
}
