#include "injection.h"

#include <unistd.h>

#include <atomic>

#include "context.h"
#include "settings.h"

namespace software_cuda {

static std::atomic<CUresult> next_failure = CUDA_SUCCESS;

CUresult take_injected_failure() {
  CUresult failure = next_failure.exchange(CUDA_SUCCESS);
  const std::string &file = settings().fail_file;
  if (!file.empty() && unlink(file.c_str()) == 0) failure = CUDA_ERROR_LAUNCH_FAILED;
  return failure;
}

/// Makes the next kernel that starts fail with an error of the driver's interface, which stays until a reset.
API void softwareCudaFail(CUresult result) { next_failure = result; }

/// Sets the memory of the device, bytes, until the next call. What is allocated stays.
API void softwareCudaSetMemory(size_t bytes) { primary_context().memory.set_limit(bytes); }

}  // namespace software_cuda
