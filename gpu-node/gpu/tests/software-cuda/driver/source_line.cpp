#include "source_line.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "process.h"

namespace software_cuda {

std::string source_line(const void *instruction) {
  Dl_info info;
  const std::string own = "/proc/self/";
  if (!dladdr(instruction, &info) || std::string(info.dli_fname).rfind(own, 0) != 0) return "";
  // The module is a file of this process, not of the one that reads it.
  std::string module = "/proc/" + std::to_string(getpid()) + "/" + (info.dli_fname + own.size());
  char offset[32];
  std::snprintf(offset, sizeof(offset), "%zx",
                size_t(reinterpret_cast<uintptr_t>(instruction) - reinterpret_cast<uintptr_t>(info.dli_fbase)));
  std::string line;
  // It comes with g++.
  if (!run_program({"addr2line", "-s", "-e", module, offset}, line) || line.rfind("??", 0) == 0) return "";
  return line.substr(0, line.find_first_of(" \n"));
}

}  // namespace software_cuda
