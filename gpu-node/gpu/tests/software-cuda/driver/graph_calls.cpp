// Calls that record the work of a stream and repeat it.
#include "context.h"

using namespace software_cuda;

namespace {

/// Of CUgraphInstantiate_flags: all of them.
constexpr unsigned long long INSTANTIATE_FLAGS = 15;

Failure run_all(const ExecutableGraph &graph, Executor &executor) {
  for (const Operation &operation : graph.operations) {
    Failure failure = operation.run(executor);
    if (failure.result != CUDA_SUCCESS) return failure;
  }
  return {};
}

}  // namespace

API CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
  return with_context([=](Context &context) {
    auto stream = context.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream == context.default_stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    std::lock_guard lock(context.mutex);
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    stream->capture = Capture{mode, std::this_thread::get_id(), {}, false};
    return CUDA_SUCCESS;
  });
}

API CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
  return with_context([=](Context &context) {
    auto stream = context.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    std::lock_guard lock(context.mutex);
    if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (stream->capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && stream->capture->thread != std::this_thread::get_id())
      return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    Capture capture = std::move(*stream->capture);
    stream->capture.reset();
    *graph = nullptr;
    if (capture.invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = context.graphs.add(std::make_shared<Graph>(Graph{std::move(capture.operations)}));
    return CUDA_SUCCESS;
  });
}

API CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
  return with_context([=](Context &context) {
    auto stream = context.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    std::lock_guard lock(context.mutex);
    *status = !stream->capture               ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                             : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
  });
}

/// Makes a calling thread's captures forbid less or more. This driver keeps to what cuStreamBeginCapture says.
API CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *) { return CUDA_ERROR_NOT_SUPPORTED; }

API CUresult cuGraphGetNodes(CUgraph handle, void **nodes, size_t *count) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    auto graph = context.graphs.find(handle);
    if (!graph) return CUDA_ERROR_INVALID_HANDLE;
    if (nodes) return CUDA_ERROR_NOT_SUPPORTED;
    *count = graph->operations.size();
    return CUDA_SUCCESS;
  });
}

API CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph handle, unsigned long long flags) {
  return with_context([=](Context &context) {
    if (flags & ~INSTANTIATE_FLAGS) return CUDA_ERROR_INVALID_VALUE;
    std::lock_guard lock(context.mutex);
    auto graph = context.graphs.find(handle);
    if (!graph) return CUDA_ERROR_INVALID_HANDLE;
    *executable = context.executables.add(std::make_shared<ExecutableGraph>(ExecutableGraph{graph->operations}));
    return CUDA_SUCCESS;
  });
}

API CUresult cuGraphUpload(CUgraphExec handle, CUstream stream) {
  return with_context([=](Context &context) {
    if (!context.stream(stream)) return CUDA_ERROR_INVALID_HANDLE;
    std::lock_guard lock(context.mutex);
    return context.executables.find(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

API CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  return with_context([=](Context &context) {
    auto stream = context.stream(stream_handle);
    std::unique_lock lock(context.mutex);
    auto graph = context.executables.find(handle);
    lock.unlock();
    if (!graph || !stream) return CUDA_ERROR_INVALID_HANDLE;
    return context.submit(stream, {[graph](Executor &executor) { return run_all(*graph, executor); }});
  });
}

API CUresult cuGraphExecDestroy(CUgraphExec handle) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    return context.executables.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

API CUresult cuGraphDestroy(CUgraph handle) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    return context.graphs.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}
