// Products of f32 matrices by tiles, for calibration and selection.

// Rows and columns of a tile of a product, of which a thread computes 4 × 4.
constexpr u32 TILE = 64;
// Terms in shared memory at a time.
constexpr u32 DEPTH = 16;
// Steps of DEPTH terms that are added before their sum is added to the others, which rounds less than one sum of all.
constexpr u32 RUN = 16;

// Of each term the rows and the columns of a tile.
struct Terms {
  float left[DEPTH][TILE], right[DEPTH][TILE];
};

// The first of a thread's 4 rows and of its 4 columns in a tile.
DEVICE u32 own_row() { return threadIdx.x / 16 * 4; }
DEVICE u32 own_col() { return threadIdx.x % 16 * 4; }

// Sums `terms` products for the rows and columns of a thread. `fill(term)` writes DEPTH terms from `term` on into `tile`.
template <class Fill>
DEVICE void tile_product(const Terms& tile, u32 terms, Fill fill, float (&sums)[4][4]) {
  float parts[4][4] = {};
#pragma unroll
  for (u32 row = 0; row < 4; row++) {
#pragma unroll
    for (u32 col = 0; col < 4; col++) sums[row][col] = 0;
  }
  u32 step = 0;
  for (u32 term = 0; term < terms; term += DEPTH) {
    fill(term);
    __syncthreads();
#pragma unroll
    for (u32 depth = 0; depth < DEPTH; depth++) {
      float4 a = *(const float4*)&tile.left[depth][own_row()], b = *(const float4*)&tile.right[depth][own_col()];
      float left[4] = {a.x, a.y, a.z, a.w}, right[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (u32 row = 0; row < 4; row++) {
#pragma unroll
        for (u32 col = 0; col < 4; col++) parts[row][col] = fmaf(left[row], right[col], parts[row][col]);
      }
    }
    __syncthreads();
    bool ends = ++step % RUN == 0 || term + DEPTH >= terms;
    if (!ends) continue;
#pragma unroll
    for (u32 row = 0; row < 4; row++) {
#pragma unroll
      for (u32 col = 0; col < 4; col++) sums[row][col] += parts[row][col], parts[row][col] = 0;
    }
  }
}
