// The error e H eᵀ of each row, from its gradient e H. A workgroup takes a row.
var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let cols = shape.cols;
  let words = (cols + 31u) / 32u;
  var sum = 0.0;
  for (var col = thread; col < cols; col += 256u) {
    let keeps = ((bits[id.x * words + col / 32u] >> (col % 32u)) & 1u) == 1u;
    if (!keeps) { sum += weights[id.x * cols + col] * gradient[id.x * cols + col]; }
  }
  sums[thread] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half >>= 1u) {
    if (thread < half) { sums[thread] += sums[thread + half]; }
    workgroupBarrier();
  }
  if (thread == 0u) { figures[id.x].y = sums[0]; }
}
