// Calls that allocate, free, copy and fill memory.
#include <algorithm>
#include <cstring>

#include "context.h"
#include "report.h"

using namespace software_cuda;

namespace {

uintptr_t address_of(const void *pointer) { return reinterpret_cast<uintptr_t>(pointer); }

/// Bytes that a copy reads or writes.
struct Place {
  uintptr_t address;
  MemoryKind kind;

  std::optional<std::string> problem(Memory &memory, size_t bytes) const {
    return kind == MemoryKind::device ? memory.problem(address, bytes) : memory.host_problem(address, bytes);
  }
};

/// Work on `bytes` of some places. It is refused if they are not there, and fails if they are not there any more.
CUresult submit(Context &context, CUstream handle, const char *name, std::vector<Place> places, size_t bytes,
                std::function<void()> work) {
  auto stream = context.stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  for (const Place &place : places) {
    if (auto problem = place.problem(context.memory, bytes)) {
      report(std::string(name) + ": " + *problem);
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  if (bytes == 0) return CUDA_SUCCESS;
  return context.submit(stream, {[=, &context](Executor &executor) {
    for (const Place &place : places)
      if (auto problem = place.problem(context.memory, bytes))
        return Failure{CUDA_ERROR_ILLEGAL_ADDRESS, std::string(name) + ": " + *problem};
    Failure failure = executor.guard(work);
    if (failure.result != CUDA_SUCCESS) failure.reason = std::string(name) + ": " + failure.reason;
    return failure;
  }});
}

CUresult copy(Context &context, CUstream stream, const char *name, Place to, Place from, size_t bytes) {
  return submit(context, stream, name, {to, from}, bytes, [=] {
    std::memmove(reinterpret_cast<void *>(to.address), reinterpret_cast<const void *>(from.address), bytes);
  });
}

template <typename T>
CUresult fill(Context &context, CUstream stream, const char *name, CUdeviceptr address, T value, size_t count) {
  if (address % sizeof(T) != 0) return CUDA_ERROR_INVALID_VALUE;
  Place place{uintptr_t(address), MemoryKind::device};
  return submit(context, stream, name, {place}, count * sizeof(T), [=] {
    auto *values = reinterpret_cast<T *>(place.address);
    for (size_t index = 0; index < count; index++) values[index] = value;
  });
}

Place device(CUdeviceptr address) { return {uintptr_t(address), MemoryKind::device}; }
Place host(const void *address) { return {address_of(address), MemoryKind::host}; }

CUresult wait(Context &context, CUresult submitted) {
  if (submitted != CUDA_SUCCESS) return submitted;
  Stream::now(context.default_stream).wait();
  return context.error;
}

CUresult allocate(Context &context, CUdeviceptr *pointer, size_t bytes, bool stream_ordered) {
  uintptr_t address = 0;
  CUresult result = context.memory.allocate(bytes, MemoryKind::device, stream_ordered, address);
  if (result == CUDA_SUCCESS) *pointer = address;
  return result;
}

/// Reports what kernels wrote beside the memory, as far as it shows only now.
CUresult free_memory(Context &context, uintptr_t address, MemoryKind kind, const char *name) {
  if (auto damage = context.memory.damage()) {
    report(std::string(name) + ": " + *damage);
    context.error = CUDA_ERROR_ILLEGAL_ADDRESS;
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  CUresult result = context.memory.release(address, kind);
  if (result != CUDA_SUCCESS) report(std::string(name) + ": no live allocation starts at the address");
  return result;
}

}  // namespace

API CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  return outside_capture([=](Context &context) { return allocate(context, pointer, bytes, false); });
}

/// The memory is there at once, so a use in another stream before its time does not show.
API CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  return with_context([=](Context &context) {
    if (!context.stream(stream)) return CUDA_ERROR_INVALID_HANDLE;
    return allocate(context, pointer, bytes, true);
  });
}

/// Waits for all work first, as the driver does unless the memory came from a stream.
API CUresult cuMemFree_v2(CUdeviceptr pointer) {
  if (pointer == 0) return CUDA_SUCCESS;
  return outside_capture([=](Context &context) {
    if (!context.memory.is_stream_ordered(pointer)) context.synchronize();
    if (CUresult error = context.error) return error;
    return free_memory(context, pointer, MemoryKind::device, "cuMemFree");
  });
}

API CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream handle) {
  return with_context([=](Context &context) {
    auto stream = context.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    return context.submit(stream, {[=, &context](Executor &) {
      CUresult result = free_memory(context, pointer, MemoryKind::device, "cuMemFreeAsync");
      return result == CUDA_SUCCESS ? Failure{} : Failure{result, "cuMemFreeAsync failed"};
    }});
  });
}

API CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned) {
  return outside_capture([=](Context &context) {
    uintptr_t address = 0;
    CUresult result = context.memory.allocate(bytes, MemoryKind::host, false, address);
    if (result == CUDA_SUCCESS) *pointer = reinterpret_cast<void *>(address);
    return result;
  });
}

API CUresult cuMemAllocHost_v2(void **pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }

API CUresult cuMemFreeHost(void *pointer) {
  return outside_capture([=](Context &context) {
    context.synchronize();
    if (CUresult error = context.error) return error;
    return free_memory(context, address_of(pointer), MemoryKind::host, "cuMemFreeHost");
  });
}

API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device_pointer, void *pointer, unsigned) {
  return with_context([=](Context &context) {
    if (!context.memory.range(address_of(pointer))) return CUDA_ERROR_INVALID_VALUE;
    *device_pointer = address_of(pointer);
    return CUDA_SUCCESS;
  });
}

API CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  return with_context([=](Context &context) {
    *total = context.memory.limit();
    *free = *total - std::min(*total, context.memory.used());
    return CUDA_SUCCESS;
  });
}

API CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer) {
  return with_context([=](Context &context) {
    auto range = context.memory.range(pointer);
    if (!range) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = range->first;
    if (bytes) *bytes = range->second;
    return CUDA_SUCCESS;
  });
}

/// Takes the bytes before it returns, but does not wait until they are in the memory of the device.
API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  return outside_capture([=](Context &context) {
    if (auto problem = context.memory.host_problem(address_of(from), bytes)) {
      report("cuMemcpyHtoD: " + *problem);
      return CUDA_ERROR_INVALID_VALUE;
    }
    auto *first = static_cast<const char *>(from);
    auto staged = std::make_shared<std::vector<char>>(first, first + bytes);
    return submit(context, nullptr, "cuMemcpyHtoD", {device(to)}, bytes,
                  [=] { std::memcpy(reinterpret_cast<void *>(uintptr_t(to)), staged->data(), bytes); });
  });
}

API CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  return outside_capture([=](Context &context) {
    return wait(context, copy(context, nullptr, "cuMemcpyDtoH", host(to), device(from), bytes));
  });
}

API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return outside_capture([=](Context &context) {
    return copy(context, nullptr, "cuMemcpyDtoD", device(to), device(from), bytes);
  });
}

// Copies in a stream read and write memory of the host when their turn comes, whether it is pinned or not.

API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  return with_context([=](Context &context) {
    return copy(context, stream, "cuMemcpyHtoDAsync", device(to), host(from), bytes);
  });
}

API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return with_context([=](Context &context) {
    return copy(context, stream, "cuMemcpyDtoHAsync", host(to), device(from), bytes);
  });
}

API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return with_context([=](Context &context) {
    return copy(context, stream, "cuMemcpyDtoDAsync", device(to), device(from), bytes);
  });
}

API CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, size_t count) {
  return outside_capture([=](Context &context) { return fill(context, nullptr, "cuMemsetD8", address, value, count); });
}

API CUresult cuMemsetD32_v2(CUdeviceptr address, unsigned value, size_t count) {
  return outside_capture([=](Context &context) { return fill(context, nullptr, "cuMemsetD32", address, value, count); });
}

API CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t count, CUstream stream) {
  return with_context([=](Context &context) {
    return fill(context, stream, "cuMemsetD8Async", address, value, count);
  });
}

API CUresult cuMemsetD32Async(CUdeviceptr address, unsigned value, size_t count, CUstream stream) {
  return with_context([=](Context &context) {
    return fill(context, stream, "cuMemsetD32Async", address, value, count);
  });
}
