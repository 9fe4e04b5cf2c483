// Streams, events and graphs.
#include "tests.h"

void streams() {
  Handle first, second, done;
  DO(cuStreamCreate(&first, 1));
  DO(cuStreamCreate(&second, 1));
  DO(cuEventCreate(&done, 0));
  Buffer<unsigned> values{0u, 0u}, copy(1);
  Flag flag;
  DO(launch(module, "increment_after", {}, {1}, first, flag.address(), values.address));
  DO(cuEventRecord(done, first));
  // Another stream works meanwhile.
  DO(launch(module, "increment", {}, {1}, second, values.address + 4));
  DO(cuStreamSynchronize(second));
  CHECK(cuStreamQuery(first) == 600);
  // It waits for the first where it is told to.
  DO(cuStreamWaitEvent(second, done, 0));
  DO(cuMemcpyDtoDAsync_v2(copy.address, values.address, 4, second));
  CHECK(cuStreamQuery(second) == 600);
  flag.set();
  DO(cuStreamSynchronize(second));
  CHECK(copy.read()[0] == 1);
  DO(cuEventSynchronize(done));
  DO(cuStreamDestroy_v2(second));
  CHECK(cuStreamSynchronize(second) == 400);
}

/// A stream that is not CU_STREAM_NON_BLOCKING keeps order with the default stream; others do not.
void default_stream() {
  for (unsigned flags : {0, 1}) {
    Handle stream;
    DO(cuStreamCreate(&stream, flags));
    Buffer<unsigned> value{0u};
    Flag flag;
    DO(launch(module, "increment_after", {}, {1}, stream, flag.address(), value.address));
    if (flags == 1) CHECK(value.read()[0] == 0);
    std::thread later = flag.set_later();
    if (flags == 0) CHECK(value.read()[0] == 1);
    later.join();
    DO(cuStreamSynchronize(stream));
    CHECK(value.read()[0] == 1);
  }
}

void graphs() {
  Handle stream, graph, executable;
  DO(cuStreamCreate(&stream, 1));
  Buffer<unsigned> value{0u}, copy(1);
  void *pinned;
  DO(cuMemHostAlloc(&pinned, 4, 0));
  DO(cuStreamBeginCapture_v2(stream, 1));
  DO(launch(module, "increment", {}, {1}, stream, value.address));
  DO(launch(module, "increment", {}, {1}, stream, value.address));
  DO(cuMemcpyDtoDAsync_v2(copy.address, value.address, 4, stream));
  DO(cuMemcpyDtoHAsync_v2(pinned, copy.address, 4, stream));
  DO(cuStreamEndCapture(stream, &graph));
  DO(cuGraphInstantiateWithFlags(&executable, graph, 0));
  DO(cuGraphDestroy(graph));
  CHECK(value.read()[0] == 0);
  for (unsigned launched = 1; launched <= 3; launched++) {
    DO(cuGraphLaunch(executable, stream));
    DO(cuStreamSynchronize(stream));
    CHECK(*static_cast<unsigned *>(pinned) == 2 * launched);
  }
  DO(cuGraphExecDestroy(executable));
  // Waiting in a capture loses it.
  DO(cuStreamBeginCapture_v2(stream, 1));
  CHECK(cuStreamSynchronize(stream) == 900);
  CHECK(cuStreamEndCapture(stream, &graph) == 901);
  // As does an allocation by another thread in the global mode.
  DO(cuStreamBeginCapture_v2(stream, 0));
  CUdeviceptr pointer;
  CHECK(cuMemAlloc_v2(&pointer, 4) == 900);
  CHECK(cuStreamEndCapture(stream, &graph) == 901);
}
