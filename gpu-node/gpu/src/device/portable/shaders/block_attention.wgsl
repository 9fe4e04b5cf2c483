// Causal attention of a tile of 8 queries of one head, with an online softmax (Milakov and Gimelshein 2018), f32: 64 positions
// at a time, from the beginning of the sequence on, so that the result of a query depends on its sequence alone.
struct Call {
  first_tile: u32,
}
@group(0) @binding(0) var<uniform> call: Call;
// For each tile the first row of its sequence, and the first row and the end of its rows.
@group(1) @binding(0) var<storage, read> tiles: array<u32>;
// [rows, KV_HEADS, HEAD_DIM] f32
@group(1) @binding(1) var<storage, read> keys: array<f32>;
@group(1) @binding(2) var<storage, read> values: array<f32>;
// [rows, HEADS, HEAD_DIM] f32; the results replace them.
@group(1) @binding(3) var<storage, read_write> states: array<f32>;

const CHUNK = 64u;
// Lower than any score.
const LOWEST = -3.4028234e38;
// The rows of four queries after the first of them.
const ROWS = vec4<u32>(0u, 1u, 2u, 3u);

// A vector holds four queries, `a` the first four of the tile, `b` the others.
var<workgroup> query_a: array<vec4<f32>, HEAD_DIM>;
var<workgroup> query_b: array<vec4<f32>, HEAD_DIM>;
// The scores, then the weights of the positions of a step.
var<workgroup> scores_a: array<vec4<f32>, CHUNK>;
var<workgroup> scores_b: array<vec4<f32>, CHUNK>;
// The largest scores of eight positions each.
var<workgroup> largest_a: array<vec4<f32>, 8>;
var<workgroup> largest_b: array<vec4<f32>, 8>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let head = id.x;
  let tile = 3u * (call.first_tile + id.y);
  let start = tiles[tile];
  let first = tiles[tile + 1u];
  let end = tiles[tile + 2u];
  let kv_head = head / (HEADS / KV_HEADS);
  for (var dim = thread; dim < HEAD_DIM; dim += CHUNK) {
    query_a[dim] = SCALE * four(first, end, head, dim);
    query_b[dim] = SCALE * four(first + 4u, end, head, dim);
  }
  workgroupBarrier();
  var best_a = vec4<f32>(LOWEST);
  var best_b = vec4<f32>(LOWEST);
  var total_a = vec4<f32>();
  var total_b = vec4<f32>();
  // A thread sums the elements thread, thread + 64, … of the head.
  @dims var sum_a{i} = vec4<f32>();
  @dims var sum_b{i} = vec4<f32>();
  for (var base = start; base < end; base += CHUNK) {
    let key = base + thread;
    let seen_a = vec4<u32>(key) <= first + ROWS;
    let seen_b = vec4<u32>(key) <= first + 4u + ROWS;
    var score_a = vec4<f32>();
    var score_b = vec4<f32>();
    if (key < end) {
      let at = (key * KV_HEADS + kv_head) * HEAD_DIM;
      for (var dim = 0u; dim < HEAD_DIM; dim++) {
        let element = vec4<f32>(keys[at + dim]);
        score_a = fma(query_a[dim], element, score_a);
        score_b = fma(query_b[dim], element, score_b);
      }
    }
    scores_a[thread] = select(vec4<f32>(LOWEST), score_a, seen_a);
    scores_b[thread] = select(vec4<f32>(LOWEST), score_b, seen_b);
    workgroupBarrier();
    if (thread < 8u) {
      var most_a = best_a;
      var most_b = best_b;
      for (var at = 8u * thread; at < 8u * thread + 8u; at++) {
        most_a = larger(most_a, scores_a[at]);
        most_b = larger(most_b, scores_b[at]);
      }
      largest_a[thread] = most_a;
      largest_b[thread] = most_b;
    }
    workgroupBarrier();
    var most_a = best_a;
    var most_b = best_b;
    for (var at = 0u; at < 8u; at++) {
      most_a = larger(most_a, largest_a[at]);
      most_b = larger(most_b, largest_b[at]);
    }
    scores_a[thread] = select(vec4<f32>(), exp(score_a - most_a), seen_a);
    scores_b[thread] = select(vec4<f32>(), exp(score_b - most_b), seen_b);
    workgroupBarrier();
    let decay_a = exp(best_a - most_a);
    let decay_b = exp(best_b - most_b);
    best_a = most_a;
    best_b = most_b;
    total_a *= decay_a;
    total_b *= decay_b;
    @dims sum_a{i} *= decay_a;
    @dims sum_b{i} *= decay_b;
    for (var at = 0u; at < min(CHUNK, end - base); at++) {
      let weight_a = scores_a[at];
      let weight_b = scores_b[at];
      total_a += weight_a;
      total_b += weight_b;
      // A value that a query does not see may be NaN.
      let sees_a = vec4<u32>(base + at) <= first + ROWS;
      let sees_b = vec4<u32>(base + at) <= first + 4u + ROWS;
      let place = ((base + at) * KV_HEADS + kv_head) * HEAD_DIM + thread;
      @dims if (thread + {i}u * CHUNK < HEAD_DIM) {
      @dims   let value{i} = vec4<f32>(values[place + {i}u * CHUNK]);
      @dims   sum_a{i} = select(sum_a{i}, fma(weight_a, value{i}, sum_a{i}), sees_a);
      @dims   sum_b{i} = select(sum_b{i}, fma(weight_b, value{i}, sum_b{i}), sees_b);
      @dims }
    }
    workgroupBarrier();
  }
  @dims if (thread + {i}u * CHUNK < HEAD_DIM) {
  @dims   put(first, end, head, thread + {i}u * CHUNK, sum_a{i} / total_a);
  @dims   put(first + 4u, end, head, thread + {i}u * CHUNK, sum_b{i} / total_b);
  @dims }
}

// An element of four queries, 0 of those after the end of the tile.
fn four(first: u32, end: u32, head: u32, dim: u32) -> vec4<f32> {
  var found = vec4<f32>();
  for (var at = 0u; at < 4u; at++) {
    if (first + at < end) { found[at] = states[((first + at) * HEADS + head) * HEAD_DIM + dim]; }
  }
  return found;
}

fn put(first: u32, end: u32, head: u32, dim: u32, results: vec4<f32>) {
  for (var at = 0u; at < 4u; at++) {
    if (first + at < end) { states[((first + at) * HEADS + head) * HEAD_DIM + dim] = results[at]; }
  }
}

// NaN is never the larger one. Its weight is NaN, and so are the sums.
fn larger(one: vec4<f32>, other: vec4<f32>) -> vec4<f32> { return select(one, other, other > one); }
