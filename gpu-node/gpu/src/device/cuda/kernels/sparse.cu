// Products with matrices in the sparse form.
//
// The values of a warp's slice follow each other in the memory of the device, so that it streams them through a ring in shared
// memory: 16 bytes are copied as soon as what was in their place is used. A lane finds the values of its four rows in a column
// by counting the bits of the mask below them.
//
// In a step the lanes take the columns 16 · step + 4 · (lane % 4) + (slot + lane) % 4: at 50 % four lanes then read values in
// different banks of shared memory.

struct Sparse {
  static constexpr u32 GROUP = 64, STEPS = 4, AHEAD = 1;
  static constexpr bool SUMS_INPUTS = false;
  // 16-byte chunks of a ring.
  static constexpr u32 CHUNKS = 256;

  struct Arrays {
    const u32* masks;
    const u32* starts;
    const u32* values;
  };
  struct Shared {
    // The first chunk is repeated at the end, so that four neighbours are never apart.
    uint4 ring[CHUNKS + 1];
    // For two columns their masks, each followed by twice the index of its first value.
    uint4 columns[GROUP / 2];
  };

  // The byte where `columns` begin.
  static constexpr u32 COLUMNS = 16 * (CHUNKS + 1);

  const Arrays& arrays;
  // Where the ring begins, and the columns of a lane's four slots in the first step.
  SharedAddress ring, slots[4];
  // The first group of the block, and the end of the slice.
  u32 first_group, end;
  // The masks of two columns of the next group.
  uint2 masks;
  // The index of the next group's first value.
  u32 base;
  // Ends of ranges of chunks: those whose copies belong to all groups but the last; all whose copies began; those of the slice.
  u32 settled, issued, limit;

  DEVICE Sparse(const Arrays& arrays, const Shape* shape, u32 first, u32 end, Shared* shared)
      : arrays(arrays), first_group(blockIdx.x * shape->groups), end(end) {
    if (first == end) return;
    ring = shared_address(shared->ring);
#pragma unroll
    for (u32 slot = 0; slot < 4; slot++) {
      slots[slot] = ring + COLUMNS + 8 * (4 * (lane_id() % 4) + (slot + lane_id()) % 4);
    }
    load_masks(first);
    base = __ldg(arrays.starts + first_group + first);
    u32 following = first_group + end, all = (shape->rows + 31) / 32 * shape->groups;
    u32 last;
    if (following < all) {
      last = __ldg(arrays.starts + following);
    } else {
      // No group follows: count the values of the last one.
      uint2 both = __ldg((const uint2*)(arrays.masks + (u64)(following - 1) * GROUP) + lane_id());
      u32 count = __popc(both.x) + __popc(both.y);
#pragma unroll
      for (u32 mask = 16; mask > 0; mask /= 2) count += shuffle_xor(count, mask);
      last = __ldg(arrays.starts + following - 1) + count;
    }
    issued = base / 8;
    limit = (last + 7) / 8;
    fill(base);
  }

  DEVICE void load_masks(u32 group) {
    masks = __ldg((const uint2*)(arrays.masks + (u64)(first_group + group) * GROUP) + lane_id());
  }

  // Starts to copy the chunks whose places are free, as all values before `used` are.
  DEVICE void fill(u32 used) {
    settled = issued;
    issued = copy_to_ring<CHUNKS>(ring, arrays.values, issued, min(limit, used / 8 + CHUNKS));
  }

  DEVICE void expand(u32 group, u32, u32 (&a)[STEPS][2][4]) {
    u32 lane = lane_id(), even = masks.x, odd = masks.y;
    if (group + 1 < end) load_masks(group + 1);
    u32 first = __popc(even), count = first + __popc(odd), below = count;
#pragma unroll
    for (u32 distance = 1; distance < 32; distance *= 2) {
      u32 lower = __shfl_up_sync(0xffffffffu, below, distance);
      if (lane >= distance) below += lower;
    }
    u32 next = base + __shfl_sync(0xffffffffu, below, 31), middle = base + __shfl_sync(0xffffffffu, below, 15);
    u32 start = base + below - count;
    store_shared(ring + COLUMNS + 16 * lane, make_uint4(even, 2 * start, odd, 2 * (start + first)));
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
      u32 used = half == 0 ? middle : next;
      if ((used + 7) / 8 <= settled) copies_done<1>();
      else copies_done<0>();
      __syncwarp();
      expand_step(2 * half, a[2 * half]);
      expand_step(2 * half + 1, a[2 * half + 1]);
      __syncwarp();
      fill(used);
    }
    base = next;
  }

  DEVICE void expand_step(u32 step, u32 (&a)[2][4]) const {
    u32 shift = lane_id() / 4 * 4, below = (1u << shift) - 1;
    // For each slot the values of four rows, and a byte for each row, which is negative where the weight is kept.
    u32 values[4][4], kept[4];
#pragma unroll
    for (u32 slot = 0; slot < 4; slot++) {
      uint2 column = load_shared(slots[slot] + 8 * 16 * step);
      u32 bits = column.x >> shift;
      load_kept(ring + (column.y + 2 * __popc(column.x & below)) % (16 * CHUNKS), bits, values[slot]);
      kept[slot] = (bits & 15) * 0x10204080u;
    }
#pragma unroll
    for (u32 row = 0; row < 4; row++) {
      a[row / 2][row % 2] = pair(values[0][row], values[1][row], kept[0], kept[1], row);
      a[row / 2][row % 2 + 2] = pair(values[2][row], values[3][row], kept[2], kept[3], row);
    }
  }

  // Two values of a row, or 0 where they are pruned.
  static DEVICE u32 pair(u32 low, u32 high, u32 kept_low, u32 kept_high, u32 row) {
#ifndef SOFTWARE_CUDA
    // Repeats the signs of two bytes, each twice (PTX ISA, "prmt"); `__byte_perm` cannot.
    u32 selector = 0xcc88u + 0x1111u * row;
    u32 mask;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(mask) : "r"(kept_low), "r"(kept_high), "r"(selector));
