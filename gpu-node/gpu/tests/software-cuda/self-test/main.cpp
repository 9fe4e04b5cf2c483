// Tests of software CUDA: of what kernels compute, and of every error that it has to report.
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "device.h"

namespace {

constexpr unsigned ILLEGAL_ADDRESS = 700, MISALIGNED_ADDRESS = 716, LAUNCH_FAILED = 719;

/// The file of SOFTWARE_CUDA_FAIL.
std::string fail_file() {
  return std::filesystem::temp_directory_path() / ("software-cuda-fail-" + std::to_string(getpid()));
}

std::string compiled;
Handle module;

std::string compile(const std::string &source, std::vector<const char *> options, unsigned expected, std::string *log) {
  Handle program;
  CHECK(nvrtcCreateProgram(&program, source.c_str(), "kernels.cu", 0, nullptr, nullptr) == 0);
  unsigned result = nvrtcCompileProgram(program, int(options.size()), options.data());
  size_t bytes = 0;
  nvrtcGetProgramLogSize(program, &bytes);
  std::string text(bytes, '\0'), code;
  nvrtcGetProgramLog(program, text.data());
  if (result != expected) std::fprintf(stderr, "%s\n", text.c_str());
  CHECK(result == expected);
  if (log) *log = text;
  if (result == 0) {
    CHECK(nvrtcGetCUBINSize(program, &bytes) == 0);
    code.resize(bytes);
    if (bytes > 0) CHECK(nvrtcGetCUBIN(program, code.data()) == 0);
  }
  CHECK(nvrtcDestroyProgram(&program) == 0);
  return code;
}

void load() { DO(cuModuleLoadData(&module, compiled.data())); }

/// Launches a kernel that must fail, and resets the context.
template <typename... P>
void expect_failure(const char *name, Size threads, unsigned error, const char *reason, P... values) {
  DO(launch(module, name, {}, threads, nullptr, values...));
  CHECK(cuCtxSynchronize() == error);
  CHECK(contains(last_report(), reason));
  CUdeviceptr none;
  CHECK(cuMemAlloc_v2(&none, 4) == error);
  DO(cuDevicePrimaryCtxReset_v2(0));
  load();
}

void errors_of_compilation() {
  std::string log;
  compile("extern \"C\" __global__ void broken() {\n  unknown();\n}\n", {}, 6, &log);
  CHECK(contains(log, "kernels.cu:2") && contains(log, "unknown"));
  compile("", {"--no-such-option"}, 5, &log);
  CHECK(contains(log, "--no-such-option"));
  compile("", {"--gpu-architecture=sm_91"}, 5, nullptr);
  CHECK(compile("", {"--gpu-architecture=compute_75"}, 0, nullptr).empty());
  std::string other = compile("#if X != 3\n#error\n#endif\n", {"--gpu-architecture=sm_80", "-DX=3"}, 0, nullptr);
  Handle never;
  CHECK(cuModuleLoadData(&never, other.data()) == 209);
  char text[64] = "no code";
  CHECK(cuModuleLoadData(&never, text) == 200);
}

void saxpy() {
  unsigned count = 1000;
  std::vector<float> x(count), y(count);
  for (unsigned index = 0; index < count; index++) x[index] = float(index), y[index] = 1;
  Buffer<float> device_x(x), device_y(y);
  DO(launch(module, "saxpy", {8}, {128}, nullptr, 2.0f, device_x.address, device_y.address, count));
  std::vector<float> result = device_y.read();
  for (unsigned index = 0; index < count; index++) CHECK(result[index] == 2 * float(index) + 1);
  CHECK(launch(module, "sum_64", {}, {65}, nullptr, device_x.address, device_y.address) == 1);
  CHECK(contains(last_report(), "launch bounds"));
}

void sums() {
  std::vector<float> values(3 * 256);
  for (unsigned index = 0; index < values.size(); index++) values[index] = float(index % 100);
  for (unsigned threads : {64, 256}) {
    Buffer<float> device_values(values), device_sums(3);
    std::string name = "sum_" + std::to_string(threads);
    DO(launch(module, name.c_str(), {3}, {threads}, nullptr, device_values.address, device_sums.address));
    std::vector<float> result = device_sums.read();
    for (unsigned block = 0; block < 3; block++) {
      float sum = 0;
      for (unsigned index = 0; index < threads; index++) sum += values[block * threads + index];
      CHECK(result[block] == sum);
    }
  }
}

void warps() {
  Buffer<unsigned> scans(64), ballots(64), exchanged(256);
  DO(launch(module, "warp", {}, {64}, nullptr, scans.address, ballots.address, exchanged.address));
  std::vector<unsigned> scan = scans.read(), ballot = ballots.read(), exchange = exchanged.read();
  for (unsigned thread = 0; thread < 64; thread++) {
    unsigned first = thread / 32 * 32, lane = thread % 32, sum = 0, votes = 0;
    for (unsigned other = first; other <= thread; other++) sum += other;
    for (unsigned other = 0; other < 32; other++) votes |= unsigned((first + other) % 3 == 0) << other;
    CHECK(scan[thread] == sum && ballot[thread] == votes);
    CHECK(exchange[4 * thread] == first + 5);
    CHECK(exchange[4 * thread + 1] == first + (lane ^ 3));
    CHECK(exchange[4 * thread + 2] == (lane < 2 ? thread + 30 : thread));
    CHECK(exchange[4 * thread + 3] == first + lane / 8 * 8 + 1);
  }
}

void atomics() {
  Buffer<unsigned> counts(std::vector<unsigned>(8, 0)), extremes{1000u, 0u, 0u};
  Buffer<float> total{0.0f};
  DO(launch(module, "histogram", {5}, {128}, nullptr, counts.address, extremes.address, total.address));
  CHECK(counts.read() == std::vector<unsigned>(8, 80));
  CHECK((extremes.read() == std::vector<unsigned>{0, 639, ~0u}));
  CHECK(total.read()[0] == 640);
}

unsigned bf16(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, 4);
  return bits >> 16;
}

/// Fragments are filled by the figures of PTX ISA, which give each register's row and columns for a lane.
void matrix_product() {
  float a[16][16], b[16][8], d[16][8];
  for (int row = 0; row < 16; row++) {
    for (int k = 0; k < 16; k++) a[row][k] = float(row * 16 + k) - 100;
    for (int column = 0; column < 8; column++) d[row][column] = float(row * 8 + column) / 4;
  }
  for (int k = 0; k < 16; k++)
    for (int column = 0; column < 8; column++) b[k][column] = float(k * 8 + column) - 60;
  std::vector<unsigned> lanes_a(128), lanes_b(64);
  std::vector<float> lanes_d(128);
  auto pair = [](float low, float high) { return bf16(low) | bf16(high) << 16; };
  for (int lane = 0; lane < 32; lane++) {
    int row = lane / 4, column = lane % 4 * 2;
    unsigned *words = &lanes_a[size_t(lane) * 4];
    words[0] = pair(a[row][column], a[row][column + 1]);
    words[1] = pair(a[row + 8][column], a[row + 8][column + 1]);
    words[2] = pair(a[row][column + 8], a[row][column + 9]);
    words[3] = pair(a[row + 8][column + 8], a[row + 8][column + 9]);
    lanes_b[size_t(lane) * 2] = pair(b[column][row], b[column + 1][row]);
    lanes_b[size_t(lane) * 2 + 1] = pair(b[column + 8][row], b[column + 9][row]);
    float *sums = &lanes_d[size_t(lane) * 4];
    sums[0] = d[row][column], sums[1] = d[row][column + 1];
    sums[2] = d[row + 8][column], sums[3] = d[row + 8][column + 1];
  }
  Buffer<unsigned> device_a(lanes_a), device_b(lanes_b);
  Buffer<float> device_d(lanes_d);
  DO(launch(module, "product", {}, {32}, nullptr, device_a.address, device_b.address, device_d.address));
  std::vector<float> result = device_d.read();
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      float sum = d[row][column];
      for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][column];
      int lane = row % 8 * 4 + column / 2;
      CHECK(result[size_t(lane * 4 + (row >= 8 ? 2 : 0) + column % 2)] == sum);
    }
  }
}

void places() {
  Buffer<unsigned> fresh(6), threads(6 * 24 * 3);
  DO(launch(module, "places", {3, 2}, {4, 3, 2}, nullptr, fresh.address, threads.address));
  CHECK(fresh.read() == std::vector<unsigned>(6, ~0u));
  std::vector<unsigned> place = threads.read();
  for (unsigned thread = 0; thread < 24; thread++) {
    CHECK(place[3 * thread] == thread % 4 && place[3 * thread + 1] == thread / 4 % 3);
    CHECK(place[3 * thread + 2] == thread / 12);
  }
}

