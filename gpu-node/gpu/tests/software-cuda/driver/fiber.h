// Threads of execution that take turns on one thread of the processor.
#pragma once
#include <cstddef>

#if !defined(__x86_64__) || defined(SOFTWARE_CUDA_UCONTEXT)
#include <ucontext.h>
#endif

namespace software_cuda {

/// A place in a program where it can go on: registers and stack.
class Fiber {
 public:
  /// Makes this start `entry`, which must not return, on a stack.
  void prepare(void *stack, size_t bytes, void (*entry)());

  /// Goes on with another, until that or a third switches to this.
  void switch_to(Fiber &next);

 private:
#if !defined(__x86_64__) || defined(SOFTWARE_CUDA_UCONTEXT)
  ucontext_t context;
#else
  void *stack_pointer = nullptr;
#endif
};

}  // namespace software_cuda
