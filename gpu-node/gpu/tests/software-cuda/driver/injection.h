// Failures that tests ask for.
#pragma once
#include "api.h"

namespace software_cuda {

/// What the kernel that starts now fails with, if a test asked for it; then the next ones do not fail.
CUresult take_injected_failure();

}  // namespace software_cuda
