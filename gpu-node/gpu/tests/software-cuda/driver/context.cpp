#include "context.h"

#include "report.h"
#include "settings.h"

namespace software_cuda {

std::atomic<bool> initialized = false;

static thread_local CUcontext current = nullptr;

Context &primary_context() {
  // Never destroyed: threads of streams use it while the process ends.
  static Context &context = *new Context;
  return context;
}

CUcontext current_context() { return current; }
void set_current_context(CUcontext context) { current = context; }

Context::Context() : memory(settings().memory_bytes) { default_stream = Stream::create(true, 0, error); }

std::shared_ptr<Stream> Context::stream(CUstream handle) {
  // 1 and 2 are the default stream too, the second for each thread, which here is the same.
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return default_stream;
  std::lock_guard lock(mutex);
  return streams.find(handle);
}

CUresult Context::submit(const std::shared_ptr<Stream> &stream, Operation operation) {
  std::lock_guard lock(mutex);
  if (stream->capture) {
    if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->operations.push_back(std::move(operation));
    return CUDA_SUCCESS;
  }
  if (stream == default_stream) {
    for (const auto &[handle, other] : streams) {
      if (!other->capture || !other->blocking) continue;
      other->capture->invalidated = true;
      report("work in the default stream while a stream that waits for it captures");
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  enqueue(stream, std::move(operation));
  return CUDA_SUCCESS;
}

/// The default stream and those that are not CU_STREAM_NON_BLOCKING wait for each other.
void Context::enqueue(const std::shared_ptr<Stream> &stream, Operation operation) {
  std::vector<Stream::Point> after;
  if (stream == default_stream) {
    for (const auto &[handle, other] : streams)
      if (other->blocking) after.push_back(Stream::now(other));
  } else if (stream->blocking) {
    after.push_back(Stream::now(default_stream));
  }
  Stream::add(stream, std::move(operation), std::move(after));
}

std::vector<std::shared_ptr<Stream>> Context::all_streams() {
  std::lock_guard lock(mutex);
  std::vector<std::shared_ptr<Stream>> all{default_stream};
  for (const auto &[handle, stream] : streams) all.push_back(stream);
  return all;
}

void Context::synchronize() {
  for (const auto &stream : all_streams()) Stream::now(stream).wait();
}

CUresult Context::forbidden_by_capture() {
  std::lock_guard lock(mutex);
  for (const auto &[handle, stream] : streams) {
    if (!stream->capture) continue;
    CUstreamCaptureMode mode = stream->capture->mode;
    if (mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    if (mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && stream->capture->thread != std::this_thread::get_id()) continue;
    stream->capture->invalidated = true;
    report("a call that may wait for the device, while a stream captures in a mode that forbids it");
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return CUDA_SUCCESS;
}

void Context::reset() {
  synchronize();
  std::lock_guard lock(mutex);
  for (const auto &[handle, stream] : streams) stream->close();
  streams.clear();
  events.clear();
  functions.clear();
  modules.clear();
  graphs.clear();
  executables.clear();
  memory.clear();
  flags = 0;
  error = CUDA_SUCCESS;
}

}  // namespace software_cuda
