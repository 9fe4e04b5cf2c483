#include "options.h"

#include <algorithm>
#include <stdexcept>

#include "../driver/settings.h"

namespace software_cuda {

// Those of NVRTC 12.4.
const std::vector<int> ARCHITECTURES = {50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90};

namespace {

/// Names of options with a value or without that change nothing here.
const std::vector<std::string> WITHOUT_EFFECT = {
    "std", "fmad", "ftz", "prec-sqrt", "prec-div", "use_fast_math", "maxrregcount", "device-debug", "G",
    "generate-line-info", "lineinfo", "restrict", "default-device", "device-as-default-execution-space",
    "extra-device-vectorization", "disable-warnings", "w", "dopt", "ptxas-options", "relocatable-device-code", "rdc",
};

void parse_architecture(const std::string &value, Options &options) {
  bool portable = value.rfind("compute_", 0) == 0;
  if (!portable && value.rfind("sm_", 0) != 0) throw std::invalid_argument("invalid value for --gpu-architecture");
  int version = std::atoi(value.c_str() + value.find('_') + 1);
  if (std::find(ARCHITECTURES.begin(), ARCHITECTURES.end(), version) == ARCHITECTURES.end())
    throw std::invalid_argument("invalid value for --gpu-architecture: " + value);
  options.architecture = unsigned(version) * 10;
  options.portable = portable;
}

}  // namespace

Options parse_options(const std::vector<std::string> &list) {
  Options options{settings().architecture * 10, false, {}};
  for (const std::string &option : list) {
    std::string name = option.substr(0, option.find('='));
    std::string value = name.size() < option.size() ? option.substr(name.size() + 1) : "";
    name.erase(0, name.find_first_not_of('-'));
    if (name == "gpu-architecture" || name == "arch") parse_architecture(value, options);
    else if (name == "define-macro") options.definitions.push_back("-D" + value);
    else if (option.rfind("-D", 0) == 0 && option.size() > 2) options.definitions.push_back(option);
    else if (std::find(WITHOUT_EFFECT.begin(), WITHOUT_EFFECT.end(), name) == WITHOUT_EFFECT.end())
      throw std::invalid_argument("unrecognized option " + option + " found");
  }
  return options;
}

}  // namespace software_cuda
