#pragma once
#include <string>

namespace software_cuda {

/// The file and the line of the source of a kernel's instruction, such as `kernels.cu:12`; empty if they are not known.
std::string source_line(const void *instruction);

}  // namespace software_cuda
