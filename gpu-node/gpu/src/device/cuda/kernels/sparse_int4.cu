// Products with matrices in the sparse form of int4.
//
// A lane has eight columns of each of its four rows. Their codes follow each other in the memory of the device, and a lane finds
// them by counting the bits of the masks before them. As in the sparse form of bf16, a warp streams the codes of its slice through a
// ring in shared memory: 16 bytes are copied as soon as what was in their place is used. Masks and scales are loaded `DISTANCE` groups
// ahead.

template <u32 DISTANCE>
struct SparseInt4 {
  static constexpr u32 GROUP = 32, STEPS = 2, AHEAD = DISTANCE;
  static constexpr bool SUMS_INPUTS = false;
  // 16-byte chunks of a ring: those of four groups that keep all weights.
  static constexpr u32 CHUNKS = 128;
  // So many of the latest fills of the ring may be under way while a group is expanded.
  static constexpr u32 LATER = 3;

  struct Arrays {
    const u32* scales;
    const u32* masks;
    const u32* starts;
    const u32* values;
  };
  struct Shared {
    // The first chunk is repeated at the end, so that two neighbours are never apart.
    uint4 ring[CHUNKS + 1];
    // For each set of kept columns among four: the digits by which `permute` picks their codes, and 4 where a column is pruned; and
    // the number of bits of their codes.
    uint2 picks[16];
  };

  // The byte where `picks` begin.
  static constexpr u32 PICKS = 16 * (CHUNKS + 1);

  const Arrays& arrays;
  SharedAddress ring;
  // The first group of the block, and the end of the slice.
  u32 first_group, end;
  // Of a lane's rows.
  uint4 next_masks[DISTANCE];
  uint2 next_scales[DISTANCE], own_scales;
  // The index of the word where the next group's codes begin.
  u32 base;
  // Ends of ranges of chunks: those whose copies began before the latest fills; all whose copies began; those of the slice.
  u32 settled[LATER], issued, limit;

  DEVICE SparseInt4(const Arrays& arrays, const Shape* shape, u32 first, u32 end, Shared* shared)
      : arrays(arrays), first_group(blockIdx.x * shape->groups), end(end) {
    if (first == end) return;
    ring = shared_address(shared->ring);
    if (lane_id() < 16) shared->picks[lane_id()] = picks(lane_id());
#pragma unroll
    for (u32 ahead = 0; ahead < DISTANCE; ahead++) load_group(first + ahead, ahead);
    base = start_of(first_group + first);
    u32 following = first_group + end, all = (shape->rows + 31) / 32 * shape->groups;
    u32 last;
    if (following < all) {
      last = start_of(following);
    } else {
      // No group follows: count the codes of the last one.
      u32 count = __popc(__ldg(arrays.masks + (u64)(following - 1) * 32 + lane_id()));
#pragma unroll
      for (u32 mask = 16; mask > 0; mask /= 2) count += shuffle_xor(count, mask);
      last = start_of(following - 1) + (count + 7) / 8;
    }
    issued = base / 4;
    limit = (last + 3) / 4;
#pragma unroll
    for (u32 later = 0; later < LATER; later++) settled[later] = issued;
    fill(base);
  }

  DEVICE u32 start_of(u32 group) const { return __ldg(arrays.starts + 2 * (u64)group); }

  static DEVICE uint2 picks(u32 kept) {
    u32 digits = 0;
#pragma unroll
    for (u32 col = 0; col < 4; col++) {
      digits |= (kept >> col & 1 ? __popc(kept & ((1u << col) - 1)) : 4) << (4 * col);
    }
    return make_uint2(digits, 4 * __popc(kept));
  }

  DEVICE void load_group(u32 group, u32 ahead) {
    if (group >= end) return;
    u64 at = first_group + group;
    next_masks[ahead] = load_once(arrays.masks + at * 32 + lane_id() / 4 * 4);
    next_scales[ahead] = __ldg((const uint2*)(arrays.scales + at * 16) + lane_id() / 4);
  }

  // Starts to copy the chunks whose places are free, as all words before `used` are.
  DEVICE void fill(u32 used) {
#pragma unroll
    for (u32 later = LATER - 1; later > 0; later--) settled[later] = settled[later - 1];
    settled[0] = issued;
    issued = copy_to_ring<CHUNKS>(ring, arrays.values, issued, min(limit, used / 4 + CHUNKS));
  }

  DEVICE void expand(u32 group, u32 ahead, u32 (&a)[STEPS][2][4]) {
    const u32 lane = lane_id(), column = 8 * (lane % 4);
    const u32 kept[4] = {next_masks[ahead].x, next_masks[ahead].y, next_masks[ahead].z, next_masks[ahead].w};
    own_scales = next_scales[ahead];
    load_group(group + DISTANCE, ahead);
    u32 own = __popc(kept[0]) + __popc(kept[1]) + __popc(kept[2]) + __popc(kept[3]), below = own;
    // Four lanes have the same rows.
#pragma unroll
    for (u32 distance = 4; distance < 32; distance *= 2) {
      u32 lower = __shfl_up_sync(0xffffffffu, below, distance);
      if (lane >= distance) below += lower;
    }
    u32 next = base + (__shfl_sync(0xffffffffu, below, 31) + 7) / 8;
    if ((next + 3) / 4 <= settled[LATER - 1]) copies_done<LATER>();
    else copies_done<0>();
    __syncwarp();
    u32 place = 8 * base + below - own;
#pragma unroll
    for (u32 row = 0; row < 4; row++) {
      u32 zero = scale_bits(row) & 63, minus = __byte_perm(zero, 0xc3c3c3c3u, 0x4040u);
      u32 codes = load_codes(place + __popc(kept[row] & ((1u << column) - 1)));
      place += __popc(kept[row]);
#pragma unroll
      for (u32 four = 0; four < 2; four++) {
        uint2 found = load_shared(ring + PICKS + 8 * (kept[row] >> column >> (4 * four) & 15));
        u32 quarters = spread(codes, zero, found.x);
        codes >>= found.y;
        // The bf16 number 128 + quarters has the quarters in its lowest bits.
        a[four][row / 2][row % 2] = add_bf16(__byte_perm(quarters, 0x43434343u, 0x4140u), minus);
        a[four][row / 2][row % 2 + 2] = add_bf16(__byte_perm(quarters, 0x43434343u, 0x4342u), minus);
      }
    }
    __syncwarp();
    base = next;
    fill(base);
  }

