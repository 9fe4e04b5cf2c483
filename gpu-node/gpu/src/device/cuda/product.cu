// The products of `shaders/linear.wgsl` for NVRTC, over the same layout (`layout/mod.rs`).
//
// y[token, row] (+)= Σ_col weight[row, col] · x[token, col] for one block of 32 rows and one tile of tokens. A lane is a
// row. The 8 warps take groups of columns in turn, and their sums are added in the order of the warps, so that results
// repeat to the bit. Grid: (blocks, tiles); 256 threads.

typedef unsigned int u32;
typedef unsigned short u16;

struct Shape {
  u32 rows;
  u32 cols;
  u32 groups;
  // The row of y that the first row goes to, and the rows of y.
  u32 first;
  u32 stride;
  // 1 adds to y.
  u32 add;
};

__device__ __forceinline__ float half_to_float(u32 bits) {
  float value;
  asm("{ .reg .b16 half; cvt.u16.u32 half, %1; cvt.f32.f16 %0, half; }" : "=f"(value) : "r"(bits));
  return value;
}

// A form has `GROUP` columns in a group, and calls `use(col, weight)` for the weights of a lane in a group. int8 sums the
// codes of a group first; then `close` multiplies them by the scale.

struct Sparse {
  static const u32 GROUP = 64;
  const u32* masks;
  const u32* starts;
  const u16* values;
  template <class Sums>
  __device__ __forceinline__ void add(Sums& sums, u32 at, u32 start, u32 end, u32 lane) const {
    u32 base = starts[at], below = (1u << lane) - 1u;
    for (u32 col = start; col < end; col++) {
      u32 mask = masks[at * GROUP + col - start];
      if (mask >> lane & 1) sums.add(col, __uint_as_float((u32)values[base + __popc(mask & below)] << 16));
      base += __popc(mask);
    }
  }
};

struct Bf16 {
  static const u32 GROUP = 64;
  const u32* words;
  template <class Sums>
  __device__ __forceinline__ void add(Sums& sums, u32 at, u32 start, u32 end, u32 lane) const {
    for (u32 col = start; col < end; col += 2) {
      u32 word = words[(at * GROUP / 2 + (col - start) / 2) * 32 + lane];
      sums.add(col, __uint_as_float(word << 16));
      if (col + 1 < end) sums.add(col + 1, __uint_as_float(word & 0xffff0000u));
    }
  }
};

struct Int8 {
  static const u32 GROUP = 64;
  const u16* scales;
  const u32* words;
  template <class Sums>
  __device__ __forceinline__ void add(Sums& sums, u32 at, u32 start, u32 end, u32 lane) const {
    Sums own(sums);
    own.clear();
    for (u32 col = start; col < end; col++) {
      u32 word = words[(at * GROUP / 4 + (col - start) / 4) * 32 + lane];
      own.add(col, (float)(signed char)(word >> ((col - start) & 3) * 8));
    }
    sums.add_scaled(own, half_to_float(scales[at * 32 + lane]));
  }
};

struct Int4 {
  static const u32 GROUP = 32;
  const u32* scales;
  const u32* words;
  template <class Sums>
  __device__ __forceinline__ void add(Sums& sums, u32 at, u32 start, u32 end, u32 lane) const {
    u32 both = scales[at * 32 + lane];
    float scale = half_to_float(both & 0xffff), minimum = half_to_float(both >> 16);
    for (u32 col = start; col < end; col++) {
      u32 word = words[(at * GROUP / 8 + (col - start) / 8) * 32 + lane];
      sums.add(col, fmaf((float)(word >> ((col - start) & 7) * 4 & 15), scale, minimum));
    }
  }
};

template <int TOKENS>
struct Sums {
  // Tokens after the last one repeat it, and are not stored.
  const float* inputs[TOKENS];
  float sum[TOKENS];
  __device__ __forceinline__ Sums(const float* x, u32 token, u32 tokens, u32 cols) {
#pragma unroll
    for (int i = 0; i < TOKENS; i++) inputs[i] = x + (size_t)min(token + i, tokens - 1) * cols;
    clear();
  }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < TOKENS; i++) sum[i] = 0.f;
  }
  __device__ __forceinline__ void add(u32 col, float weight) {
#pragma unroll
    for (int i = 0; i < TOKENS; i++) sum[i] = fmaf(weight, inputs[i][col], sum[i]);
  }
  __device__ __forceinline__ void add_scaled(const Sums& other, float scale) {
#pragma unroll
    for (int i = 0; i < TOKENS; i++) sum[i] = fmaf(scale, other.sum[i], sum[i]);
  }
};

template <int TOKENS, class Form>
__device__ __forceinline__ void product(
    const Form& form, const float* x, float* y, const Shape& shape, u32 tokens) {
  __shared__ float part[8][32];
  u32 lane = threadIdx.x & 31, slice = threadIdx.x >> 5, token = blockIdx.y * TOKENS;
  Sums<TOKENS> sums(x, token, tokens, shape.cols);
  for (u32 group = slice; group < shape.groups; group += 8) {
    u32 start = group * Form::GROUP, end = min(start + Form::GROUP, shape.cols);
    form.add(sums, blockIdx.x * shape.groups + group, start, end, lane);
  }
  u32 row = blockIdx.x * 32 + lane;
#pragma unroll
  for (int i = 0; i < TOKENS; i++) {
    part[slice][lane] = sums.sum[i];
    __syncthreads();
    if (slice == 0 && row < shape.rows && token + i < tokens) {
      float total = part[0][lane];
      for (int other = 1; other < 8; other++) total += part[other][lane];
      size_t at = (size_t)(token + i) * shape.stride + shape.first + row;
      y[at] = shape.add ? y[at] + total : total;
    }
    __syncthreads();
  }
}

#define PRODUCTS(TOKENS)                                                                                              \
  extern "C" __global__ void __launch_bounds__(256) product_sparse_##TOKENS(                                          \
      const float* __restrict__ x, float* __restrict__ y, Shape shape, u32 tokens, const u32* __restrict__ masks,     \
      const u32* __restrict__ starts, const u16* __restrict__ values) {                                               \
    product<TOKENS>(Sparse{masks, starts, values}, x, y, shape, tokens);                                              \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) product_bf16_##TOKENS(                                            \
      const float* __restrict__ x, float* __restrict__ y, Shape shape, u32 tokens, const u32* __restrict__ words) {   \
    product<TOKENS>(Bf16{words}, x, y, shape, tokens);                                                                \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) product_int8_##TOKENS(                                            \
      const float* __restrict__ x, float* __restrict__ y, Shape shape, u32 tokens, const u16* __restrict__ scales,    \
      const u32* __restrict__ words) {                                                                                \
    product<TOKENS>(Int8{scales, words}, x, y, shape, tokens);                                                        \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) product_int4_##TOKENS(                                            \
      const float* __restrict__ x, float* __restrict__ y, Shape shape, u32 tokens, const u32* __restrict__ scales,    \
      const u32* __restrict__ words) {                                                                                \
    product<TOKENS>(Int4{scales, words}, x, y, shape, tokens);                                                        \
  }

PRODUCTS(1)
PRODUCTS(4)
PRODUCTS(16)
