// The matrix unit: mma.m16n8k16 with bf16 operands and f32 sums.
#include "matrix.h"

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

/// Columns of B and of the sums.
constexpr int COLUMNS = 8;

/// Returns the value of another type that has the same bits.
template <typename To, typename From>
To from_bits(From value) {
  To result;
  static_assert(sizeof(result) == sizeof(value));
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

/// Adds products to the sums of one row as measured of matrix units (Fasi et al. 2021, "Numerical behavior of NVIDIA tensor cores"):
/// all terms of a sum are aligned to the largest one, what is below its bits is cut off, and the result is cut off to f32, not rounded.
///
/// Tests spend most of their time here, so all columns take the same steps, which the compiler makes vectors of. Products of bf16 are
/// never subnormal as f64. In units of the last bit that is kept all terms are integers of `KEPT_BITS` bits, which are added exactly.
/// What is computed that way of a sum that is not finite, or of zeros, is not used.
void add(float (&sums)[COLUMNS], const double (&products)[TERMS][COLUMNS]) {
  double largest[COLUMNS], plain[COLUMNS], total[COLUMNS];
  for (int column = 0; column < COLUMNS; column++) plain[column] = sums[column], largest[column] = std::abs(plain[column]);
  for (const auto &product : products) {
    for (int column = 0; column < COLUMNS; column++) {
      double size = std::abs(product[column]);
      largest[column] = largest[column] < size ? size : largest[column];
      plain[column] += product[column];
    }
  }
  double scale[COLUMNS];
  int32_t units[COLUMNS];
  for (int column = 0; column < COLUMNS; column++) {
    // 2 to the power of the largest exponent, whose inverse times the largest term has one bit before the point.
    uint64_t power = from_bits<uint64_t>(largest[column]) & 0x7ff0000000000000;
    uint64_t one = uint64_t(1023) << 52, kept = uint64_t(KEPT_BITS - 1) << 52;
    scale[column] = from_bits<double>(2 * one - power + kept);
    units[column] = int32_t(sums[column] * scale[column]);
    total[column] = from_bits<double>(power - kept);
  }
  for (const auto &product : products) {
    for (int column = 0; column < COLUMNS; column++) units[column] += int32_t(product[column] * scale[column]);
  }
  for (int column = 0; column < COLUMNS; column++) total[column] *= units[column];
  for (int column = 0; column < COLUMNS; column++) {
    // NaN, infinity, or nothing to add.
    if (!std::isfinite(plain[column]) || largest[column] == 0) {
      sums[column] = float(plain[column]);
      continue;
    }
    float rounded = float(total[column]);
    bool is_up = std::isfinite(rounded) && std::abs(double(rounded)) > std::abs(total[column]);
    // The next number towards 0.
    sums[column] = is_up ? from_bits<float>(from_bits<uint32_t>(rounded) - 1) : rounded;
  }
}

}  // namespace

// Rows and columns as in PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
void multiply(void *const *products, unsigned lanes) {
  float a[16][16], b[16][COLUMNS], d[16][COLUMNS];
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
    for (int first = 0; first < 16; first += TERMS) {
      double terms[TERMS][COLUMNS];
      for (int k = 0; k < TERMS; k++) {
        for (int column = 0; column < COLUMNS; column++)
          terms[k][column] = double(a[row][first + k]) * double(b[first + k][column]);
      }
      add(d[row], terms);
    }
  }
  for (unsigned lane = 0; lane < lanes; lane++) {
    const Product &product = *static_cast<const Product *>(products[lane]);
    int group = int(lane >> 2), thread_in_group = int(lane % 4);
    for (int i = 0; i < 4; i++) product.d[i] = d[i < 2 ? group : group + 8][thread_in_group * 2 + (i & 1)];
  }
}

}  // namespace software_cuda
