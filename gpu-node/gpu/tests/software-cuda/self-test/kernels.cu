// Kernels of the self-test.
typedef unsigned u32;

extern "C" __global__ void saxpy(float factor, const float *x, float *y, u32 count) {
  u32 index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < count) y[index] = fmaf(factor, x[index], y[index]);
}

template <int count>
__device__ float block_sum(float value) {
  __shared__ float values[count];
  values[threadIdx.x] = value;
  __syncthreads();
  for (u32 half = count / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) values[threadIdx.x] += values[threadIdx.x + half];
    __syncthreads();
  }
  return values[0];
}

#define SUM(COUNT)                                                                                          \
  extern "C" __global__ void __launch_bounds__(COUNT) sum_##COUNT(const float *values, float *sums) {       \
    float sum = block_sum<COUNT>(values[blockIdx.x * COUNT + threadIdx.x]);                                 \
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;                                                           \
  }
SUM(64)
SUM(256)

/// Sums of all earlier threads of the warp, by shuffles; the votes of all; what the lanes get from others.
extern "C" __global__ void __launch_bounds__(64) warp(u32 *scans, u32 *ballots, u32 *exchanged) {
  u32 lane = threadIdx.x % 32, scan = threadIdx.x;
  for (u32 distance = 1; distance < 32; distance *= 2) {
    u32 other = __shfl_up_sync(0xffffffff, scan, distance);
    if (lane >= distance) scan += other;
  }
  scans[threadIdx.x] = scan;
  ballots[threadIdx.x] = __ballot_sync(0xffffffff, threadIdx.x % 3 == 0);
  exchanged[4 * threadIdx.x] = __shfl_sync(0xffffffff, threadIdx.x, 5);
  exchanged[4 * threadIdx.x + 1] = __shfl_xor_sync(0xffffffff, threadIdx.x, 3);
  exchanged[4 * threadIdx.x + 2] = __shfl_down_sync(0xffffffff, threadIdx.x, 30);
  exchanged[4 * threadIdx.x + 3] = __shfl_sync(0xffffffff, threadIdx.x, 9, 8);
}

extern "C" __global__ void histogram(u32 *counts, u32 *extremes, float *total) {
  __shared__ u32 own[8];
  if (threadIdx.x < 8) own[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&own[threadIdx.x % 8], 1u);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(&counts[threadIdx.x], own[threadIdx.x]);
  u32 index = blockIdx.x * blockDim.x + threadIdx.x;
  atomicMin(&extremes[0], index);
  atomicMax(&extremes[1], index);
  atomicOr(&extremes[2], 1u << (index % 32));
  atomicAdd(total, 1.0f);
}

/// Fragments are read from memory as they lie in the registers of lanes.
extern "C" __global__ void __launch_bounds__(32) product(const u32 *a, const u32 *b, float *d) {
  u32 fragment_a[4], fragment_b[2];
  float sums[4];
  for (u32 i = 0; i < 4; i++) fragment_a[i] = a[threadIdx.x * 4 + i];
  for (u32 i = 0; i < 2; i++) fragment_b[i] = b[threadIdx.x * 2 + i];
  for (u32 i = 0; i < 4; i++) sums[i] = d[threadIdx.x * 4 + i];
  software_mma_m16n8k16_bf16(sums, fragment_a, fragment_b);
  for (u32 i = 0; i < 4; i++) d[threadIdx.x * 4 + i] = sums[i];
}

/// Copies groups of 16 bytes in advance, and stores what has arrived after it waited for all but some groups.
extern "C" __global__ void copy_ahead(const u32 *from, u32 *out, u32 later) {
  __shared__ uint4 copies[3];
  for (u32 group = 0; group < 3; group++) {
    software_cp_async_16(&copies[group], from + 4 * group);
    software_cp_async_commit_group();
  }
  software_cp_async_wait_group(later);
  for (u32 group = 0; group < 3; group++) out[group] = copies[group].w;
}

/// What shared memory has before it is written, and the place of each thread.
extern "C" __global__ void places(u32 *fresh, uint3 *threads) {
  __shared__ u32 word[64];
  u32 block = blockIdx.x + gridDim.x * blockIdx.y;
  u32 thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  if (thread == 0) fresh[block] = word[block % 64];
  __syncthreads();
  word[thread % 64] = 1;
  threads[block * blockDim.x * blockDim.y * blockDim.z + thread] = threadIdx;
}

