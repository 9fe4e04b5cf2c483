// Calls about the driver, the device and its context.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "context.h"
#include "settings.h"
#include "signals.h"

using namespace software_cuda;

namespace {

/// Memory without which there is no context. A card's takes some hundred MB.
constexpr size_t CONTEXT_BYTES = 1 << 20;

/// Calls a function if there is this device, of which there is one.
template <typename F>
CUresult with_device(CUdevice device, F function) {
  if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  function();
  return CUDA_SUCCESS;
}

/// Attributes that are not listed are 0.
int attribute(CUdevice_attribute attribute) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return 0x7fffffff;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return 48 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return 64 << 10;
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: return 64 << 10;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: return 65536;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return 1000000;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return 64;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return 1 << 20;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return 2;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return 2048;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR: return 16;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: return 2;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return int(settings().architecture / 10);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return int(settings().architecture % 10);
    case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: return 1;
  }
  return 0;
}

}  // namespace

API CUresult cuInit(unsigned flags) {
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  install_signal_handlers();
  initialized = true;
  return CUDA_SUCCESS;
}

API CUresult cuDriverGetVersion(int *version) {
  *version = 12040;
  return CUDA_SUCCESS;
}

API CUresult cuDeviceGetCount(int *count) {
  return with_device(0, [=] { *count = 1; });
}

API CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  return with_device(ordinal, [=] { *device = ordinal; });
}

API CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  return with_device(device, [=] { std::snprintf(name, size_t(bytes), "software CUDA"); });
}

API CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  return with_device(device, [=] { std::memcpy(uuid->bytes, "software CUDA 0", 16); });
}

API CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

API CUresult cuDeviceGetPCIBusId(char *id, int bytes, CUdevice device) {
  return with_device(device, [=] { std::snprintf(id, size_t(bytes), "0000:01:00.0"); });
}

API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  return with_device(device, [=] { *bytes = primary_context().memory.limit(); });
}

API CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute name, CUdevice device) {
  return with_device(device, [=] { *value = attribute(name); });
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  if (settings().memory_bytes < CONTEXT_BYTES) return CUDA_ERROR_OUT_OF_MEMORY;
  return with_device(device, [=] {
    *context = &primary_context();
    std::lock_guard lock((*context)->mutex);
    (*context)->references++;
  });
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  bool last = false;
  CUresult result = with_device(device, [&] {
    std::lock_guard lock(primary_context().mutex);
    last = primary_context().references > 0 && --primary_context().references == 0;
  });
  if (last) primary_context().reset();
  return result;
}

API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return with_device(device, [] { primary_context().reset(); });
}

API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
  return with_device(device, [=] { primary_context().flags = flags; });
}

API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  return with_device(device, [=] {
    *flags = primary_context().flags;
    *active = primary_context().references > 0;
  });
}

API CUresult cuCtxSetCurrent(CUcontext context) {
  if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (context && context != &primary_context()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context && context->references == 0) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  set_current_context(context);
  return CUDA_SUCCESS;
}

API CUresult cuCtxGetCurrent(CUcontext *context) {
  if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
  *context = current_context();
  return CUDA_SUCCESS;
}

API CUresult cuCtxGetDevice(CUdevice *device) {
  return with_context([=](Context &) {
    *device = 0;
    return CUDA_SUCCESS;
  });
}

API CUresult cuCtxGetApiVersion(CUcontext, unsigned *version) {
  *version = 3020;
  return CUDA_SUCCESS;
}

API CUresult cuCtxSynchronize() {
  return outside_capture([](Context &context) {
    context.synchronize();
    return context.error.load();
  });
}

API CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  return with_context([=](Context &) {
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS;
  });
}

API CUresult cuCtxSetFlags(unsigned) {
  return with_context([](Context &) { return CUDA_SUCCESS; });
}
