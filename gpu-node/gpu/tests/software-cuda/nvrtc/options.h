#pragma once
#include <string>
#include <vector>

namespace software_cuda {

/// Options of NVRTC that matter here.
struct Options {
  /// As `__CUDA_ARCH__`.
  unsigned architecture;
  /// Whether the code is PTX, for every later architecture.
  bool portable;
  /// Options for g++: definitions of macros.
  std::vector<std::string> definitions;
};

/// The versions of architectures that can be compiled for, such as 90.
extern const std::vector<int> ARCHITECTURES;

/// Throws std::invalid_argument for an option that NVRTC does not have.
Options parse_options(const std::vector<std::string> &options);

}  // namespace software_cuda
