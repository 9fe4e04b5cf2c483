// All spans of a token, in order. Groups: (heads, rows).
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = id.x;
  let row = call.first + id.y;
  let start = (row * HEADS + head) * HEAD_DIM;
  load_query(start, thread);
  var all: Attended;
  for (var span = 0u; span <= step[call.positions + row] / SPAN; span++) {
    let later = attend(row, head, span, thread);
    if (span == 0u) { all = later; } else { all = joined(all, later); }
  }
  @dims if (thread + {i}u * CHUNK < HEAD_DIM) { out[start + thread + {i}u * CHUNK] = all.sum{i} / all.total; }
}
