// Every error that software CUDA reports.
#include <filesystem>
#include <fstream>

#include "tests.h"

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

void races() {
  for (const char *name : {"unordered_read", "unordered_write", "only_warps_wait", "half_atomic"})
    expect_failure(name, {64}, LAUNCH_FAILED, "race with a ", Buffer<unsigned>(std::vector<unsigned>(64, 0)).address);
  CHECK(contains(last_report(), "at kernels.cu:") && contains(last_report(), "and the other access at kernels.cu:"));
  expect_failure("only_shuffles", {32}, LAUNCH_FAILED, "race with a write", Buffer<unsigned>(32).address);
  Buffer<unsigned> copied(std::vector<unsigned>(128, 1));
  expect_failure("copy_for_others", {32}, LAUNCH_FAILED, "race with a ", copied.address, Buffer<unsigned>(32).address);
  Buffer<unsigned> sum{0u};
  DO(launch(module, "two_blocks", {2}, {1}, nullptr, sum.address));
  CHECK(cuCtxSynchronize() == LAUNCH_FAILED);
  CHECK(contains(last_report(), "in block number "));
  DO(cuDevicePrimaryCtxReset_v2(0));
  load();
  Buffer<unsigned> out(128);
  DO(launch(module, "ordered", {2}, {64}, nullptr, out.address));
  CHECK(out.read() == std::vector<unsigned>(128, 63 * 32));
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
