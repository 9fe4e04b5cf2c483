// Rotates queries or keys in place by the positions of their tokens (Su et al. 2021), the first half of a head paired with the
// second.
struct Call {
  // Heads of a token.
  heads: u32,
}
@group(0) @binding(0) var<uniform> call: Call;
// [tokens, heads, HEAD_DIM] f32
@group(1) @binding(0) var<storage, read_write> states: array<f32>;
// Cosines, then sines, of each position, [positions, 2, HALF] f32.
@group(1) @binding(1) var<storage, read> angles: array<f32>;
// [tokens]
@group(1) @binding(2) var<storage, read> positions: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= call.heads * HALF) { return; }
  let pair = id.x % HALF;
  let low = (id.y * call.heads + id.x / HALF) * HEAD_DIM + pair;
  let angle = positions[id.y] * HEAD_DIM + pair;
  let cosine = angles[angle];
  let sine = angles[angle + HALF];
  let a = states[low];
  let b = states[low + HALF];
  states[low] = a * cosine - b * sine;
  states[low + HALF] = b * cosine + a * sine;
}
