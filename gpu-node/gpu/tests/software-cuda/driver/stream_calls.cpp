// Calls about streams and events.
#include "context.h"
#include "report.h"

using namespace software_cuda;

namespace {

std::chrono::nanoseconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }

/// Calls a function with a stream that does not capture. A capture of it is lost.
template <typename F>
CUresult with_stream(CUstream handle, F function) {
  return with_context([&](Context &context) {
    auto stream = context.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    {
      std::lock_guard lock(context.mutex);
      if (stream->capture) {
        stream->capture->invalidated = true;
        report("a call that waits for a stream while the stream captures");
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
      }
    }
    return function(context, stream);
  });
}

/// Calls a function with an event that was not recorded in a capture.
template <typename F>
CUresult with_event(CUevent handle, F function) {
  return with_context([&](Context &context) {
    std::unique_lock lock(context.mutex);
    auto event = context.events.find(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    if (event->captured_in) return CUDA_ERROR_CAPTURED_EVENT;
    Stream::Point point = event->point;
    lock.unlock();
    CUresult result = function(point);
    return context.error ? context.error.load() : result;
  });
}

}  // namespace

API CUresult cuStreamCreateWithPriority(CUstream *handle, unsigned flags, int priority) {
  return with_context([=](Context &context) {
    if (flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
    std::lock_guard lock(context.mutex);
    *handle = context.streams.add(Stream::create(flags != CU_STREAM_NON_BLOCKING, priority, context.error));
    return CUDA_SUCCESS;
  });
}

API CUresult cuStreamCreate(CUstream *handle, unsigned flags) { return cuStreamCreateWithPriority(handle, flags, 0); }

/// The work of the stream still ends.
API CUresult cuStreamDestroy_v2(CUstream handle) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    auto stream = context.streams.find(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    stream->close();
    context.streams.remove(handle);
    return CUDA_SUCCESS;
  });
}

API CUresult cuStreamSynchronize(CUstream handle) {
  return with_stream(handle, [](Context &context, const std::shared_ptr<Stream> &stream) {
    Stream::now(stream).wait();
    return context.error.load();
  });
}

API CUresult cuStreamQuery(CUstream handle) {
  return with_stream(handle, [](Context &context, const std::shared_ptr<Stream> &stream) {
    if (!Stream::now(stream).reached()) return CUDA_ERROR_NOT_READY;
    return context.error.load();
  });
}

API CUresult cuStreamGetPriority(CUstream handle, int *priority) {
  return with_context([=](Context &context) {
    auto stream = context.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *priority = stream->priority;
    return CUDA_SUCCESS;
  });
}

API CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data) {
  return with_context([=](Context &context) {
    auto stream = context.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    return context.submit(stream, {[=](Executor &) {
      function(data);
      return Failure{};
    }});
  });
}

API CUresult cuEventCreate(CUevent *handle, unsigned flags) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    auto event = std::make_shared<Event>();
    event->timed = (flags & CU_EVENT_DISABLE_TIMING) == 0;
    *handle = context.events.add(event);
    return CUDA_SUCCESS;
  });
}

API CUresult cuEventDestroy_v2(CUevent handle) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    return context.events.remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

API CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
  return with_context([=](Context &context) {
    auto stream = context.stream(stream_handle);
    std::unique_lock lock(context.mutex);
    auto event = context.events.find(handle);
    if (!event || !stream) return CUDA_ERROR_INVALID_HANDLE;
    event->captured_in = stream->capture ? stream.get() : nullptr;
    if (event->captured_in) return CUDA_SUCCESS;
    lock.unlock();
    auto time = event->time;
    Operation record{[time](Executor &) {
      *time = now();
      return Failure{};
    }};
    record.always = true;
    CUresult result = context.submit(stream, record);
    lock.lock();
    event->point = Stream::now(stream);
    return result;
  });
}

API CUresult cuEventQuery(CUevent handle) {
  return with_event(handle, [](const Stream::Point &point) {
    return !point.stream || point.reached() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

API CUresult cuEventSynchronize(CUevent handle) {
  return with_event(handle, [](const Stream::Point &point) {
    if (point.stream) point.wait();
    return CUDA_SUCCESS;
  });
}

API CUresult cuEventElapsedTime(float *milliseconds, CUevent start_handle, CUevent end_handle) {
  return with_context([=](Context &context) {
    std::lock_guard lock(context.mutex);
    auto start = context.events.find(start_handle), end = context.events.find(end_handle);
    if (!start || !end || !start->timed || !end->timed) return CUDA_ERROR_INVALID_HANDLE;
    if (!start->point.stream || !end->point.stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!start->point.reached() || !end->point.reached()) return CUDA_ERROR_NOT_READY;
    std::chrono::duration<float, std::milli> elapsed = end->time->load() - start->time->load();
    *milliseconds = elapsed.count();
    return CUDA_SUCCESS;
  });
}

/// The same since CUDA 13.
API CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end) {
  return cuEventElapsedTime(milliseconds, start, end);
}

API CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned) {
  return with_context([=](Context &context) {
    auto stream = context.stream(handle);
    std::unique_lock lock(context.mutex);
    auto event = context.events.find(event_handle);
    if (!event || !stream) return CUDA_ERROR_INVALID_HANDLE;
    if (event->captured_in == stream.get() && stream->capture) return CUDA_SUCCESS;
    if (event->captured_in) {
      report("a capture over several streams is not supported here");
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (stream->capture) return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    Stream::Point point = event->point;
    lock.unlock();
    if (!point.stream) return CUDA_SUCCESS;
    Operation wait{[point](Executor &) {
      point.wait();
      return Failure{};
    }};
    wait.always = true;
    return context.submit(stream, wait);
  });
}
