// Adds rows to the residual stream.
struct Call {
  // The row of the stream that the first of them is added to.
  first: u32,
}
@group(0) @binding(0) var<uniform> call: Call;
// [rows, HIDDEN] f32
@group(1) @binding(0) var<storage, read> added: array<f32>;
@group(1) @binding(1) var<storage, read_write> stream: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= HIDDEN) { return; }
  stream[(call.first + id.y) * HIDDEN + id.x] += added[id.y * HIDDEN + id.x];
}
