#include "settings.h"

#include <cstdlib>

namespace software_cuda {

namespace {

const char *variable(const char *name, const char *otherwise) {
  const char *value = std::getenv(name);
  return value && *value ? value : otherwise;
}

/// `sm_90`, `9.0` and `90` are all 90.
unsigned digits(const char *text) {
  unsigned number = 0;
  for (; *text; text++)
    if ('0' <= *text && *text <= '9') number = number * 10 + unsigned(*text - '0');
  return number;
}

}  // namespace

const Settings &settings() {
  static const Settings &settings = *new Settings{
      digits(variable("SOFTWARE_CUDA_ARCH", "sm_90")),
      size_t(std::strtoull(variable("SOFTWARE_CUDA_BYTES", "4294967296"), nullptr, 10)),
      std::strtol(variable("SOFTWARE_CUDA_DELAY_US", "0"), nullptr, 10),
      digits(variable("SOFTWARE_CUDA_NVRTC", "0")),
      variable("SOFTWARE_CUDA_OPTIMIZATION", "-Og"),
      digits(variable("SOFTWARE_CUDA_RACES", "0")) != 0,
      variable("SOFTWARE_CUDA_FAIL", ""),
  };
  return settings;
}

}  // namespace software_cuda
