// Products with matrices in the forms that store every weight.

// Loads 16 bytes that no other block wants.
DEVICE uint4 load_once(const u32* from) {
#ifndef SOFTWARE_CUDA
  uint4 words;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w) : "l"(from));
  return words;
#else
  return *(const uint4*)from;
#endif
}

// What the dense forms have in common: their words are loaded `DISTANCE` groups ahead. `LOADS` times a lane loads a word of each of
// its rows in a group; `word(i)` is the place of the i-th among `WORDS` words of a row.
template <u32 LOADS, u32 WORDS, u32 DISTANCE>
struct Ahead {
  static constexpr u32 AHEAD = DISTANCE;
  // Words of shared memory: none is needed.
  struct Shared {};
  const u32* words;
  u32 end;
  uint4 next[DISTANCE][LOADS];

  DEVICE Ahead(const u32* words, u32 end) : words(words), end(end) {}
  template <class Place>
  DEVICE void load(u32 group, u32 ahead, Place word) {
    if (group >= end) return;
#pragma unroll
    for (u32 i = 0; i < LOADS; i++) {
      next[ahead][i] = load_once(words + ((u64)group * WORDS + word(i)) * 32 + lane_id() / 4 * 4);
    }
  }
};

struct Bf16 : Ahead<8, 32, 1> {
  static constexpr u32 GROUP = 64, STEPS = 4;
  static constexpr bool SUMS_INPUTS = false;
  struct Arrays {
    const u32* words;
  };

  DEVICE Bf16(const Arrays& arrays, const Shape* shape, u32 first, u32 end, Shared*)
      : Ahead(arrays.words + (u64)blockIdx.x * shape->groups * 32 * 32, end) {
    load(first, 0, word);
  }

  // A word is two columns of a row.
  static DEVICE u32 word(u32 index) { return index / 2 * 8 + lane_id() % 4 * 2 + index % 2; }
  static DEVICE u32 vector(u32 index) { return 16 * index + 4 * (lane_id() % 4); }
  static DEVICE constexpr u32 slot(u32 index) { return index; }
  static DEVICE void arrange(u32 (&)[2]) {}

  DEVICE void expand(u32 group, u32, u32 (&a)[STEPS][2][4]) {
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      u32(&tiles)[2][4] = a[i / 2];
      u32 at = i % 2 * 2;
      tiles[0][at] = next[0][i].x, tiles[0][at + 1] = next[0][i].y, tiles[1][at] = next[0][i].z, tiles[1][at + 1] = next[0][i].w;
    }
    load(group + 1, 0, word);
  }

  DEVICE void close(const GroupSums<Bf16>& own, float (&sums)[2][4]) const {
#pragma unroll
    for (u32 i = 0; i < 8; i++) sums[i / 4][i % 4] += own.high[i / 4][i % 4] + own.low[i / 4][i % 4];
  }

  DEVICE bool weight(u32 group, u32 col, u32 row, float& weight) const {
    u32 word = __ldg(words + ((u64)group * 32 + col / 2) * 32 + row);
    weight = col % 2 == 0 ? bf16_low(word) : bf16_high(word);
    return true;
  }
};

struct Int8 : Ahead<4, 16, 1> {
  static constexpr u32 GROUP = 64, STEPS = 4;
  static constexpr bool SUMS_INPUTS = false;
  struct Arrays {
    const u32* scales;
    const u32* words;
  };

  const u32* scales;
  // Those of the next group and of this one, of a lane's rows.
  uint2 next_scales, own_scales;

  DEVICE Int8(const Arrays& arrays, const Shape* shape, u32 first, u32 end, Shared*)
      : Ahead(arrays.words + (u64)blockIdx.x * shape->groups * 16 * 32, end),
        scales(arrays.scales + (u64)blockIdx.x * shape->groups * 16) {
    load_group(first);
  }

