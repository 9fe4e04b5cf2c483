// A device for tests: every call has to succeed, unless a test asks for its result.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "driver.h"

/// Ends the process unless something holds.
#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) {                                                          \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                              \
    }                                                                            \
  } while (false)

/// Ends the process unless a call succeeds.
#define DO(call)                                                                              \
  do {                                                                                        \
    if (CUresult result = (call)) {                                                           \
      const char *name = nullptr;                                                             \
      cuGetErrorName(result, &name);                                                          \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, name ? name : "?");  \
      std::exit(1);                                                                           \
    }                                                                                         \
  } while (false)

struct Size {
  unsigned x = 1, y = 1, z = 1;
};

/// A buffer on the device.
template <typename T>
struct Buffer {
  explicit Buffer(size_t count) : count(count) { DO(cuMemAlloc_v2(&address, count * sizeof(T))); }
  explicit Buffer(const std::vector<T> &values) : Buffer(values.size()) {
    DO(cuMemcpyHtoD_v2(address, values.data(), count * sizeof(T)));
    DO(cuCtxSynchronize());
  }

  Buffer(std::initializer_list<T> values) : Buffer(std::vector<T>(values)) {}

  std::vector<T> read() const {
    std::vector<T> values(count);
    DO(cuMemcpyDtoH_v2(values.data(), address, count * sizeof(T)));
    return values;
  }

  CUdeviceptr address = 0;
  size_t count;
};

/// The result of a launch of a kernel of a module.
template <typename... P>
CUresult launch(Handle module, const char *name, Size blocks, Size threads, Handle stream, P... values) {
  Handle function;
  DO(cuModuleGetFunction(&function, module, name));
  void *parameters[] = {&values..., nullptr};
  return cuLaunchKernel(function, blocks.x, blocks.y, blocks.z, threads.x, threads.y, threads.z, 0, stream, parameters,
                        nullptr);
}

/// What the driver reported last.
inline std::string last_report() {
  char text[1000];
  softwareCudaLastReport(text, sizeof(text));
  return text;
}

inline bool contains(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }
