#include "kernels.h"

#include <regex>

namespace software_cuda {

std::vector<KernelDeclaration> find_kernels(const std::string &source) {
  // The bounds stand before or after `void`. Their parentheses may contain others, but these no further ones.
  const std::string bounds = R"((?:__launch_bounds__\s*\(((?:[^()]|\([^()]*\))*)\)\s*)?)";
  const std::regex declaration(R"(extern\s*"C"\s*__global__\s*)" + bounds + R"(void\s+)" + bounds + R"((\w+)\s*\()");
  std::vector<KernelDeclaration> kernels;
  for (size_t start = source.find("extern"); start != std::string::npos; start = source.find("extern", start + 1)) {
    std::smatch match;
    auto from = source.begin() + std::string::difference_type(start);
    if (!std::regex_search(from, source.end(), match, declaration, std::regex_constants::match_continuous)) continue;
    std::string limit = match[1].matched ? match[1] : match[2].matched ? match[2].str() : "1024";
    // The second of two bounds is the number of blocks that a multiprocessor should hold.
    kernels.push_back({match[3], limit.substr(0, limit.find(','))});
  }
  return kernels;
}

}  // namespace software_cuda
