// CUDA for kernels that g++ compiles: what they may use of the language and of its functions.
//
// A block runs on one thread of the processor, and its threads take turns: one runs until it waits for others.
#pragma once
#include "interface.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// The driver fills the thread-local variables of a module with NaN before every block.
#define __shared__ static thread_local

#define threadIdx (software_cuda::block->thread->index)
#define blockIdx (software_cuda::block->index)
#define blockDim (software_cuda::block->threads)
#define gridDim (software_cuda::block->blocks)
#define warpSize 32

#define SOFTWARE_CUDA_LINE unsigned line = __builtin_LINE()

namespace software_cuda {

static thread_local const Block *block;

inline unsigned lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

/// Meets the other lanes with an argument, in which `combine` leaves the result.
template <typename Argument>
inline void meet(unsigned mask, void (*combine)(void *const *, unsigned), Argument &argument, unsigned line) {
  if (mask != ~0u) block->runtime->fail(801, "a warp function whose mask is not full", line);
  block->runtime->meet(combine, &argument, line);
}

struct Vote {
  bool predicate;
  unsigned result;
};

inline void vote(void *const *votes, unsigned lanes) {
  unsigned result = 0;
  for (unsigned lane = 0; lane < lanes; lane++) result |= unsigned(static_cast<Vote *>(votes[lane])->predicate) << lane;
  for (unsigned lane = 0; lane < lanes; lane++) static_cast<Vote *>(votes[lane])->result = result;
}

template <typename T>
struct Shuffle {
  T value;
  unsigned source;
  T result;
};

template <typename T>
void shuffle(void *const *shuffles, unsigned lanes) {
  for (unsigned lane = 0; lane < lanes; lane++) {
    auto *own = static_cast<Shuffle<T> *>(shuffles[lane]);
    // What a lane that does not exist has is undefined.
    if (own->source < lanes) own->result = static_cast<Shuffle<T> *>(shuffles[own->source])->value;
    else __builtin_memset(&own->result, 0xff, sizeof(T));
  }
}

template <typename T>
T shuffle_from(unsigned mask, T value, unsigned source, unsigned line) {
  Shuffle<T> argument{value, source, value};
  meet(mask, shuffle<T>, argument, line);
  return argument.result;
}

inline unsigned vote_of(unsigned mask, bool predicate, unsigned line) {
  Vote argument{predicate, 0};
  meet(mask, vote, argument, line);
  return argument.result;
}

}  // namespace software_cuda

inline void __syncthreads(SOFTWARE_CUDA_LINE) { software_cuda::block->runtime->barrier(line); }

inline void __syncwarp(unsigned mask = ~0u, SOFTWARE_CUDA_LINE) {
  char nothing;
  software_cuda::meet(mask, nullptr, nothing, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SOFTWARE_CUDA_LINE) {
  return software_cuda::vote_of(mask, predicate != 0, line);
}
inline int __any_sync(unsigned mask, int predicate, SOFTWARE_CUDA_LINE) {
  return software_cuda::vote_of(mask, predicate != 0, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SOFTWARE_CUDA_LINE) {
  return software_cuda::vote_of(mask, predicate == 0, line) == 0;
}
inline unsigned __activemask() { return ~0u; }

// A shuffle works in segments of `width` lanes. A source outside the segment is the lane itself.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SOFTWARE_CUDA_LINE) {
  unsigned start = software_cuda::lane() & ~unsigned(width - 1);
  return software_cuda::shuffle_from(mask, value, start + (unsigned(source) & unsigned(width - 1)), line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SOFTWARE_CUDA_LINE) {
  unsigned lane = software_cuda::lane(), source = lane ^ unsigned(bits);
  unsigned end = (lane & ~unsigned(width - 1)) + unsigned(width);
  return software_cuda::shuffle_from(mask, value, source < end ? source : lane, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, SOFTWARE_CUDA_LINE) {
  unsigned lane = software_cuda::lane(), inside = lane & unsigned(width - 1);
  return software_cuda::shuffle_from(mask, value, inside >= distance ? lane - distance : lane, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, SOFTWARE_CUDA_LINE) {
  unsigned lane = software_cuda::lane(), inside = lane & unsigned(width - 1);
  return software_cuda::shuffle_from(mask, value, inside + distance < unsigned(width) ? lane + distance : lane, line);
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32` with `d` as its accumulator too.
inline void software_mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                       SOFTWARE_CUDA_LINE) {
  software_cuda::Product product{d, a, b};
  software_cuda::meet(~0u, software_cuda::block->runtime->multiply, product, line);
}

// Asynchronous copies: `cp.async.cg.shared.global` of 16 bytes, `cp.async.commit_group`, `cp.async.wait_group`. What is
// copied arrives only when the thread waits for its group; until then the place is all NaN.
inline void software_cp_async_16(void *to, const void *from, SOFTWARE_CUDA_LINE) {
  if (((unsigned long)to | (unsigned long)from) % 16 != 0)
    software_cuda::block->runtime->fail(716, "misaligned asynchronous copy", line);
  // Faults here, in the kernel, if the memory is not there.
  static_cast<void>(*static_cast<const volatile char *>(from));
  software_cuda::block->runtime->start_copy(to, from);
}
inline void software_cp_async_commit_group() { software_cuda::block->runtime->end_copies(); }
inline void software_cp_async_wait_group(unsigned later_groups) {
  software_cuda::block->runtime->wait_for_copies(later_groups);
}

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __trap(SOFTWARE_CUDA_LINE) { software_cuda::block->runtime->fail(719, "__trap", line); }

#include "races.cuh"
#include "arithmetic.cuh"
#include "entries.cuh"
