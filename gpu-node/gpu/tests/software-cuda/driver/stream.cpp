#include "stream.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>

#include "report.h"
#include "settings.h"

namespace software_cuda {

bool Stream::Point::reached() const {
  std::lock_guard lock(stream->mutex);
  return stream->done >= operations;
}

void Stream::Point::wait() const {
  std::unique_lock lock(stream->mutex);
  stream->changed.wait(lock, [&] { return stream->done >= operations; });
}

Stream::Stream(bool blocking, int priority, std::atomic<CUresult> &error)
    : blocking(blocking), priority(priority), error(error) {}

std::shared_ptr<Stream> Stream::create(bool blocking, int priority, std::atomic<CUresult> &error) {
  auto stream = std::make_shared<Stream>(blocking, priority, error);
  // Signals for the process are for its own threads. Those of faults cannot be blocked.
  sigset_t all, before;
  sigfillset(&all);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, signal);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread(work, stream).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return stream;
}

void Stream::add(const std::shared_ptr<Stream> &stream, Operation operation, std::vector<Point> after) {
  std::lock_guard lock(stream->mutex);
  stream->tasks.push_back({std::move(operation), std::move(after)});
  stream->added++;
  stream->changed.notify_all();
}

Stream::Point Stream::now(const std::shared_ptr<Stream> &stream) {
  std::lock_guard lock(stream->mutex);
  return {stream, stream->added};
}

void Stream::close() {
  std::lock_guard lock(mutex);
  closed = true;
  changed.notify_all();
}

void Stream::work(std::shared_ptr<Stream> stream) {
  pthread_setname_np(pthread_self(), "cuda stream");
  Executor executor;
  std::unique_lock lock(stream->mutex);
  for (;;) {
    stream->changed.wait(lock, [&] { return stream->closed || !stream->tasks.empty(); });
    if (stream->tasks.empty()) return;
    Task task = std::move(stream->tasks.front());
    stream->tasks.pop_front();
    lock.unlock();
    for (const Point &point : task.after) point.wait();
    if (settings().delay_microseconds > 0)
      std::this_thread::sleep_for(std::chrono::microseconds(settings().delay_microseconds));
    stream->run(task.operation, executor);
    task = {};
    lock.lock();
    stream->done++;
    stream->changed.notify_all();
  }
}

void Stream::run(const Operation &operation, Executor &executor) {
  if (error.load() != CUDA_SUCCESS && !operation.always) return;
  Failure failure = operation.run(executor);
  if (failure.result == CUDA_SUCCESS) return;
  report(failure.reason);
  CUresult none = CUDA_SUCCESS;
  error.compare_exchange_strong(none, failure.result);
}

}  // namespace software_cuda
