// Rotates queries and keys by their positions (Su et al. 2021), the first half of a head paired with the second, scales
// the queries, and stores keys and values in the pages of their sequence, as f16.
//
// Keys of a page: [KV_HEADS, HALF, 16], values: [KV_HEADS, 16, HALF]; a word is two neighbouring elements of a head.
@group(1) @binding(0) var<storage, read_write> queries: array<f32>;
@group(1) @binding(1) var<storage, read> keys: array<f32>;
@group(1) @binding(2) var<storage, read> values: array<f32>;
@group(1) @binding(3) var<storage, read_write> key_pages: array<u32>;
@group(1) @binding(4) var<storage, read_write> value_pages: array<u32>;

const QUERY_PAIRS = HEADS * HALF;
const KEY_WORDS = KV_HEADS * HALF;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y;
  let unit = id.x;
  if (unit < QUERY_PAIRS) {
    rotate_query(row, unit / HALF, unit % HALF);
  } else if (unit < QUERY_PAIRS + KEY_WORDS) {
    store_key(row, (unit - QUERY_PAIRS) / HALF, (unit - QUERY_PAIRS) % HALF);
  } else if (unit < QUERY_PAIRS + 2u * KEY_WORDS) {
    store_value(row, unit - QUERY_PAIRS - KEY_WORDS);
  }
}

fn rotate_query(row: u32, head: u32, pair: u32) {
  let low = row * HEADS * HEAD_DIM + head * HEAD_DIM + pair;
  let a = queries[low];
  let b = queries[low + HALF];
  let cosine = cosine_of(row, pair);
  let sine = sine_of(row, pair);
  queries[low] = (a * cosine - b * sine) * SCALE;
  queries[low + HALF] = (b * cosine + a * sine) * SCALE;
}

fn store_key(row: u32, head: u32, word: u32) {
  let position = step[call.positions + row];
  let page = step[step[call.tables + row] + position / 16u];
  let both = to_half(rotated_key(row, head, 2u * word)) | (to_half(rotated_key(row, head, 2u * word + 1u)) << 16u);
  key_pages[((page * KV_HEADS + head) * HALF + word) * 16u + position % 16u] = both;
}

fn store_value(row: u32, unit: u32) {
  let position = step[call.positions + row];
  let page = step[step[call.tables + row] + position / 16u];
  let at = row * KV_HEADS * HEAD_DIM + 2u * unit;
  let both = to_half(values[at]) | (to_half(values[at + 1u]) << 16u);
  value_pages[((page * KV_HEADS + unit / HALF) * 16u + position % 16u) * HALF + unit % HALF] = both;
}

fn rotated_key(row: u32, head: u32, dim: u32) -> f32 {
  let start = (row * KV_HEADS + head) * HEAD_DIM;
  if (dim < HALF) {
    return keys[start + dim] * cosine_of(row, dim) - keys[start + dim + HALF] * sine_of(row, dim);
  }
  let pair = dim - HALF;
  return keys[start + dim] * cosine_of(row, pair) + keys[start + pair] * sine_of(row, pair);
}

fn cosine_of(row: u32, pair: u32) -> f32 { return bitcast<f32>(step[call.angles + row * HEAD_DIM + pair]); }
fn sine_of(row: u32, pair: u32) -> f32 { return bitcast<f32>(step[call.angles + row * HEAD_DIM + HALF + pair]); }

// Rounds to the nearest f16, ties to even. A number out of its range becomes the largest one, and NaN stays NaN. By
// integers, because drivers round differently.
fn to_half(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) { return sign | 0x7e00u; }
  // From 65520 on, it would round to infinity.
  if (size >= 0x477ff000u) { return sign | 0x7bffu; }
  if (size < 0x33000001u) { return sign; }
  let exponent = size >> 23u;
  // Below 2⁻¹⁴ an f16 is subnormal: its bits are multiples of 2⁻²⁴.
  var shift = 13u;
  var mantissa = size - 0x38000000u;
  if (exponent < 113u) {
    shift = 126u - exponent;
    mantissa = (size & 0x7fffffu) | 0x800000u;
  }
  let rest = mantissa & ((1u << shift) - 1u);
  let tie = 1u << (shift - 1u);
  var half = mantissa >> shift;
  if (rest > tie || (rest == tie && (half & 1u) == 1u)) { half += 1u; }
  return sign | half;
}
