// Compiled code that was loaded.
#pragma once
#include <memory>
#include <string>

#include "api.h"
#include "executor.h"

namespace software_cuda {

/// Compiled code: a shared object that NVRTC's stand-in made.
struct Module {
  /// `image` starts with the bytes of the shared object, whose size follows from them.
  static CUresult load(const void *image, std::shared_ptr<Module> &module);

  Module(void *library, int file, const Image *image, size_t shared_bytes);
  ~Module();
  Module(const Module &) = delete;

  const Entry *find(const std::string &name) const;
  Code code(const Entry *entry) const;
  size_t shared_bytes() const { return thread_local_bytes; }

 private:
  void *library;
  /// Open as long as the library is: dlopen would take another module under the same path of /proc for this one.
  int file;
  const Image *image;
  size_t thread_local_bytes;
};

/// A kernel of a module. It keeps the code loaded while it is in a queue or in a graph.
struct Function {
  std::shared_ptr<Module> module;
  const Entry *entry;
};

}  // namespace software_cuda
