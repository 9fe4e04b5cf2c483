// The interface of NVRTC, NVIDIA's compiler for CUDA source at run time. Names and numbers are those of CUDA 12 and 13.
#include <dlfcn.h>

#include <cstring>
#include <filesystem>

#include "../driver/api.h"
#include "../driver/settings.h"
#include "compile.h"

using namespace software_cuda;

enum nvrtcResult : unsigned {
  NVRTC_SUCCESS = 0,
  NVRTC_ERROR_OUT_OF_MEMORY = 1,
  NVRTC_ERROR_PROGRAM_CREATION_FAILURE = 2,
  NVRTC_ERROR_INVALID_INPUT = 3,
  NVRTC_ERROR_INVALID_PROGRAM = 4,
  NVRTC_ERROR_INVALID_OPTION = 5,
  NVRTC_ERROR_COMPILATION = 6,
  NVRTC_ERROR_BUILTIN_OPERATION_FAILURE = 7,
};

struct Program {
  std::string source;
  std::string name;
  std::vector<Header> headers;
  std::string log;
  /// Compiled code, for one architecture or, as PTX, for all later ones. Empty before it was compiled.
  std::string code;
  bool portable = false;
};

using nvrtcProgram = Program *;

API const char *nvrtcGetErrorString(nvrtcResult result) {
  constexpr const char *NAMES[] = {
      "NVRTC_SUCCESS",
      "NVRTC_ERROR_OUT_OF_MEMORY",
      "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
      "NVRTC_ERROR_INVALID_INPUT",
      "NVRTC_ERROR_INVALID_PROGRAM",
      "NVRTC_ERROR_INVALID_OPTION",
      "NVRTC_ERROR_COMPILATION",
      "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
  };
  return result <= NVRTC_ERROR_BUILTIN_OPERATION_FAILURE ? NAMES[result] : "NVRTC_ERROR unknown";
}

/// The version, such as 124. A file whose name ends with a major version is of that version, as NVIDIA's files are, unless
/// SOFTWARE_CUDA_NVRTC says another one.
static unsigned compiler_version() {
  if (settings().compiler != 0) return settings().compiler;
  Dl_info own;
  if (!dladdr(reinterpret_cast<const void *>(compiler_version), &own)) return 124;
  std::error_code ignored;
  std::string name = std::filesystem::canonical(own.dli_fname, ignored).filename();
  return name == "libnvrtc.so.13" ? 130 : 124;
}

API nvrtcResult nvrtcVersion(int *major, int *minor) {
  *major = int(compiler_version() / 10);
  *minor = int(compiler_version() % 10);
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetNumSupportedArchs(int *count) {
  *count = int(ARCHITECTURES.size());
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetSupportedArchs(int *versions) {
  std::memcpy(versions, ARCHITECTURES.data(), ARCHITECTURES.size() * sizeof(int));
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int header_count,
                                   const char *const *headers, const char *const *include_names) {
  if (!program || !source || header_count < 0) return NVRTC_ERROR_INVALID_INPUT;
  auto *created = new Program{source, name && *name ? name : "default_program", {}, {}, {}};
  for (int index = 0; index < header_count; index++) created->headers.emplace_back(include_names[index], headers[index]);
  *program = created;
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) {
  if (!program || !*program) return NVRTC_ERROR_INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int option_count, const char *const *options) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  program->code.clear();
  try {
    Options parsed = parse_options({options, options + option_count});
    program->portable = parsed.portable;
    program->code = compile(program->source, program->name, program->headers, parsed);
    program->log.clear();
    return NVRTC_SUCCESS;
  } catch (const std::invalid_argument &error) {
    program->log = std::string("nvrtc: error: ") + error.what() + "\n";
    return NVRTC_ERROR_INVALID_OPTION;
  } catch (const CompileError &error) {
    program->log = error.what();
    return NVRTC_ERROR_COMPILATION;
  } catch (const std::exception &error) {
    program->log = error.what();
    return NVRTC_ERROR_BUILTIN_OPERATION_FAILURE;
  }
}

API nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *bytes) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->log.size() + 1;
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *log) {
  if (!program) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return NVRTC_SUCCESS;
}

// Code for one architecture is there as a cubin and as PTX. Code for a virtual architecture is PTX alone.

API nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t *bytes) {
  if (!program || program->code.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->code.size();
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetPTX(nvrtcProgram program, char *ptx) {
  if (!program || program->code.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  std::memcpy(ptx, program->code.data(), program->code.size());
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *bytes) {
  if (!program || program->code.empty()) return NVRTC_ERROR_INVALID_PROGRAM;
  *bytes = program->portable ? 0 : program->code.size();
  return NVRTC_SUCCESS;
}

API nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *cubin) {
  if (!program || program->code.empty() || program->portable) return NVRTC_ERROR_INVALID_PROGRAM;
  return nvrtcGetPTX(program, cubin);
}