  // A word is four columns of a row.
  static DEVICE u32 word(u32 index) { return index * 4 + lane_id() % 4; }
  static DEVICE u32 vector(u32 index) { return 16 * index + 4 * (lane_id() % 4); }
  static DEVICE constexpr u32 slot(u32 index) { return index; }
  static DEVICE void arrange(u32 (&)[2]) {}

  DEVICE void load_group(u32 group) {
    load(group, 0, word);
    if (group < end) next_scales = __ldg((const uint2*)(scales + (u64)group * 16) + lane_id() / 4);
  }

  // Two signed codes as bf16. 2²³ + code + 128 has the code in its lowest bits.
  static DEVICE u32 pair(u32 flipped, u32 byte) {
    float first = __uint_as_float(__byte_perm(flipped, 0x4b000000u, 0x7440u + byte)) - 8388736.f;
    float second = __uint_as_float(__byte_perm(flipped, 0x4b000000u, 0x7441u + byte)) - 8388736.f;
    return __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632u);
  }

  DEVICE void expand(u32 group, u32, u32 (&a)[STEPS][2][4]) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      const u32 rows[4] = {next[0][i].x, next[0][i].y, next[0][i].z, next[0][i].w};
#pragma unroll
      for (u32 row = 0; row < 4; row++) {
        u32 flipped = rows[row] ^ 0x80808080u;
        a[i][row / 2][row % 2] = pair(flipped, 0);
        a[i][row / 2][row % 2 + 2] = pair(flipped, 2);
      }
    }
    own_scales = next_scales;
    load_group(group + 1);
  }

  DEVICE void close(const GroupSums<Int8>& own, float (&sums)[2][4]) const {
    float2 low = halves_to_floats(own_scales.x), high = halves_to_floats(own_scales.y);
    const float scale[4] = {low.x, low.y, high.x, high.y};
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      float sum = own.high[i / 4][i % 4] + own.low[i / 4][i % 4];
      sums[i / 4][i % 4] = fmaf(scale[i / 2], sum, sums[i / 4][i % 4]);
    }
  }

  DEVICE bool weight(u32 group, u32 col, u32 row, float& weight) const {
    u32 word = __ldg(words + ((u64)group * 16 + col / 4) * 32 + row);
    u32 both = __ldg(scales + (u64)group * 16 + row / 2);
    int code = (int)(word << (24 - col % 4 * 8)) >> 24;
    weight = half_to_float(both >> row % 2 * 16 & 0xffffu) * (float)code;
    return true;
  }
};

template <u32 DISTANCE>
struct Int4 : Ahead<1, 4, DISTANCE> {
  typedef Ahead<1, 4, DISTANCE> Base;
  using typename Base::Shared;
  using Base::words;
  using Base::end;
  using Base::next;
  static constexpr u32 GROUP = 32, STEPS = 2;
  static constexpr bool SUMS_INPUTS = true;
  struct Arrays {
    const u32* scales;
    const u32* words;
  };

  const u32* scales;
  uint4 next_scales[DISTANCE], own_scales;

  DEVICE Int4(const Arrays& arrays, const Shape* shape, u32 first, u32 end, Shared*)
      : Base(arrays.words + (u64)blockIdx.x * shape->groups * 4 * 32, end),
        scales(arrays.scales + (u64)blockIdx.x * shape->groups * 32) {
#pragma unroll
    for (u32 ahead = 0; ahead < DISTANCE; ahead++) load_group(first + ahead, ahead);
  }

  // A word is eight columns of a row. The code of a column and that of the column four further become a pair.
  static DEVICE u32 word(u32) { return lane_id() % 4; }
  static DEVICE u32 vector(u32 index) { return 8 * (lane_id() % 4) + 4 * index; }
  static DEVICE constexpr u32 slot(u32 index) { return index / 2 + index % 2 * 4; }
  static DEVICE void arrange(u32 (&)[2]) {}

