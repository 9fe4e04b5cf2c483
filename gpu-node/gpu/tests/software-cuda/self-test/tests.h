// What the tests of software CUDA share.
#pragma once
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "device.h"

constexpr unsigned ILLEGAL_ADDRESS = 700, MISALIGNED_ADDRESS = 716, LAUNCH_FAILED = 719;

/// The module of kernels.cu.
extern Handle module;

/// Compiles CUDA source, which gives an expected result of NVRTC. Returns the cubin, and the log if it is wanted.
std::string compile(const std::string &source, std::vector<const char *> options, unsigned expected, std::string *log);

/// Loads `module` again, after a reset of the context.
void load();

/// The file of SOFTWARE_CUDA_FAIL.
std::string fail_file();

/// Launches a kernel that must fail, and resets the context.
template <typename... P>
void expect_failure(const char *name, Size threads, unsigned error, const char *reason, P... values) {
  DO(launch(module, name, {}, threads, nullptr, values...));
  CHECK(cuCtxSynchronize() == error);
  CHECK(contains(last_report(), reason));
  CUdeviceptr none;
  CHECK(cuMemAlloc_v2(&none, 4) == error);
  DO(cuDevicePrimaryCtxReset_v2(0));
  load();
}

/// Memory of the host by which it lets the kernel `increment_after` go on.
class Flag {
 public:
  Flag() {
    void *memory;
    DO(cuMemHostAlloc(&memory, sizeof(unsigned), 0));
    word = static_cast<unsigned *>(memory);
    *word = 0;
  }

  CUdeviceptr address() const { return CUdeviceptr(word); }
  void set() { __atomic_store_n(word, 1u, __ATOMIC_RELEASE); }

  /// Sets the flag after a while, from another thread.
  std::thread set_later() {
    return std::thread([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      set();
    });
  }

 private:
  unsigned *word;
};

// The tests, in computation.cpp, streams.cpp and errors.cpp.
void errors_of_compilation();
void small_module();
void saxpy();
void sums();
void warps();
void atomics();
void matrix_product();
void places();
void asynchronous_copies();
void orders();
void streams();
void default_stream();
void graphs();
void memory();
void divergence();
void wrong_addresses();
void undefined_behaviour();
void races();
void injected_failure();
void contexts();
