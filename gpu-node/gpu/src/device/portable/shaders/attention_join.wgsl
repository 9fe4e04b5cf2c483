// Adds the spans of a token, in order, as `attention.wgsl` does. Groups: (heads, rows).
@group(1) @binding(0) var<storage, read> spans: array<f32>;
@group(1) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let first = step[call.picks + id.y];
  let end = step[call.picks + id.y + 1u];
  var all = stored(first, id.x, thread);
  for (var index = first + 1u; index < end; index++) { all = joined(all, stored(index, id.x, thread)); }
  let start = (id.y * HEADS + id.x) * HEAD_DIM;
  @dims if (thread + {i}u * 64u < HEAD_DIM) { out[start + thread + {i}u * 64u] = all.sum{i} / all.total; }
}

fn stored(index: u32, head: u32, thread: u32) -> Attended {
  let place = (index * HEADS + head) * (HEAD_DIM + 2u);
  var all: Attended;
  all.best = spans[place + HEAD_DIM];
  all.total = spans[place + HEAD_DIM + 1u];
  @dims if (thread + {i}u * 64u < HEAD_DIM) { all.sum{i} = spans[place + thread + {i}u * 64u]; }
  return all;
}
