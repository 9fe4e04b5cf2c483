// What a compiled kernel and the driver that runs it share. It needs no header.
#pragma once

namespace software_cuda {

struct Index {
  unsigned x, y, z;
};

/// A thread of the block that runs.
struct Thread {
  Index index;
};

/// Does the work of a warp function for all lanes of a warp. `arguments[lane]` is what the lane gave.
using Combine = void (*)(void *const *arguments, unsigned lanes);

/// How a kernel uses memory.
enum class Access { read, write, atomic };

/// What the driver does for a kernel. A call may switch to another thread of the block. `line` is that of the source.
struct Runtime {
  /// `__syncthreads`.
  void (*barrier)(unsigned line);
  /// Waits for all lanes of the warp, and lets one of them call `combine` with the arguments of all. Without `combine` it orders
  /// their accesses to memory.
  void (*meet)(Combine combine, void *argument, unsigned line);
  /// Asynchronous copies of a thread: of 16 bytes; the end of a group of them; waiting for all but some groups.
  void (*start_copy)(void *to, const void *from);
  void (*end_copies)();
  void (*wait_for_copies)(unsigned later_groups);
  /// Ends the launch with an error of the driver's interface.
  void (*fail)(int error, const char *reason, unsigned line);
  /// Notes a use of memory by an instruction, where races are searched.
  void (*access)(const void *address, unsigned long bytes, Access kind, const void *instruction);
  /// The product of matrices; its arguments are of type `Product`.
  Combine multiply;
};

/// A lane's fragments of `d += a · b`.
struct Product {
  float *d;
  const unsigned *a;
  const unsigned *b;
};

/// The block that runs on a thread of the processor.
struct Block {
  const Thread *thread;
  Index index;
  Index threads;
  Index blocks;
  const Runtime *runtime;
};

struct Parameter {
  unsigned bytes;
  bool pointer;
};

struct Entry {
  const char *name;
  void (*run)(void *const *parameters);
  const Parameter *parameters;
  unsigned parameter_count;
  /// Of `__launch_bounds__`.
  unsigned max_threads;
};

/// The symbol `software_cuda_image` of compiled code.
struct Image {
  /// `SOFTWARE_CUDA_ABI` of the header that it was compiled with.
  unsigned abi;
  /// As `__CUDA_ARCH__`.
  unsigned architecture;
  /// Whether it stands for PTX, which runs on every later architecture.
  bool portable;
  const Entry *entries;
  unsigned entry_count;
  /// Says which block the calling thread of the processor runs from now on.
  void (*enter)(const Block *block);
};

}  // namespace software_cuda
