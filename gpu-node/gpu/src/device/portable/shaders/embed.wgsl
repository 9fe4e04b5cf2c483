// Copies the embedding of each token of a batch into the residual stream. The table is a dense bf16 matrix, perhaps in
// parts; a part skips the tokens of other parts.
struct Shape { rows: u32, cols: u32, groups: u32, first: u32 }
@group(1) @binding(0) var<storage, read> words: array<u32>;
@group(1) @binding(1) var<storage, read_write> stream: array<f32>;
@group(1) @binding(2) var<uniform> shape: Shape;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let col = id.x;
  let token = step[call.tokens + id.y];
  if (col >= shape.cols || token < shape.first || token - shape.first >= shape.rows) { return; }
  let row = token - shape.first;
  let at = (row >> 5u) * shape.groups + col / 64u;
  let word = words[(at * 32u + (col & 63u) / 2u) * 32u + (row & 31u)];
  stream[id.y * shape.cols + col] = bitcast<f32>((word >> ((col & 1u) * 16u)) << 16u);
}
