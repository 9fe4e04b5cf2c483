// The matrix unit: mma.m16n8k16 with bf16 operands and f32 sums.
#include "matrix.h"

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
  // A product of two numbers of 8 bits is exact in f32. The sums are in the order of k.
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < 16; k++)
      for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
  for (unsigned lane = 0; lane < lanes; lane++) {
    const Product &product = *static_cast<const Product *>(products[lane]);
    int group = int(lane >> 2), thread_in_group = int(lane % 4);
    for (int i = 0; i < 4; i++) product.d[i] = d[i < 2 ? group : group + 8][thread_in_group * 2 + (i & 1)];
  }
}

}  // namespace software_cuda
