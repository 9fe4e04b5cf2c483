// What kernels compute, and how they are compiled.
#include <cstring>

#include "tests.h"

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

static unsigned bf16(float value) {
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
