// The primary context of the device, and what belongs to it.
#pragma once
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "api.h"
#include "memory.h"
#include "module.h"
#include "stream.h"

namespace software_cuda {

struct Event {
  bool timed;
  /// What was recorded; without a stream before the first record.
  Stream::Point point{};
  std::shared_ptr<std::atomic<std::chrono::nanoseconds>> time =
      std::make_shared<std::atomic<std::chrono::nanoseconds>>();
  /// Whether it was last recorded in a stream that captures.
  CUstream captured_in = nullptr;
};

struct Graph {
  std::vector<Operation> operations;
};

struct ExecutableGraph {
  std::vector<Operation> operations;
};

/// Objects by the handles that programs have of them.
template <typename T>
class Handles {
 public:
  T *add(std::shared_ptr<T> object) {
    T *handle = object.get();
    objects.emplace(handle, std::move(object));
    return handle;
  }

  /// Empty for a handle of nothing that is alive.
  std::shared_ptr<T> find(T *handle) const {
    auto found = objects.find(handle);
    return found == objects.end() ? nullptr : found->second;
  }

  bool remove(T *handle) { return objects.erase(handle) > 0; }
  void clear() { objects.clear(); }
  auto begin() const { return objects.begin(); }
  auto end() const { return objects.end(); }

 private:
  std::unordered_map<T *, std::shared_ptr<T>> objects;
};

struct Context {
  Context();

  /// How often it is retained. Without that it is destroyed, but its handle stays the same.
  std::atomic<unsigned> references = 0;
  /// How threads wait for it, among others. A reset takes them back.
  std::atomic<unsigned> flags = 0;
  /// An error after which nothing works until the context is reset.
  std::atomic<CUresult> error = CUDA_SUCCESS;
  Memory memory;
  /// Guards everything below and the captures of streams.
  std::mutex mutex;
  std::shared_ptr<Stream> default_stream;
  Handles<Stream> streams;
  Handles<Event> events;
  Handles<Module> modules;
  Handles<Function> functions;
  Handles<Graph> graphs;
  Handles<ExecutableGraph> executables;

  /// The stream of a handle, of which 0 is the default one.
  std::shared_ptr<Stream> stream(CUstream handle);

  /// Does work in a stream, or records it if the stream captures.
  CUresult submit(const std::shared_ptr<Stream> &stream, Operation operation);

  /// Waits for the work of all streams.
  void synchronize();

  /// The error of a call that no capture may contain, if a capture forbids it. The capture is lost.
  CUresult forbidden_by_capture();

  /// Waits for all work, and destroys everything.
  void reset();

 private:
  void enqueue(const std::shared_ptr<Stream> &stream, Operation operation);
  std::vector<std::shared_ptr<Stream>> all_streams();
};

/// Whether cuInit was called.
extern std::atomic<bool> initialized;

/// The only context that there is.
Context &primary_context();

/// That of the calling thread.
CUcontext current_context();
void set_current_context(CUcontext context);

/// Calls a function with the context of the calling thread, or returns why there is none that works.
template <typename F>
CUresult with_context(F function) {
  if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
  Context *context = current_context();
  if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->references == 0) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  if (CUresult error = context->error) return error;
  return function(*context);
}

/// The same for a call that no capture may contain.
template <typename F>
CUresult outside_capture(F function) {
  return with_context([&](Context &context) {
    CUresult forbidden = context.forbidden_by_capture();
    return forbidden ? forbidden : function(context);
  });
}

}  // namespace software_cuda
