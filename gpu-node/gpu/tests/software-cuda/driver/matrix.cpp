// The matrix unit: mma.m16n8k16 with bf16 operands and f32 sums.
#include "matrix.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../device/interface.h"

namespace software_cuda {

namespace {

/// Element `index` of a fragment, which has two in each word, the first in the lower half.
float element(const unsigned *fragment, int index) {
  uint32_t word = fragment[index / 2];
  uint32_t bits = index % 2 ? word & 0xffff0000 : word << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// Products that the matrix unit adds at once, and the bits that it keeps of the largest of them and of the sum before: those of an
/// f32 and one more.
constexpr int TERMS = 8, KEPT_BITS = 25;

/// Adds products to a sum as measured of matrix units (Fasi et al. 2021, "Numerical behavior of NVIDIA tensor cores"): all terms are
/// aligned to the largest one, what is below its bits is cut off, and the result is cut off to f32, not rounded.
float add(float sum, const double (&products)[TERMS]) {
  double largest = std::abs(double(sum)), plain = sum;
  for (double product : products) largest = std::max(largest, std::abs(product)), plain += product;
  // NaN, infinity, or nothing to add.
  if (!std::isfinite(plain) || largest == 0) return float(plain);
  const double unit = std::ldexp(1.0, std::ilogb(largest) + 1 - KEPT_BITS);
  double total = std::trunc(sum / unit);
  for (double product : products) total += std::trunc(product / unit);
  total *= unit;
  float rounded = float(total);
  bool is_up = std::isfinite(rounded) && std::abs(double(rounded)) > std::abs(total);
  return is_up ? std::nextafterf(rounded, 0) : rounded;
}

}  // namespace

// Rows and columns as in PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
void multiply(void *const *products, unsigned lanes) {
  float a[16][16], b[16][8], d[16][8];
  if (lanes != 32) return;
  for (unsigned lane = 0; lane < lanes; lane++) {
    const Product &product = *static_cast<const Product *>(products[lane]);
    int group = int(lane >> 2), thread_in_group = int(lane % 4);
    for (int i = 0; i < 8; i++) {
      int row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
      int column = thread_in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      a[row][column] = element(product.a, i);
    }
    for (int i = 0; i < 4; i++) b[thread_in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group] = element(product.b, i);
    for (int i = 0; i < 4; i++) d[i < 2 ? group : group + 8][thread_in_group * 2 + (i & 1)] = product.d[i];
  }
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      for (int first = 0; first < 16; first += TERMS) {
        double terms[TERMS];
        for (int k = 0; k < TERMS; k++) terms[k] = double(a[row][first + k]) * double(b[first + k][column]);
        d[row][column] = add(d[row][column], terms);
      }
    }
  }
  for (unsigned lane = 0; lane < lanes; lane++) {
    const Product &product = *static_cast<const Product *>(products[lane]);
    int group = int(lane >> 2), thread_in_group = int(lane % 4);
    for (int i = 0; i < 4; i++) product.d[i] = d[i < 2 ? group : group + 8][thread_in_group * 2 + (i & 1)];
  }
}

}  // namespace software_cuda
