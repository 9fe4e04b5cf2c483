// What environment variables set, read once.
#pragma once
#include <cstddef>
#include <string>

namespace software_cuda {

struct Settings {
  /// `SOFTWARE_CUDA_ARCH`, such as `sm_90` or `9.0`: the compute capability, as 90.
  unsigned architecture;
  /// `SOFTWARE_CUDA_BYTES`: memory of the device.
  size_t memory_bytes;
  /// `SOFTWARE_CUDA_DELAY_US`: how long each operation of a stream waits before it starts.
  long delay_microseconds;
  /// `SOFTWARE_CUDA_NVRTC`, such as `12.4`: the version of the compiler, as 124; 0 if it is not set.
  unsigned compiler;
  /// `SOFTWARE_CUDA_OPTIMIZATION`: how g++ optimizes kernels. Tests compile as much as they compute.
  std::string optimization;
  /// `SOFTWARE_CUDA_RACES`: whether races are searched.
  bool finds_races;
  /// `SOFTWARE_CUDA_FAIL`: a file. While it exists, the next kernel removes it and fails.
  std::string fail_file;
};

const Settings &settings();

}  // namespace software_cuda
