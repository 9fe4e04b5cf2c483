#include "compile.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "../device/interface.h"
#include "../driver/process.h"
#include "../driver/settings.h"
#include "kernels.h"

// The headers of device/ are part of this library.
#define EMBED(symbol, file)                                                          \
  asm(".section .rodata\n.global " #symbol "\n.hidden " #symbol "\n" #symbol ":\n"   \
      ".incbin \"" SOFTWARE_CUDA_DEVICE "/" file "\"\n.byte 0\n.text\n");            \
  extern "C" const char symbol[];
EMBED(software_cuda_interface, "interface.h")
EMBED(software_cuda_header, "software_cuda.cuh")
EMBED(software_cuda_races, "races.cuh")
EMBED(software_cuda_arithmetic, "arithmetic.cuh")
EMBED(software_cuda_entries, "entries.cuh")

namespace software_cuda {

namespace {

namespace fs = std::filesystem;

/// A private folder that is removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "software-cuda-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw CompileError("no temporary folder can be made\n");
    path = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder &) = delete;

  fs::path path;
};

void write(const fs::path &path, const std::string &text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string read(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> join(std::vector<std::vector<std::string>> lists) {
  std::vector<std::string> all;
  for (auto &list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

/// Runs g++ in a folder. Paths of that folder are left out of what it says.
void run(const fs::path &folder, std::vector<std::string> command) {
  std::string output;
  if (run_program(command, output)) return;
  std::string prefix = folder.string() + "/";
  for (size_t at; (at = output.find(prefix)) != std::string::npos;) output.erase(at, prefix.size());
  throw CompileError(output);
}

/// The table of kernels that the driver looks up.
std::string table(const std::vector<KernelDeclaration> &kernels, const Options &options) {
  std::string text = "\nnamespace software_cuda {\nstatic constexpr Entry entries[] = {\n";
  for (const auto &kernel : kernels)
    text += "  entry<::" + kernel.name + ">(\"" + kernel.name + "\", (" + kernel.max_threads + ")),\n";
  text += "  {}};\n}\nextern \"C\" __attribute__((visibility(\"default\")))\n";
  text += "const software_cuda::Image software_cuda_image = {SOFTWARE_CUDA_ABI, " + std::to_string(options.architecture) +
          ", " + (options.portable ? "true" : "false") + ", software_cuda::entries, " +
          std::to_string(kernels.size()) + ", software_cuda::enter};\n";
  return text;
}

std::vector<std::string> code_options() {
  std::vector<std::string> options = {
      settings().optimization, "-g1", "-fPIC", "-fvisibility=hidden", "-fno-fast-math", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti",
      "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing", "-w",
      // A stack that overflows touches the page below it, however large the frame is.
      "-fstack-clash-protection",
      // Modules with the same templates keep their own variables.
      "-fno-gnu-unique",
      // What a device does in these cases is undefined, or not what a processor does. entries.cuh reports them.
      "-fsanitize=alignment,bounds,shift,integer-divide-by-zero,float-cast-overflow", "-fno-sanitize-recover=all",
  };
  if (settings().finds_races)
    for (const char *option : {"-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"}) options.push_back(option);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    options.push_back("-march=haswell");
#elif defined(__aarch64__)
  // The driver asks the loader where a module's thread-local variables are, who knows it in this model alone.
  options.push_back("-mtls-dialect=trad");
#endif
  return options;
}

}  // namespace

std::string compile(const std::string &source, const std::string &name, const std::vector<Header> &headers,
                    const Options &options) {
  TemporaryFolder folder;
  fs::path device = folder.path / "software_cuda", program = folder.path / "program.cpp";
  fs::path object = folder.path / "program.o", library = folder.path / "program.so";
  write(device / "interface.h", software_cuda_interface);
  write(device / "software_cuda.cuh", software_cuda_header);
  write(device / "races.cuh", software_cuda_races);
  write(device / "arithmetic.cuh", software_cuda_arithmetic);
  write(device / "entries.cuh", software_cuda_entries);
  for (const auto &[header, text] : headers) {
    if (header.find("..") != std::string::npos) throw CompileError("the name of a header leaves its folder\n");
    write(folder.path / "include" / header, text);
  }

  const std::string include = "-I" + (folder.path / "include").string();
  const std::vector<std::string> language = {"g++", "-x", "c++", "-std=c++17", include};
  const std::vector<std::string> macros = join({
      {"-DSOFTWARE_CUDA", "-DSOFTWARE_CUDA_ABI=" + std::to_string(SOFTWARE_CUDA_ABI),
       "-D__CUDA_ARCH__=" + std::to_string(options.architecture), "-D__CUDACC__", "-D__CUDACC_RTC__", "-D__NVCC__"},
      options.definitions,
  });
  const fs::path preprocessed = folder.path / "preprocessed";
  const fs::path own = folder.path / "source.cu";
  write(own, source);
  run(folder.path, join({language, macros, {"-E", "-P", "-w", own, "-o", preprocessed}}));
  std::string start = "#include \"" + (device / "software_cuda.cuh").string() + "\"\n#line 1 \"" + name + "\"\n";
  write(program, start + source + table(find_kernels(read(preprocessed)), options));
  run(folder.path, join({language, macros, code_options(), {"-c", program, "-o", object}}));
  run(folder.path, {"g++", "-shared", "-Wl,--as-needed", object, "-o", library});
  return read(library);
}

}  // namespace software_cuda
