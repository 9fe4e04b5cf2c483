// Marks the inputs of a linear if a value is not finite. By integers: of a sum of such values a compiler may make anything.
struct Call {
  // Rows that are checked, and the first of them.
  tokens: u32,
  first: u32,
  cols: u32,
  // The place of the mark.
  mark: u32,
}
@group(0) @binding(0) var<uniform> call: Call;
// [.., cols], as the bits of f32.
@group(1) @binding(0) var<storage, read> inputs: array<u32>;
// 1: not finite.
@group(1) @binding(1) var<storage, read_write> marks: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= call.cols) { return; }
  var largest = 0u;
  for (var token = call.first; token < call.first + call.tokens; token++) {
    largest = max(largest, inputs[token * call.cols + id.x] & 0x7fffffffu);
  }
  if (largest >= 0x7f800000u) { atomicMax(&marks[call.mark], 1u); }
}
