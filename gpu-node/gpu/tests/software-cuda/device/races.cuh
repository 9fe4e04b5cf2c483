// Tells the driver of every use of memory, where races are searched. Part of software_cuda.cuh.
#pragma once

#ifdef __SANITIZE_THREAD__
#define SOFTWARE_CUDA_UNNOTED __attribute__((no_sanitize("thread")))

namespace software_cuda {

SOFTWARE_CUDA_UNNOTED inline void note(const void *address, unsigned long bytes, Access kind, const void *instruction) {
  // A call returns to the instruction after it.
  block->runtime->access(address, bytes, kind, static_cast<const char *>(instruction) - 1);
}

}  // namespace software_cuda

// g++ compiles calls of these functions with -fsanitize=thread.
#define SOFTWARE_CUDA_NOTE(name, bytes, kind)                                                             \
  extern "C" SOFTWARE_CUDA_UNNOTED inline __attribute__((used, noinline)) void __tsan_##name(void *address) { \
    software_cuda::note(address, bytes, software_cuda::Access::kind, __builtin_return_address(0));        \
  }
#define SOFTWARE_CUDA_NOTES(bytes)              \
  SOFTWARE_CUDA_NOTE(read##bytes, bytes, read)  \
  SOFTWARE_CUDA_NOTE(write##bytes, bytes, write)
SOFTWARE_CUDA_NOTES(1)
SOFTWARE_CUDA_NOTES(2)
SOFTWARE_CUDA_NOTES(4)
SOFTWARE_CUDA_NOTES(8)
SOFTWARE_CUDA_NOTES(16)
#undef SOFTWARE_CUDA_NOTES
#undef SOFTWARE_CUDA_NOTE

extern "C" SOFTWARE_CUDA_UNNOTED inline __attribute__((used, noinline)) void __tsan_read_range(void *address,
                                                                                              unsigned long bytes) {
  software_cuda::note(address, bytes, software_cuda::Access::read, __builtin_return_address(0));
}
extern "C" SOFTWARE_CUDA_UNNOTED inline __attribute__((used, noinline)) void __tsan_write_range(void *address,
                                                                                               unsigned long bytes) {
  software_cuda::note(address, bytes, software_cuda::Access::write, __builtin_return_address(0));
}
extern "C" inline __attribute__((used)) void __tsan_init() {}

#define SOFTWARE_CUDA_NOTE_ATOMIC(address)                                              \
  software_cuda::note(address, sizeof(*(address)), software_cuda::Access::atomic, __builtin_return_address(0))
#else
#define SOFTWARE_CUDA_UNNOTED
#define SOFTWARE_CUDA_NOTE_ATOMIC(address) static_cast<void>(address)
#endif