#else
    u32 mask = (kept_low >> (8 * row + 7) & 1) * 0xffffu | (kept_high >> (8 * row + 7) & 1) * 0xffff0000u;
#endif
    return (low + high * 0x10000u) & mask;
  }

  // Loads four neighbours in shared memory. The next one is another only where the bit of `kept` is set.
  static DEVICE void load_kept(SharedAddress from, u32 kept, u32 (&values)[4]) {
#ifndef SOFTWARE_CUDA
    // In this form the compiler tests all bits by one instruction. Nothing reads `kept` after the first result.
    asm volatile(
        "{\n"
        ".reg .pred p0, p1, p2;\n"
        ".reg .b32 bit;\n"
        "and.b32 bit, %5, 1; setp.ne.u32 p0, bit, 0;\n"
        "and.b32 bit, %5, 2; setp.ne.u32 p1, bit, 0;\n"
        "and.b32 bit, %5, 4; setp.ne.u32 p2, bit, 0;\n"
        "ld.shared.u16 %0, [%4]; @p0 add.u32 %4, %4, 2;\n"
        "ld.shared.u16 %1, [%4]; @p1 add.u32 %4, %4, 2;\n"
        "ld.shared.u16 %2, [%4]; @p2 add.u32 %4, %4, 2;\n"
        "ld.shared.u16 %3, [%4];\n"
        "}"
        : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3]), "+r"(from)
        : "r"(kept));
#else
    for (u32 row = 0; row < 4; row++) {
      values[row] = *(const u16*)from;
      from += kept >> row & 1 ? 2 : 0;
    }
#endif
  }

  static DEVICE u32 vector(u32 index) { return 16 * index + 4 * (lane_id() % 4); }
  static DEVICE constexpr u32 slot(u32 index) { return index; }

  // The first slot has the input with the number of the lane, modulo 4.
  static DEVICE void arrange(u32 (&b)[2]) {
    u32 first = b[0], turn = lane_id() % 4;
    b[0] = __byte_perm(first, b[1], halves(turn));
    b[1] = __byte_perm(first, b[1], halves(turn + 2));
  }

  // Picks a half of two words, and the next one, modulo 4.
  static DEVICE u32 halves(u32 half) { return (0x3210u + 0x2222u * half) & 0x7777u; }

  DEVICE void close(const GroupSums<Sparse>& own, float (&sums)[2][4]) const {
#pragma unroll
    for (u32 i = 0; i < 8; i++) sums[i / 4][i % 4] += own.high[i / 4][i % 4] + own.low[i / 4][i % 4];
  }

  // Whether the weight is kept, and which it is.
  DEVICE bool weight(u32 group, u32 col, u32 row, float& weight) const {
    const u32* masks = arrays.masks + (u64)(first_group + group) * GROUP;
    u32 index = __ldg(arrays.starts + first_group + group);
#pragma unroll 1
    for (u32 other = 0; other < col; other++) index += __popc(__ldg(masks + other));
    u32 mask = __ldg(masks + col);
    index += __popc(mask & ((1u << row) - 1));
    if ((mask >> row & 1) == 0) return false;
    weight = __uint_as_float(__ldg(arrays.values + index / 2) >> (index & 1) * 16 << 16);
    return true;
  }
};

#define PRODUCT_SPARSE(TOKENS, BLOCKS)                                                                                    \
  RESIDENT_KERNEL(BLOCKS) product_sparse_##TOKENS(const u32* step, u32 call, const float* x, float* y,                    \
                                                  const Shape* shape, const u32* masks, const u32* starts,                \
                                                  const u32* values) {                                                    \
    product<Sparse, TOKENS>(step, call, x, y, shape, Sparse::Arrays{masks, starts, values});                              \
  }

#ifdef FORM_SPARSE
PRODUCT_SPARSE(8, 2)
PRODUCT_SPARSE(16, 2)
PRODUCT_SPARSE(32, 1)
PRODUCT_SPARSE(64, 1)
#endif
