#pragma once
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "options.h"

namespace software_cuda {

/// A file by its name in `#include`, and its text.
using Header = std::pair<std::string, std::string>;

/// What the compiler says of source that it does not compile.
struct CompileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Compiles CUDA source to the bytes of a shared object, with g++. Throws CompileError.
std::string compile(const std::string &source, const std::string &name, const std::vector<Header> &headers,
                    const Options &options);

}  // namespace software_cuda
