// Products by the matrix units (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type").

// The bits of the bf16 nearest to a finite number, ties to even. Numbers that would round to infinity give infinity.
DEVICE u32 bf16_bits(float value) {
  u32 bits = __float_as_uint(value);
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

// Two numbers as bf16, the first in the low half.
DEVICE u32 bf16_pair(float low, float high) {
#if !defined(SOFTWARE_CUDA) && __CUDA_ARCH__ >= 800
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  // A NaN stays one.
  u32 first = low == low ? bf16_bits(low) : 0x7fffu, second = high == high ? bf16_bits(high) : 0x7fffu;
  return first | second << 16;
#endif
}

DEVICE float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float bf16_high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

#if __CUDA_ARCH__ < 800
// As `mma_bf16`, without matrix units for bf16: the lanes exchange their fragments. One function, because a copy of it for each
// product would take minutes to compile.
__device__ __noinline__ float4 exchange_and_multiply(float4 d, uint4 a, uint2 b) {
  const u32 all = 0xffffffffu;
  u32 row = lane_id() & ~3u, column = 8 * (lane_id() & 3);
#pragma unroll
  for (u32 other = 0; other < 4; other++) {
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
      u32 upper = __shfl_sync(all, half == 0 ? a.x : a.z, row + other);
      u32 lower = __shfl_sync(all, half == 0 ? a.y : a.w, row + other);
      u32 first = __shfl_sync(all, half == 0 ? b.x : b.y, column + other);
      u32 second = __shfl_sync(all, half == 0 ? b.x : b.y, column + 4 + other);
      d.x = fmaf(bf16_high(upper), bf16_high(first), fmaf(bf16_low(upper), bf16_low(first), d.x));
      d.y = fmaf(bf16_high(upper), bf16_high(second), fmaf(bf16_low(upper), bf16_low(second), d.y));
      d.z = fmaf(bf16_high(lower), bf16_high(first), fmaf(bf16_low(lower), bf16_low(first), d.z));
      d.w = fmaf(bf16_high(lower), bf16_high(second), fmaf(bf16_low(lower), bf16_low(second), d.w));
    }
  }
  return d;
}
#endif

// d += a · b. A lane has of d the rows lane / 4 and lane / 4 + 8, each in the columns 2 · (lane % 4) and the next one; of a the
// same rows in the columns 2 · (lane % 4), + 1, and 8 further; of b those columns of a as rows, in the column lane / 4.
DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if __CUDA_ARCH__ < 800
  float4 sums = exchange_and_multiply(
      make_float4(d[0], d[1], d[2], d[3]), make_uint4(a[0], a[1], a[2], a[3]), make_uint2(b[0], b[1]));
  d[0] = sums.x, d[1] = sums.y, d[2] = sums.z, d[3] = sums.w;
#elif defined(SOFTWARE_CUDA)
  software_mma_m16n8k16_bf16(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// An address in shared memory: 32 bits are enough.
#ifndef SOFTWARE_CUDA
typedef u32 SharedAddress;
DEVICE SharedAddress shared_address(const void* shared) {
  u32 address;
  asm("{ .reg .u64 shared; cvta.to.shared.u64 shared, %1; cvt.u32.u64 %0, shared; }" : "=r"(address) : "l"(shared));
  return address;
}
DEVICE u32 load_shared_word(SharedAddress from) {
  u32 word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(from));
  return word;
}
DEVICE uint2 load_shared(SharedAddress from) {
  uint2 words;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(words.x), "=r"(words.y) : "r"(from));
  return words;
}
DEVICE void store_shared(SharedAddress to, uint4 words) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
}
#else
typedef u64 SharedAddress;
DEVICE SharedAddress shared_address(const void* shared) { return (u64)shared; }
DEVICE u32 load_shared_word(SharedAddress from) { return *(const u32*)from; }
DEVICE uint2 load_shared(SharedAddress from) { return *(const uint2*)from; }
DEVICE void store_shared(SharedAddress to, uint4 words) { *(uint4*)to = words; }
#endif

// Copies 16 bytes from the memory of the device to shared memory, both aligned. `end_copies` makes a group of the copies that this
// thread began before, and `copies_done` waits for all of its groups but the last `LATER` (PTX ISA, "Data Movement and Conversion
// Instructions: Asynchronous copy"). Before sm_80 a copy is done at once.
DEVICE void start_copy(SharedAddress to, const void* from) {
#if __CUDA_ARCH__ < 800
  store_shared(to, *(const uint4*)from);
#elif defined(SOFTWARE_CUDA)
  software_cp_async_16((void*)to, from);
#else
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#endif
}

DEVICE void end_copies() {
#if __CUDA_ARCH__ >= 800
#ifdef SOFTWARE_CUDA
  software_cp_async_commit_group();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
#endif
}

// Starts to copy the 16-byte chunks that follow `issued`, up to `end`, into their places of a ring of so many chunks, as a group, and
// returns the end of the chunks that are copied now. The first chunk is repeated behind the ring.
template <u32 CHUNKS>
DEVICE u32 copy_to_ring(SharedAddress ring, const u32* words, u32 issued, u32 end) {
  const uint4* from = (const uint4*)words;
#pragma unroll 1
  for (u32 chunk = issued + lane_id(); chunk < end; chunk += 32) {
    start_copy(ring + chunk % CHUNKS * 16, from + chunk);
    if (chunk % CHUNKS == 0) start_copy(ring + CHUNKS * 16, from + chunk);
  }
  end_copies();
  return max(issued, end);
}

template <int LATER>
DEVICE void copies_done() {
#if __CUDA_ARCH__ >= 800
#ifdef SOFTWARE_CUDA
  software_cp_async_wait_group(LATER);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
#endif
#endif
}
