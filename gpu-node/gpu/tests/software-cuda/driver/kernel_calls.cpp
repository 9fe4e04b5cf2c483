// Calls that load code and launch kernels.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <iterator>

#include "context.h"
#include "injection.h"
#include "report.h"

using namespace software_cuda;

namespace {

/// A launch with copies of its parameters.
class Launch {
 public:
  Launch(const Function &function, Index blocks, Index threads, void *const *parameters)
      : function(function), blocks(blocks), threads(threads) {
    const Entry &entry = *function.entry;
    for (unsigned index = 0; index < entry.parameter_count; index++) {
      offsets.push_back(units.size());
      size_t bytes = entry.parameters[index].bytes;
      units.resize(units.size() + (bytes + sizeof(Unit) - 1) / sizeof(Unit));
      std::memcpy(&units[offsets.back()], parameters[index], bytes);
    }
  }

  Failure operator()(Context &context, Executor &executor) {
    const Entry &entry = *function.entry;
    if (CUresult injected = take_injected_failure())
      return {injected, std::string(entry.name) + ": a test made it fail"};
    std::vector<void *> values;
    for (unsigned index = 0; index < entry.parameter_count; index++) {
      values.push_back(&units[offsets[index]]);
      if (!entry.parameters[index].pointer) continue;
      auto address = *static_cast<uintptr_t *>(values[index]);
      if (address != 0 && !context.memory.range(address))
        return {CUDA_ERROR_ILLEGAL_ADDRESS, std::string(entry.name) + ": parameter " + std::to_string(index) +
                                                " points into no live allocation"};
    }
    Failure failure = executor.run(function.module->code(&entry), values.data(), blocks, threads);
    if (failure.result != CUDA_SUCCESS) return failure;
    if (auto damage = context.memory.damage())
      return {CUDA_ERROR_ILLEGAL_ADDRESS, std::string("after ") + entry.name + ": " + *damage};
    return {};
  }

 private:
  /// Aligned for any parameter.
  using Unit = std::max_align_t;

  Function function;
  Index blocks, threads;
  std::vector<Unit> units;
  std::vector<size_t> offsets;
};

/// Why a launch of this size is not possible.
const char *size_problem(const Entry &entry, Index blocks, Index threads, unsigned shared_bytes) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || threads.x == 0 || threads.y == 0 || threads.z == 0)
    return "a size is 0";
  if (blocks.x > 0x7fffffff || blocks.y > 65535 || blocks.z > 65535) return "too many blocks";
  if (threads.x > 1024 || threads.y > 1024 || threads.z > 64) return "too many threads";
  if (size_t(threads.x) * threads.y * threads.z > entry.max_threads) return "more threads than its launch bounds";
  if (shared_bytes != 0) return "dynamic shared memory is not supported here";
  return nullptr;
}

CUresult add_module(Context &context, CUmodule *handle, const void *image) {
  std::shared_ptr<Module> module;
  CUresult result = Module::load(image, module);
  if (result != CUDA_SUCCESS) return result;
  std::lock_guard lock(context.mutex);
  *handle = context.modules.add(module);
  return CUDA_SUCCESS;
}

}  // namespace

API CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  return with_context([=](Context &context) { return add_module(context, module, image); });
}

API CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned, const int *, void **) {
  return cuModuleLoadData(module, image);
}

API CUresult cuModuleLoad(CUmodule *module, const char *path) {
  return with_context([=](Context &context) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    std::vector<char> image(std::istreambuf_iterator<char>(file), {});
    image.resize(std::max<size_t>(image.size(), 64));
    return add_module(context, module, image.data());
  });
}

API CUresult cuModuleUnload(CUmodule module) {
  return outside_capture([=](Context &context) {
    context.synchronize();
    std::lock_guard lock(context.mutex);
    std::vector<CUfunction> functions;
    for (const auto &[handle, function] : context.functions)
      if (function->module.get() == module) functions.push_back(handle);
    for (CUfunction function : functions) context.functions.remove(function);
    return context.modules.remove(module) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

API CUresult cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    auto module = context.modules.find(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    const Entry *entry = module->find(name);
    if (!entry) return CUDA_ERROR_NOT_FOUND;
    *function = context.functions.add(std::make_shared<Function>(Function{module, entry}));
    return CUDA_SUCCESS;
  });
}

API CUresult cuModuleGetGlobal_v2(CUdeviceptr *, size_t *, CUmodule, const char *) { return CUDA_ERROR_NOT_FOUND; }

/// Attributes that are not listed are 0. The shared memory is that of all kernels of the module.
API CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    auto function = context.functions.find(handle);
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? int(function->entry->max_threads)
             : attribute == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES   ? int(function->module->shared_bytes())
                                                                  : 0;
    return CUDA_SUCCESS;
  });
}

API CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    if (!context.functions.find(handle)) return CUDA_ERROR_INVALID_HANDLE;
    bool dynamic_memory = attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && value > 0;
    return dynamic_memory ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  });
}

API CUresult cuFuncSetCacheConfig(CUfunction, unsigned) {
  return with_context([](Context &) { return CUDA_SUCCESS; });
}

API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int threads, size_t) {
  return with_context([=](Context &) {
    if (threads <= 0 || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
    *blocks = std::min(16, 2048 / threads);
    return CUDA_SUCCESS;
  });
}

API CUresult cuLaunchKernel(CUfunction handle, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z,
                            unsigned threads_x, unsigned threads_y, unsigned threads_z, unsigned shared_bytes,
                            CUstream stream_handle, void **parameters, void **extra) {
  return with_context([=](Context &context) {
    auto stream = context.stream(stream_handle);
    std::shared_ptr<Function> function;
    {
      std::lock_guard lock(context.mutex);
      function = context.functions.find(handle);
    }
    if (!stream || !function) return CUDA_ERROR_INVALID_HANDLE;
    const Entry &entry = *function->entry;
    Index blocks{blocks_x, blocks_y, blocks_z}, threads{threads_x, threads_y, threads_z};
    const char *problem = size_problem(entry, blocks, threads, shared_bytes);
    if (!problem && extra) problem = "parameters in `extra` are not supported here";
    if (!problem && !parameters && entry.parameter_count > 0) problem = "its parameters are missing";
    if (problem) {
      report(std::string("launch of ") + entry.name + ": " + problem);
      return CUDA_ERROR_INVALID_VALUE;
    }
    Launch launch(*function, blocks, threads, parameters);
    return context.submit(stream, {[launch, &context](Executor &executor) mutable { return launch(context, executor); }});
  });
}
