// gate ← silu(gate) · up (Shazeer 2020).
@group(1) @binding(0) var<storage, read_write> gate: array<f32>;
@group(1) @binding(1) var<storage, read> up: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= INTERMEDIATE) { return; }
  let at = id.y * INTERMEDIATE + id.x;
  let value = gate[at];
  gate[at] = value / (1.0 + exp(-value)) * up[at];
}