  // Eight codes from one on, as many as a lane has of a row.
  DEVICE u32 load_codes(u32 place) const {
    SharedAddress from = ring + place / 8 * 4 % (16 * CHUNKS);
    // By the lowest five bits of the last argument.
    return __funnelshift_r(load_shared_word(from), load_shared_word(from + 4), 4 * place);
  }

  // Four columns in quarters of a code, each in a byte: those of a row's kept weights, and the zero point where they are pruned.
  static DEVICE u32 spread(u32 codes, u32 zero, u32 picks) {
    u32 pairs = __byte_perm(codes, 0, 0x4140u);
    return permute((pairs << 2 | pairs << 6) & 0x3c3c3c3cu, zero, picks);
  }

  // As `__byte_perm`, which clears the highest bit of each digit first: here it is 0.
  static DEVICE u32 permute(u32 low, u32 high, u32 digits) {
#ifndef SOFTWARE_CUDA
    u32 bytes;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(digits));
    return bytes;
#else
    return __byte_perm(low, high, digits);
#endif
  }

  // Adds a number to both of a pair of bf16 numbers. All are exact.
  static DEVICE u32 add_bf16(u32 pair, u32 minus) {
#if !defined(SOFTWARE_CUDA) && __CUDA_ARCH__ >= 800
    u32 sums;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sums) : "r"(pair), "r"(0x3f803f80u), "r"(minus));
    return sums;
#else
    float low = bf16_low(pair) + bf16_low(minus), high = bf16_high(pair) + bf16_high(minus);
    return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632u);
#endif
  }

  static DEVICE u32 vector(u32 index) { return 8 * (lane_id() % 4) + 4 * index; }
  static DEVICE constexpr u32 slot(u32 index) { return index; }
  static DEVICE void arrange(u32 (&)[2]) {}

  // The scale and the zero point of one of a lane's rows.
  DEVICE u32 scale_bits(u32 row) const { return (row < 2 ? own_scales.x : own_scales.y) >> row % 2 * 16 & 0xffffu; }
  // A quarter of the scale.
  static DEVICE float scale_of(u32 bits) { return 0.25f * half_to_float((bits & 0xffc0u) >> 1); }

  DEVICE void close(const GroupSums<SparseInt4>& own, float (&sums)[2][4]) const {
#pragma unroll
    for (u32 row = 0; row < 4; row++) {
      float scale = scale_of(scale_bits(row));
#pragma unroll
      for (u32 token = 0; token < 2; token++) {
        u32 i = row % 2 * 2 + token;
        float sum = own.high[row / 2][i] + own.low[row / 2][i];
        sums[row / 2][i] = fmaf(scale, sum, sums[row / 2][i]);
      }
    }
  }

  // Whether the weight is kept, and which it is.
  DEVICE bool weight(u32 group, u32 col, u32 row, float& weight) const {
    u64 at = first_group + group;
    const u32* masks = arrays.masks + at * 32;
    u32 kept = __ldg(masks + row);
    if ((kept >> col & 1) == 0) return false;
    u32 place = 8 * start_of(at) + __popc(kept & ((1u << col) - 1));
#pragma unroll 1
    for (u32 other = 0; other < row; other++) place += __popc(__ldg(masks + other));
    u32 code = __ldg(arrays.values + place / 8) >> place % 8 * 4 & 15;
    u32 bits = __ldg(arrays.scales + at * 16 + row / 2) >> row % 2 * 16 & 0xffffu;
    weight = scale_of(bits) * ((float)(4 * code) - (float)(bits & 63));
    return true;
  }
};

#define PRODUCT_SPARSE_INT4(TOKENS, DISTANCE, BLOCKS)                                                                     \
  RESIDENT_KERNEL(BLOCKS) product_sparse_int4_##TOKENS(const u32* step, u32 call, const float* x, float* y,               \
                                                       const Shape* shape, const u32* scales, const u32* masks,           \
                                                       const u32* starts, const u32* values) {                            \
    typedef SparseInt4<DISTANCE> Form;                                                                                    \
    product<Form, TOKENS>(step, call, x, y, shape, Form::Arrays{scales, masks, starts, values});                          \
  }

#ifdef FORM_SPARSE_INT4
PRODUCT_SPARSE_INT4(8, 4, 2)
PRODUCT_SPARSE_INT4(16, 2, 2)
PRODUCT_SPARSE_INT4(32, 1, 1)
PRODUCT_SPARSE_INT4(64, 1, 1)
#endif
