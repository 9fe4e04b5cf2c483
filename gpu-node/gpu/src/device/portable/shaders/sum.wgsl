// Adds rows to a sum, [HIDDEN], by compensated summation (Kahan 1965). The second half of `sums` holds the rounding
// errors. `opaque` keeps compilers from simplifying the errors to 0, as Mesa's does.
@group(1) @binding(0) var<storage, read> rows: array<f32>;
@group(1) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let col = id.x;
  if (col >= HIDDEN) { return; }
  var sum = 0.0;
  var error = 0.0;
  if (call.reset == 0u) {
    sum = sums[col];
    error = sums[HIDDEN + col];
  }
  for (var row = call.first; row < call.first + call.rows; row++) {
    let value = rows[row * HIDDEN + col] - error;
    let next = opaque(sum + value);
    error = opaque(next - sum) - value;
    sum = next;
  }
  sums[col] = sum;
  sums[HIDDEN + col] = error;
}

fn opaque(value: f32) -> f32 { return bitcast<f32>(bitcast<u32>(value) ^ call.zero); }
