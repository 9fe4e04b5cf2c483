// Rotates queries and keys by their positions (Su et al. 2021), the first half of a head paired with the second, scales the
// queries, and stores keys and values in the pages of their sequence, as f16.
//
// Keys of a page: [KV_HEADS, HALF, 16], values: [KV_HEADS, 16, HALF]; a word is two neighbouring elements of a head.
// Grid: (units / 64, rows); a thread rotates a pair of a query, or stores a word.

// Rounds to the nearest f16, ties to even. A number out of its range becomes the largest one, and NaN stays NaN. By integers, so
// that this does not depend on the architecture.
DEVICE u32 to_half(float value) {
  u32 bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return sign | 0x7e00u;
  // From 65520 on, it would round to infinity.
  if (size >= 0x477ff000u) return sign | 0x7bffu;
  if (size < 0x33000001u) return sign;
  // Below 2⁻¹⁴ an f16 is subnormal: its bits are multiples of 2⁻²⁴.
  bool subnormal = size < 0x38800000u;
  u32 shift = subnormal ? 126 - (size >> 23) : 13;
  u32 mantissa = subnormal ? (size & 0x7fffffu) | 0x800000u : size - 0x38000000u;
  u32 half = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), tie = 1u << (shift - 1);
  return sign | (half + (rest > tie || (rest == tie && (half & 1)) ? 1 : 0));
}

DEVICE u32 to_halves(float low, float high) { return to_half(low) | to_half(high) << 16; }

KERNEL(64) place(const u32* step, u32 at, float* queries, const float* keys, const float* values, u32* key_pages,
                 u32* value_pages) {
  constexpr u32 QUERY_PAIRS = HEADS * HALF, KEY_WORDS = KV_HEADS * HALF;
  Call call(step, at);
  u32 row = blockIdx.y, unit = blockIdx.x * 64 + threadIdx.x;
  if (row >= call.rows()) return;
  const u32* angles = call.angles() + row * HEAD_DIM;
  auto cosine = [&](u32 pair) { return __uint_as_float(__ldg(angles + pair)); };
  auto sine = [&](u32 pair) { return __uint_as_float(__ldg(angles + HALF + pair)); };
  if (unit < QUERY_PAIRS) {
    u32 pair = unit % HALF;
    float* low = queries + (u64)row * HEADS * HEAD_DIM + unit / HALF * HEAD_DIM + pair;
    float a = low[0], b = low[HALF];
    low[0] = (a * cosine(pair) - b * sine(pair)) * SCALE;
    low[HALF] = (b * cosine(pair) + a * sine(pair)) * SCALE;
    return;
  }
  unit -= QUERY_PAIRS;
  if (unit >= 2 * KEY_WORDS) return;
  u32 position = call.position(row), page = __ldg(call.table(row) + position / 16), slot = position % 16;
  if (unit < KEY_WORDS) {
    u32 head = unit / HALF, word = unit % HALF;
    const float* key = keys + ((u64)row * KV_HEADS + head) * HEAD_DIM;
    auto rotated = [&](u32 dim) {
      if (dim < HALF) return key[dim] * cosine(dim) - key[dim + HALF] * sine(dim);
      return key[dim] * cosine(dim - HALF) + key[dim - HALF] * sine(dim - HALF);
    };
    key_pages[(((u64)page * KV_HEADS + head) * HALF + word) * 16 + slot] = to_halves(rotated(2 * word), rotated(2 * word + 1));
  } else {
    unit -= KEY_WORDS;
    u32 head = unit / HALF, word = unit % HALF;
    const float* value = values + (u64)row * KV_HEADS * HEAD_DIM + 2 * unit;
    value_pages[(((u64)page * KV_HEADS + head) * 16 + slot) * HALF + word] = to_halves(value[0], value[1]);
  }
}
