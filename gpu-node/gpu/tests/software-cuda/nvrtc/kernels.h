#pragma once
#include <string>
#include <vector>

namespace software_cuda {

struct KernelDeclaration {
  std::string name;
  /// The expression of its launch bounds.
  std::string max_threads;
};

/// The kernels that preprocessed source defines, each of which starts with `extern "C" __global__`.
std::vector<KernelDeclaration> find_kernels(const std::string &source);

}  // namespace software_cuda
