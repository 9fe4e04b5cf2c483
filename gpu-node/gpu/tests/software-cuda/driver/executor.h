// Runs kernels on one thread of the processor: the blocks one after another, the threads of a block in turns.
#pragma once
#include <csetjmp>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "../device/interface.h"
#include "api.h"
#include "fiber.h"
#include "races.h"

namespace software_cuda {

/// A kernel in a module that is loaded.
struct Code {
  const Entry *entry;
  void (*enter)(const Block *block);
  /// What dlopen returned, and the size of the module's thread-local variables: its shared memory.
  void *library;
  size_t shared_bytes;
};

/// Why a kernel was ended.
struct Failure {
  CUresult result = CUDA_SUCCESS;
  std::string reason;
};

/// Each thread of the processor that runs kernels has one.
class Executor {
 public:
  Executor();
  ~Executor();
  Executor(const Executor &) = delete;

  /// Runs all blocks of a grid. Successive launches run blocks, warps and lanes in opposite orders, so that a kernel
  /// which depends on the order gives other results.
  Failure run(const Code &code, void *const *parameters, Index blocks, Index threads);

  /// Calls a function, and turns a fault of memory in it into a failure.
  Failure guard(const std::function<void()> &function);

  /// For the handler of signals: leaves what the calling thread executes. Returns where it executes nothing.
  static void fault(int signal, void *address, void *instruction);

 private:
  enum class State { ready, at_barrier, at_warp, done };

  /// 16 bytes that have not arrived yet.
  struct PendingCopy {
    void *to;
    const void *from;
    unsigned group;
  };

  /// A thread of the block.
  struct BlockThread : Thread {
    State state;
    unsigned line;
    Combine combine;
    void *argument;
    Fiber fiber;
    std::vector<PendingCopy> copies;
    unsigned copy_group;
  };

  void run_block(const Code &code);
  bool run_warp(unsigned first, unsigned end);
  Fiber *next_fiber();
  bool combine_warp(unsigned first, unsigned end);
  bool release_barrier();
  void fail_divergent();
  void fail(CUresult result, const std::string &reason);
  void add_stacks();
  void add_line(const char *what, const void *instruction);
  void note(const void *address, size_t bytes, Access kind, const void *instruction);
  void wait(State state, unsigned line);
  std::string describe(const BlockThread &thread) const;

  static void start_thread();
  static void on_barrier(unsigned line);
  static void on_meet(Combine combine, void *argument, unsigned line);
  static void on_start_copy(void *to, const void *from);
  static void on_end_copies();
  static void on_wait_for_copies(unsigned later_groups);
  static void on_access(const void *address, size_t bytes, Access kind, const void *instruction);
  static void on_fail(int error, const char *reason, unsigned line);

  static const Runtime runtime;

  Fiber scheduler;
  std::vector<BlockThread> threads;
  BlockThread *running = nullptr;
  /// The lanes of the warp that have not had their turn.
  BlockThread *next_lane = nullptr;
  unsigned lanes_left = 0;
  unsigned thread_count = 0;
  Block block{};
  const Entry *entry = nullptr;
  void *const *parameters = nullptr;
  Failure failure;
  Races races;
  /// The instruction that faulted, or the later one of a race, and the earlier one.
  const void *fault_instruction = nullptr;
  const void *other_instruction = nullptr;
  bool backward = false;
  /// Where a fault goes on.
  sigjmp_buf escape;
  bool guarded = false;
  char *stacks;
  unsigned stack_count = 0;
  std::vector<char> signal_stack;
};

}  // namespace software_cuda
