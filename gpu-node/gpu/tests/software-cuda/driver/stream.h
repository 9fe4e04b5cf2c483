// Streams: each does its work in order, on a thread of its own.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "api.h"
#include "executor.h"

namespace software_cuda {

/// Work on a device. It can be done more than once, as in a graph.
struct Operation {
  std::function<Failure(Executor &)> run;
  /// Whether it is done even after the device was lost.
  bool always = false;
};

/// What a stream records instead of doing it.
struct Capture {
  CUstreamCaptureMode mode;
  std::thread::id thread;
  std::vector<Operation> operations;
  bool invalidated = false;
};

struct Stream {
 public:
  /// Work of a stream up to some operation.
  struct Point {
    std::shared_ptr<Stream> stream;
    uint64_t operations;

    bool reached() const;
    void wait() const;
  };

  /// `error` is that of the context. Work that fails sets it, and none is done once it is set.
  static std::shared_ptr<Stream> create(bool blocking, int priority, std::atomic<CUresult> &error);

  /// Adds work that starts when all points are reached.
  static void add(const std::shared_ptr<Stream> &stream, Operation operation, std::vector<Point> after = {});

  /// All that was added until now.
  static Point now(const std::shared_ptr<Stream> &stream);

  /// Lets the thread end when all work is done.
  void close();

  Stream(bool blocking, int priority, std::atomic<CUresult> &error);

  /// Whether it keeps order with the default stream.
  const bool blocking;
  const int priority;
  /// Guarded by the context's mutex.
  std::optional<Capture> capture;

 private:
  struct Task {
    Operation operation;
    std::vector<Point> after;
  };

  static void work(std::shared_ptr<Stream> stream);
  void run(const Operation &operation, Executor &executor);

  std::atomic<CUresult> &error;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Task> tasks;
  uint64_t added = 0;
  uint64_t done = 0;
  bool closed = false;
};

}  // namespace software_cuda
