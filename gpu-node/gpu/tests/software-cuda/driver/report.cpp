#include "report.h"

#include <cstdio>
#include <mutex>

#include "api.h"

namespace software_cuda {

static std::mutex mutex;
// Never destroyed: threads may report while the process ends.
static std::string &last = *new std::string;

void report(const std::string &sentence) {
  std::lock_guard lock(mutex);
  last = sentence;
  std::fprintf(stderr, "software CUDA: %s\n", sentence.c_str());
}

/// The latest report, as text of at most `bytes` with its end.
API void softwareCudaLastReport(char *text, size_t bytes) {
  std::lock_guard lock(mutex);
  std::snprintf(text, bytes, "%s", last.c_str());
}

}  // namespace software_cuda
