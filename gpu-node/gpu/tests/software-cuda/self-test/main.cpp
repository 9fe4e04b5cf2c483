// Tests of software CUDA: of what kernels compute, and of every error that it has to report.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests.h"

Handle module;

/// The cubin of kernels.cu.
static std::string compiled;

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

/// The file of SOFTWARE_CUDA_FAIL.
std::string fail_file() {
  return std::filesystem::temp_directory_path() / ("software-cuda-fail-" + std::to_string(getpid()));
}

int main(int argument_count, char **arguments) {
  CHECK(argument_count == 2);
  std::ifstream file(arguments[1]);
  std::string source(std::istreambuf_iterator<char>(file), {});
  Handle context;
  setenv("SOFTWARE_CUDA_FAIL", fail_file().c_str(), 1);
  setenv("SOFTWARE_CUDA_RACES", "1", 1);
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
      {"races", races},
      {"injected failure", injected_failure},
      {"contexts", contexts},
  };
  for (const auto &test : tests) {
    test.run();
    std::printf("ok: %s\n", test.name);
  }
}
