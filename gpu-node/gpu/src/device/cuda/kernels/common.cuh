// What all kernels share. A program is this file, the constants of a model as macros, and the other files in any order: NVRTC
// may find no header of the toolkit. The WGSL kernels of `device/portable/shaders` define what each kernel computes, and
// `layout/mod.rs` how matrices are stored.
//
// Every kernel of a step takes the data of the step, and the place in it of the words that describe the call; then its buffers.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
// A kernel of 256 threads, of which a multiprocessor holds as many blocks: that limits their registers. Before sm_80, functions
// that are called need more of them.
#if __CUDA_ARCH__ >= 800
#define RESIDENT_KERNEL(blocks) extern "C" __global__ void __launch_bounds__(256, blocks)
#else
#define RESIDENT_KERNEL(blocks) extern "C" __global__ void __launch_bounds__(256, 1)
#endif

// Lower than any score.
constexpr float LOWEST = -3.4028234e38f;

// The words of a call, as `shaders/call.wgsl` declares them.
struct Call {
  const u32* step;
  u32 at;
  DEVICE Call(const u32* step, u32 at) : step(step), at(at) {}
  DEVICE u32 word(u32 index) const { return __ldg(step + at + index); }
  // Rows that the kernel works on. Blocks of later rows end at once: a graph is launched for a few more rows.
  DEVICE u32 rows() const { return word(0); }
  // For each row of the batch a word: the token; its position; the place of its page table.
  DEVICE u32 token(u32 row) const { return __ldg(step + word(1) + row); }
  DEVICE u32 position(u32 row) const { return __ldg(step + word(2) + row); }
  DEVICE const u32* table(u32 row) const { return step + __ldg(step + word(3) + row); }
  // Cosines and sines, [rows, HEAD_DIM].
  DEVICE const u32* angles() const { return step + word(4); }
  // The picked rows, or the scores to compute.
  DEVICE const u32* picks() const { return step + word(5); }
  // The first row of a sum or of attention, and whether the sum starts at 0.
  DEVICE u32 first() const { return word(6); }
  DEVICE bool reset() const { return word(7) == 1; }
};

DEVICE u32 lane_id() { return threadIdx.x & 31; }
DEVICE u32 warp_id() { return threadIdx.x >> 5; }

DEVICE u32 shuffle_xor(u32 value, u32 mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE float shuffle_xor(float value, u32 mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// The sum and the largest of a value over some lanes, in every lane. Lanes that differ in the bits of `LANES - STRIDE` belong
// together: with the defaults all of them.
template <u32 LANES = 32, u32 STRIDE = 1>
DEVICE float warp_sum(float value) {
#pragma unroll
  for (u32 mask = LANES / 2; mask >= STRIDE; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

// NaN is never the largest.
DEVICE float warp_max(float value) {
#pragma unroll
  for (u32 mask = 16; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

// The sum over a block of 256 threads, in every thread. `parts` are 8 floats of shared memory that nothing else uses.
DEVICE float block_sum(float value, float* parts) {
  value = warp_sum(value);
  if (lane_id() == 0) parts[warp_id()] = value;
  __syncthreads();
  float sum = parts[0];
#pragma unroll
  for (u32 warp = 1; warp < 8; warp++) sum += parts[warp];
  return sum;
}

DEVICE float block_max(float value, float* parts) {
  value = warp_max(value);
  if (lane_id() == 0) parts[warp_id()] = value;
  __syncthreads();
  float largest = parts[0];
#pragma unroll
  for (u32 warp = 1; warp < 8; warp++) largest = fmaxf(largest, parts[warp]);
  return largest;
}

DEVICE bool is_finite(float value) { return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u; }

// The value of an f16, whose bits are the low 16 of a word.
DEVICE float half_to_float(u32 bits) {
#ifndef SOFTWARE_CUDA
  float value;
  asm("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low; }" : "=f"(value) : "r"(bits));
  return value;
#else
  u32 sign = (bits & 0x8000u) << 16, size = bits & 0x7fffu;
  if (size >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (size & 0x3ffu) << 13);
  // A subnormal f16 is a multiple of 2⁻²⁴.
  if (size < 0x400u) return __uint_as_float(sign | __float_as_uint((float)size * 5.9604645e-8f));
  return __uint_as_float(sign | ((size << 13) + 0x38000000u));
#endif
}

// Both f16 of a word.
DEVICE float2 halves_to_floats(u32 word) { return make_float2(half_to_float(word & 0xffffu), half_to_float(word >> 16)); }