void asynchronous_copies() {
  std::vector<unsigned> values(12);
  for (unsigned index = 0; index < 12; index++) values[index] = index;
  for (unsigned later = 0; later <= 3; later++) {
    Buffer<unsigned> from(values), out(3);
    DO(launch(module, "copy_ahead", {}, {1}, nullptr, from.address, out.address, later));
    std::vector<unsigned> result = out.read();
    for (unsigned group = 0; group < 3; group++) CHECK(result[group] == (group + later < 3 ? 4 * group + 3 : ~0u));
  }
  Buffer<unsigned> from(values), out(3);
  CUdeviceptr misaligned = from.address + 4;
  expect_failure("copy_ahead", {1}, MISALIGNED_ADDRESS, "misaligned asynchronous copy", misaligned, out.address, 0u);
}

void memory() {
  Buffer<unsigned> fresh(100);
  CHECK(fresh.read() == std::vector<unsigned>(100, ~0u));
  CHECK(fresh.address % 256 == 0);
  size_t free = 0, total = 0;
  softwareCudaSetMemory(1000);
  DO(cuMemGetInfo_v2(&free, &total));
  CHECK(total == 1000 && free <= 600);
  CUdeviceptr pointer;
  CHECK(cuMemAlloc_v2(&pointer, 601) == 2);
  softwareCudaSetMemory(size_t(4) << 30);
  unsigned words[101];
  CHECK(cuMemcpyDtoH_v2(words, fresh.address, sizeof(words)) == 1);
  CHECK(contains(last_report(), "4 more than its allocation of 400"));
  CHECK(cuMemcpyHtoD_v2(fresh.address + 4, words, 400) == 1);
  CHECK(cuMemsetD8_v2(fresh.address, 0, 401) == 1);
  DO(cuMemFree_v2(fresh.address));
  CHECK(cuMemFree_v2(fresh.address) == 1);
  CHECK(cuMemcpyDtoH_v2(words, fresh.address, 4) == 1);
  DO(cuDevicePrimaryCtxReset_v2(0));
  load();
}

/// The least that a module can be.
void small_module() {
  std::string code = compile("extern \"C\" __global__ void one(int *out) { *out = 1; }", {}, 0, nullptr);
  Handle small;
  DO(cuModuleLoadData(&small, code.data()));
  Buffer<int> out(1);
  DO(launch(small, "one", {}, {}, nullptr, out.address));
  CHECK(out.read()[0] == 1);
  DO(cuModuleUnload(small));
}

/// Successive launches run their blocks in opposite orders.
void orders() {
  std::vector<std::vector<unsigned>> orders;
  for (int launched = 0; launched < 2; launched++) {
    Buffer<unsigned> count{0u}, blocks(3);
    DO(launch(module, "order", {3}, {32}, nullptr, count.address, blocks.address));
    orders.push_back(blocks.read());
  }
  CHECK(orders[0] != orders[1]);
  CHECK((orders[0] == std::vector<unsigned>{0, 1, 2} || orders[1] == std::vector<unsigned>{0, 1, 2}));
}

/// Memory of the host by which it lets the kernel `increment_after` go on.
class Flag {
 public:
  Flag() {
    void *memory;
    DO(cuMemHostAlloc(&memory, sizeof(unsigned), 0));
    word = static_cast<unsigned *>(memory);
    *word = 0;
  }

  CUdeviceptr address() const { return CUdeviceptr(word); }
  void set() { __atomic_store_n(word, 1u, __ATOMIC_RELEASE); }

  /// Sets the flag after a while, from another thread.
  std::thread set_later() {
    return std::thread([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      set();
    });
  }

 private:
  unsigned *word;
};

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

void divergence() {
  expect_failure("divergent_barrier", {64}, LAUNCH_FAILED, "divergent barrier", Buffer<unsigned>(64).address);
  expect_failure("two_barriers", {64}, LAUNCH_FAILED, "divergent barrier", Buffer<unsigned>(64).address);
  expect_failure("divergent_warp", {64}, LAUNCH_FAILED, "thread (7, 0, 0) has returned", Buffer<unsigned>(64).address);
  expect_failure("two_shuffles", {32}, LAUNCH_FAILED, "divergent warp", Buffer<unsigned>(64).address);
  expect_failure("partial_mask", {32}, 801, "mask is not full", Buffer<unsigned>(64).address);
}

