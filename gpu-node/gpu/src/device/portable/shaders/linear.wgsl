// y[token, row] (+)= Σ_col weight[row, col] · x[token, col] for one block of 32 rows and one tile of tokens.
//
// A lane is a row. The 8 slices of 32 lanes take groups of columns in turn, and their sums are added in the order of the
// slices, so that results repeat to the bit, whatever the tile. Lines that begin with `@quad` are repeated for each quad
// `{q}` of tokens; lines with `@staged` belong to tiles that copy their inputs into shared memory first. `Sums` is an f32 for
// one token, a vec4 for a quad.
struct Shape {
  rows: u32,
  cols: u32,
  groups: u32,
  // The row of y that the first row goes to, and the rows of y.
  first: u32,
  stride: u32,
  // 1 adds to y.
  add: u32,
}
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(2) var<uniform> shape: Shape;

// The inputs of a stage, [slice][column][quad], and later the sums, [slice][lane].
var<workgroup> local: array<Sums, LOCAL>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let lane = thread & 31u;
  let slice = thread >> 5u;
  let block = id.x;
  let token = id.y * TOKENS;
  let cols = shape.cols;
  // Tokens after the last one repeat it, and are not stored.
  let last = call.rows - 1u;
  @token let x{i} = min(token + {i}u, last) * cols;
  @quad var sum{q} = Sums(0.0);
  for (var turn = 0u; turn < shape.groups; turn += 8u) {
    let group = turn + slice;
    let at = block * shape.groups + group;
    let start = group * GROUP;
    let end = select(start, min(start + GROUP, cols), group < shape.groups);
    {{open}}
    for (var stage = 0u; stage < GROUP; stage += STAGE) {
      let from_col = start + stage;
      let to_col = min(from_col + STAGE, end);
      @staged let copied = min(from_col + lane, cols - 1u);
      @staged workgroupBarrier();
      @staged @quad local[(slice * STAGE + lane) * QUADS + {q}u] = {{copied}};
      @staged workgroupBarrier();
      {{columns}}
    }
    {{close}}
  }
  let row = block * 32u + lane;
  @quad workgroupBarrier();
  @quad local[thread] = sum{q};
  @quad workgroupBarrier();
  @quad if (slice == 0u && row < shape.rows) {
  @quad   var total = local[lane];
  @quad   for (var other = 1u; other < 8u; other++) { total += local[other * 32u + lane]; }
  @quad   store{q}(token, row, total);
  @quad }
}

fn put(token: u32, row: u32, sum: f32) {
  if (token >= call.rows) { return; }
  let at = token * shape.stride + shape.first + row;
  if (shape.add == 1u) { y[at] += sum; } else { y[at] = sum; }
}
{{stores}}