  DEVICE void load_group(u32 group, u32 ahead) {
    Base::load(group, ahead, word);
    if (group < end) next_scales[ahead] = __ldg((const uint4*)(scales + (u64)group * 32) + lane_id() / 4);
  }

  // The bf16 number 16 + code has the code in bits 3 to 6.
  static DEVICE u32 pair(u32 codes, u32 index) {
    u32 moved = index == 0 ? codes << 3 : codes >> (4 * index - 3);
    return (moved & 0x00780078u) | 0x41804180u;
  }

  DEVICE void expand(u32 group, u32 ahead, u32 (&a)[STEPS][2][4]) {
    const u32 rows[4] = {next[ahead][0].x, next[ahead][0].y, next[ahead][0].z, next[ahead][0].w};
#pragma unroll
    for (u32 row = 0; row < 4; row++) {
#pragma unroll
      for (u32 i = 0; i < 4; i++) a[i / 2][row / 2][row % 2 + i % 2 * 2] = pair(rows[row], i);
    }
    own_scales = next_scales[ahead];
    load_group(group + DISTANCE, ahead);
  }

  DEVICE void close(const GroupSums<Int4>& own, float (&sums)[2][4]) const {
    const u32 words[4] = {own_scales.x, own_scales.y, own_scales.z, own_scales.w};
#pragma unroll
    for (u32 row = 0; row < 4; row++) {
      float2 both = halves_to_floats(words[row]);
      // The weights are scale · (16 + code) + minimum − 16 · scale.
      float minimum = fmaf(-16.f, both.x, both.y);
#pragma unroll
      for (u32 token = 0; token < 2; token++) {
        u32 i = row % 2 * 2 + token;
        float sum = own.high[row / 2][i] + own.low[row / 2][i];
        sums[row / 2][i] += fmaf(both.x, sum, minimum * own.inputs[token]);
      }
    }
  }

  DEVICE bool weight(u32 group, u32 col, u32 row, float& weight) const {
    u32 word = __ldg(words + ((u64)group * 4 + col / 8) * 32 + row);
    float2 both = halves_to_floats(__ldg(scales + (u64)group * 32 + row));
    weight = fmaf((float)(word >> col % 8 * 4 & 15), both.x, both.y);
    return true;
  }
};

#define PRODUCT_BF16(TOKENS, BLOCKS)                                                                                      \
  RESIDENT_KERNEL(BLOCKS) product_bf16_##TOKENS(const u32* step, u32 call, const float* x, float* y, const Shape* shape,  \
                                                const u32* words) {                                                       \
    product<Bf16, TOKENS>(step, call, x, y, shape, Bf16::Arrays{words});                                                  \
  }
#define PRODUCT_CODES(form, Form, TOKENS, BLOCKS)                                                                         \
  RESIDENT_KERNEL(BLOCKS) product_##form##_##TOKENS(const u32* step, u32 call, const float* x, float* y,                  \
                                                    const Shape* shape, const u32* scales, const u32* words) {            \
    product<Form, TOKENS>(step, call, x, y, shape, Form::Arrays{scales, words});                                          \
  }

#ifdef FORM_BF16
PRODUCT_BF16(8, 2)
PRODUCT_BF16(16, 1)
PRODUCT_BF16(32, 1)
PRODUCT_BF16(64, 1)
#endif
#ifdef FORM_INT8
PRODUCT_CODES(int8, Int8, 8, 2)
PRODUCT_CODES(int8, Int8, 16, 2)
PRODUCT_CODES(int8, Int8, 32, 1)
PRODUCT_CODES(int8, Int8, 64, 1)
#endif
#ifdef FORM_INT4
PRODUCT_CODES(int4, Int4<4>, 8, 2)
PRODUCT_CODES(int4, Int4<2>, 16, 2)
PRODUCT_CODES(int4, Int4<1>, 32, 1)
PRODUCT_CODES(int4, Int4<1>, 64, 1)
#endif
