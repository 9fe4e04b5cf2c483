// Attention of one query head of one token over the pages of its sequence, with an online softmax (Milakov and Gimelshein
// 2018): 64 positions at a time, in order, so that the result depends on the token alone.
@group(1) @binding(0) var<storage, read> queries: array<f32>;
@group(1) @binding(1) var<storage, read> key_pages: array<u32>;
@group(1) @binding(2) var<storage, read> value_pages: array<u32>;
@group(1) @binding(3) var<storage, read_write> out: array<f32>;

const CHUNK = 64u;
// Lower than any score.
const LOWEST = -3.4028234e38;

var<workgroup> query: array<f32, HEAD_DIM>;
var<workgroup> scores: array<f32, CHUNK>;
var<workgroup> weights: array<f32, CHUNK>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = id.x;
  let row = call.first + id.y;
  let kv_head = head / (HEADS / KV_HEADS);
  let position = step[call.positions + row];
  let table = step[call.tables + row];
  let start = (row * HEADS + head) * HEAD_DIM;
  for (var dim = thread; dim < HEAD_DIM; dim += CHUNK) { query[dim] = queries[start + dim]; }
  workgroupBarrier();
  var best = LOWEST;
  var total = 0.0;
  // A thread sums the elements thread, thread + 64, … of the head.
  @dims var sum{i} = 0.0;
  for (var first = 0u; first <= position; first += CHUNK) {
    let count = min(CHUNK, position - first + 1u);
    var score = LOWEST;
    if (thread < count) {
      let page = step[table + (first + thread) / 16u];
      let keys = (page * KV_HEADS + kv_head) * HALF * 16u + (first + thread) % 16u;
      score = 0.0;
      for (var word = 0u; word < HALF; word++) {
        let pair = unpack2x16float(key_pages[keys + word * 16u]);
        score = fma(query[2u * word], pair.x, score);
        score = fma(query[2u * word + 1u], pair.y, score);
      }
    }
    scores[thread] = score;
    workgroupBarrier();
    var largest = best;
    // A NaN is never the largest score. Its weight is NaN, and so are the sums.
    for (var at = 0u; at < count; at++) { if (scores[at] > largest) { largest = scores[at]; } }
    if (thread < count) { weights[thread] = exp(score - largest); }
    workgroupBarrier();
    let decay = exp(best - largest);
    best = largest;
    total *= decay;
    @dims sum{i} *= decay;
    for (var at = 0u; at < count; at++) {
      let weight = weights[at];
      total += weight;
      let page = step[table + (first + at) / 16u];
      let values = ((page * KV_HEADS + kv_head) * 16u + (first + at) % 16u) * HALF;
      @dims if (thread + {i}u * CHUNK < HEAD_DIM) {
      @dims   let dim{i} = thread + {i}u * CHUNK;
      @dims   let pair{i} = unpack2x16float(value_pages[values + dim{i} / 2u]);
      @dims   sum{i} = fma(weight, select(pair{i}.x, pair{i}.y, (dim{i} & 1u) == 1u), sum{i});
      @dims }
    }
  }
  @dims if (thread + {i}u * CHUNK < HEAD_DIM) { out[start + thread + {i}u * CHUNK] = sum{i} / total; }
}
