#include "fiber.h"

#include <cstdint>

#if !defined(__x86_64__) || defined(SOFTWARE_CUDA_UCONTEXT)

namespace software_cuda {

void Fiber::prepare(void *stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

void Fiber::switch_to(Fiber &next) { swapcontext(&context, &next.context); }

}  // namespace software_cuda

#else

// Saves the registers that a function has to keep, exchanges the stacks, and restores those of the other: swapcontext
// would ask the kernel for the signal mask each time.
extern "C" void software_cuda_switch(void **saved, void *next);
asm(R"(
.text
.type software_cuda_switch, @function
software_cuda_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size software_cuda_switch, . - software_cuda_switch
)");

namespace software_cuda {

void Fiber::prepare(void *stack, size_t bytes, void (*entry)()) {
  auto top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t(15);
  auto **words = reinterpret_cast<void **>(top);
  // As after a call of `entry` by a function at address 0: the stack is aligned but for the return address.
  *--words = nullptr;
  *--words = reinterpret_cast<void *>(entry);
  for (int saved_register = 0; saved_register < 6; saved_register++) *--words = nullptr;
  stack_pointer = words;
}

void Fiber::switch_to(Fiber &next) { software_cuda_switch(&stack_pointer, next.stack_pointer); }

}  // namespace software_cuda

#endif
