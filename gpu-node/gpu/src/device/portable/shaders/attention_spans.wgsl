// One span of a token, which is stored as its sums, its largest score and its total, [spans, HEADS, HEAD_DIM + 2]. The picks of
// the call are the number of spans before each row and of all rows, and then the row of each span. Groups: (heads, spans).
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = id.x;
  let row = step[call.picks + call.rows + 1u + id.y];
  load_query((row * HEADS + head) * HEAD_DIM, thread);
  let all = attend(row, head, id.y - step[call.picks + row], thread);
  let place = (id.y * HEADS + head) * (HEAD_DIM + 2u);
  @dims if (thread + {i}u * CHUNK < HEAD_DIM) { out[place + thread + {i}u * CHUNK] = all.sum{i}; }
  if (thread == 0u) {
    out[place + HEAD_DIM] = all.best;
    out[place + HEAD_DIM + 1u] = all.total;
  }
}
