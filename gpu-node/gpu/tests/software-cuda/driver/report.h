// Reports of what a program did wrong, for the person who reads a test's output.
#pragma once
#include <string>

namespace software_cuda {

/// Prints a sentence to stderr and keeps it for `softwareCudaLastReport`.
void report(const std::string &sentence);

}  // namespace software_cuda
