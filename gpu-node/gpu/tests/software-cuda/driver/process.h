#pragma once
#include <string>
#include <vector>

namespace software_cuda {

/// Runs a program of the search path, and adds what it prints to `output`. Returns whether it ended with status 0.
bool run_program(const std::vector<std::string> &command, std::string &output);

}  // namespace software_cuda
