// Root mean square norm of rows (Zhang and Sennrich 2019): x / sqrt(mean(x²) + EPS) · gamma.
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read> gamma: array<f32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

var<workgroup> squares: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  {{row}}
  var sum = 0.0;
  for (var col = thread; col < HIDDEN; col += 256u) {
    let value = x[row * HIDDEN + col];
    sum = fma(value, value, sum);
  }
  squares[thread] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half >>= 1u) {
    if (thread < half) { squares[thread] += squares[thread + half]; }
    workgroupBarrier();
  }
  let scale = 1.0 / sqrt(squares[0] / f32(HIDDEN) + EPS);
  for (var col = thread; col < HIDDEN; col += 256u) {
    out[id.x * HIDDEN + col] = x[row * HIDDEN + col] * scale * gamma[col];
  }
}