/// Each block appends its number: the order of the blocks.
extern "C" __global__ void order(u32 *count, u32 *blocks) {
  if (threadIdx.x == 0) blocks[atomicAdd(count, 1u)] = blockIdx.x;
}

extern "C" __global__ void increment(u32 *value) { *value += 1; }

/// Waits for the host, and then increments a value.
extern "C" __global__ void increment_after(u32 *flag, u32 *value) {
  while (atomicAdd(flag, 0u) == 0) {
  }
  *value += 1;
}

// Errors.

extern "C" __global__ void divergent_barrier(u32 *) {
  if (threadIdx.x != 7) __syncthreads();
}

extern "C" __global__ void two_barriers(u32 *) {
  if (threadIdx.x < 32) __syncthreads();
  else
    __syncthreads();
}

extern "C" __global__ void divergent_warp(u32 *out) {
  if (threadIdx.x != 7) out[threadIdx.x] = __ballot_sync(0xffffffff, 1);
}

extern "C" __global__ void two_shuffles(u32 *out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffffff, threadIdx.x, 0);
  else
    out[threadIdx.x] = __shfl_sync(0xffffffff, threadIdx.x, 1);
}

extern "C" __global__ void partial_mask(u32 *out) { out[threadIdx.x] = __ballot_sync(0xffff, 1); }

// Races. In each of them a barrier, or an atomic function, is missing.

extern "C" __global__ void unordered_read(u32 *out) {
  __shared__ u32 words[64];
  words[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = words[threadIdx.x ^ 1];
}

extern "C" __global__ void unordered_write(u32 *out) {
  __shared__ u32 words[64];
  words[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = words[threadIdx.x ^ 32];
  words[threadIdx.x] = 0;
}

extern "C" __global__ void only_warps_wait(u32 *out) {
  __shared__ u32 words[64];
  words[threadIdx.x] = threadIdx.x;
  __syncwarp();
  out[threadIdx.x] = words[63 - threadIdx.x];
}

/// A shuffle exchanges a value, and orders no memory.
extern "C" __global__ void only_shuffles(u32 *out) {
  __shared__ u32 words[32];
  words[threadIdx.x] = threadIdx.x;
  u32 other = __shfl_xor_sync(0xffffffff, threadIdx.x, 1);
  out[threadIdx.x] = words[other];
}

extern "C" __global__ void two_blocks(u32 *out) { out[0] += blockIdx.x; }

extern "C" __global__ void half_atomic(u32 *out) {
  if (threadIdx.x < 32) atomicAdd(out, 1u);
  else out[0] = 0;
}

extern "C" __global__ void copy_for_others(const u32 *from, u32 *out) {
  __shared__ uint4 copies[32];
  software_cp_async_16(&copies[threadIdx.x], from + 4 * threadIdx.x);
  software_cp_async_commit_group();
  software_cp_async_wait_group(0);
  out[threadIdx.x] = copies[threadIdx.x ^ 1].x;
}

/// Everything is ordered here.
extern "C" __global__ void ordered(u32 *out) {
  __shared__ u32 words[64], count;
  if (threadIdx.x == 0) count = 0;
  words[threadIdx.x] = threadIdx.x;
  __syncwarp();
  u32 other = words[threadIdx.x ^ 1];
  __syncwarp();
  words[threadIdx.x] = other;
  __syncthreads();
  atomicAdd(&count, words[63 - threadIdx.x]);
  __syncthreads();
  out[threadIdx.x + 64 * blockIdx.x] = count;
}

extern "C" __global__ void write_at(u32 *out, u32 index) { out[index] = 1; }

extern "C" __global__ void read_at(u32 *out, u32 index) { out[0] = out[index]; }

extern "C" __global__ void misaligned(float *out) { *reinterpret_cast<float4 *>(out + 1) = make_float4(0, 0, 0, 0); }

extern "C" __global__ void outside_array(u32 *out, u32 index) {
  __shared__ u32 words[8];
  words[index] = 1;
  out[0] = words[0];
}

extern "C" __global__ void wide_shift(u32 *out, u32 bits) { out[0] = 1u << bits; }

extern "C" __global__ void deep(u32 *out, u32 depth) {
  volatile u32 frame[4096];
  frame[depth % 4096] = depth;
  if (depth > 0) deep(out, depth - 1);
  out[0] = frame[depth % 4096];
}
