// Attention of one query head of one token over the pages of its sequence, span by span. A span is SPAN positions, so that what is
// added to what depends on the position of the token alone. In a span an online softmax (Milakov and Gimelshein 2018) takes 64
// positions at a time, in order.
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

// Reads the query that starts at a place.
fn load_query(start: u32, thread: u32) {
  for (var dim = thread; dim < HEAD_DIM; dim += CHUNK) { query[dim] = queries[start + dim]; }
  workgroupBarrier();
}

// Attention of the query to a span.
fn attend(row: u32, head: u32, span: u32, thread: u32) -> Attended {
  let kv_head = head / (HEADS / KV_HEADS);
  let end = min((span + 1u) * SPAN, step[call.positions + row] + 1u);
  let table = step[call.tables + row];
  var best = LOWEST;
  var total = 0.0;
  @dims var sum{i} = 0.0;
  for (var first = span * SPAN; first < end; first += CHUNK) {
    let count = min(CHUNK, end - first);
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
  var all: Attended;
  all.best = best;
  all.total = total;
  @dims all.sum{i} = sum{i};
  return all;
}