void wrong_addresses() {
  // Far outside, in the page after, just before, and in the rest of the page.
  for (unsigned index : {1000000u, 64u, 100u})
    expect_failure("write_at", {1}, ILLEGAL_ADDRESS, "write_at", Buffer<unsigned>(64).address, index);
  for (unsigned index : {~0u, 1u, 63u})
    expect_failure("write_at", {1}, ILLEGAL_ADDRESS, "", Buffer<unsigned>(1).address, index);
  expect_failure("read_at", {1}, ILLEGAL_ADDRESS, "at kernels.cu:", Buffer<unsigned>(64).address, 64u);
  Buffer<unsigned> freed(64);
  DO(cuMemFree_v2(freed.address));
  expect_failure("write_at", {1}, ILLEGAL_ADDRESS, "parameter 0 points into no live allocation", freed.address, 0u);
  unsigned host = 0;
  expect_failure("write_at", {1}, ILLEGAL_ADDRESS, "parameter 0", CUdeviceptr(&host), 0u);
  expect_failure("write_at", {1}, ILLEGAL_ADDRESS, "outside of every allocation", CUdeviceptr(0), 8u);
  // To free memory waits for the kernels that use it.
  Buffer<unsigned> waited(1);
  Flag flag;
  DO(launch(module, "increment_after", {}, {1}, nullptr, flag.address(), waited.address));
  std::thread later = flag.set_later();
  DO(cuMemFree_v2(waited.address));
  later.join();
  DO(cuCtxSynchronize());
}

void undefined_behaviour() {
  expect_failure("misaligned", {1}, MISALIGNED_ADDRESS, "misaligned address", Buffer<float>(64).address);
  expect_failure("outside_array", {1}, ILLEGAL_ADDRESS, "index outside an array", Buffer<unsigned>(1).address, 8u);
  expect_failure("wide_shift", {1}, LAUNCH_FAILED, "shift", Buffer<unsigned>(1).address, 32u);
  expect_failure("deep", {1}, LAUNCH_FAILED, "stack overflow", Buffer<unsigned>(1).address, 10u);
}

void injected_failure() {
  Buffer<unsigned> value{0u};
  softwareCudaFail(LAUNCH_FAILED);
  expect_failure("increment", {1}, LAUNCH_FAILED, "a test made it fail", value.address);
  std::ofstream{fail_file()};
  expect_failure("increment", {1}, LAUNCH_FAILED, "a test made it fail", Buffer<unsigned>{0u}.address);
  CHECK(!std::filesystem::exists(fail_file()));
  Buffer<unsigned> other{0u};
  DO(launch(module, "increment", {}, {1}, nullptr, other.address));
  CHECK(other.read()[0] == 1);
}

void contexts() {
  unsigned result = 0;
  std::thread([&] { result = cuCtxSynchronize(); }).join();
  CHECK(result == 201);
  DO(cuDevicePrimaryCtxRelease_v2(0));
  CHECK(cuCtxSynchronize() == 709);
}

}  // namespace

int main(int argument_count, char **arguments) {
  CHECK(argument_count == 2);
  std::ifstream file(arguments[1]);
  std::string source(std::istreambuf_iterator<char>(file), {});
  Handle context;
  setenv("SOFTWARE_CUDA_FAIL", fail_file().c_str(), 1);
  DO(cuInit(0));
  DO(cuDevicePrimaryCtxRetain(&context, 0));
  DO(cuCtxSetCurrent(context));
  int count = 0, capability = 0;
  char name[100];
  DO(cuDeviceGetCount(&count));
  DO(cuDeviceGetName(name, sizeof(name), 0));
  DO(cuDeviceGetAttribute(&capability, 75, 0));
  CHECK(count == 1 && contains(name, "software CUDA") && capability == 9);

  compiled = compile(source, {"--gpu-architecture=sm_90", "--std=c++17"}, 0, nullptr);
  load();
  struct {
    const char *name;
    void (*run)();
  } tests[] = {
      {"errors of compilation", errors_of_compilation},
      {"a small module", small_module},
      {"saxpy", saxpy},
      {"sums of blocks", sums},
      {"warp functions", warps},
      {"atomics", atomics},
      {"matrix product", matrix_product},
      {"places of threads, fresh shared memory", places},
      {"asynchronous copies", asynchronous_copies},
      {"memory", memory},
      {"orders of blocks", orders},
      {"streams", streams},
      {"the default stream", default_stream},
      {"graphs", graphs},
      {"divergence", divergence},
      {"wrong addresses", wrong_addresses},
      {"undefined behaviour", undefined_behaviour},
      {"injected failure", injected_failure},
      {"contexts", contexts},
  };
  for (const auto &test : tests) {
    test.run();
    std::printf("ok: %s\n", test.name);
  }
}
