// The refinement of masks by exchanges, row by row. These kernels need no model and no call. H is a second moment [cols, cols]
// f32, symmetric. They need `tile.cuh`.

struct ExchangeShape {
  u32 cols;
  // Columns of a group: both weights of an exchange are in the same group. 0: anywhere in the row.
  u32 group;
  // Rows of H in a buffer: all.
  u32 part_rows;
};

DEVICE bool keeps(const u32* row, u32 col) { return row[col / 32] >> col % 32 & 1; }

// The gradient E H, [rows, cols] f32, of rows of W with masks [rows, ceil(cols / 32)] words; E is W where it is pruned, and 0
// elsewhere. H and each row of W are scaled by powers of two, so that no value is above 1. Each number has the same bits whatever
// rows are beside it. Grid: (cols / TILE, rows / TILE).
KERNEL(256) exchange_product(const u32* row_count, const float* weights, const u32* bits, float* gradient, float2*,
                             const ExchangeShape* shape, const float*, const float* moment) {
  __shared__ __align__(16) Terms tile;
  u32 cols = shape->cols, words = (cols + 31) / 32, rows = *row_count;
  u32 first_row = blockIdx.y * TILE, first_col = blockIdx.x * TILE;
  // Of a row neighbouring threads take neighbouring terms. The terms are the columns of E and the rows of H.
  auto fill = [&](u32 term) {
#pragma unroll
    for (u32 index = threadIdx.x; index < TILE * DEPTH; index += 256) {
      u32 row = first_row + index / DEPTH, from = term + index % DEPTH;
      bool is_pruned = row < rows && from < cols && !keeps(bits + (u64)row * words, from);
      tile.left[index % DEPTH][index / DEPTH] = is_pruned ? weights[(u64)row * cols + from] : 0.f;
      u32 moment_row = term + index / TILE, col = first_col + index % TILE;
      bool is_there = moment_row < cols && col < cols;
      tile.right[index / TILE][index % TILE] = is_there ? moment[(u64)moment_row * cols + col] : 0.f;
    }
  };
  float sums[4][4];
  tile_product(tile, cols, fill, sums);
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    u32 row = first_row + own_row() + i;
    if (row >= rows) break;
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
      u32 col = first_col + own_col() + j;
      if (col < cols) gradient[(u64)row * cols + col] = sums[i][j];
    }
  }
}

// The error e H eᵀ of each row, from its gradient e H. Grid: (rows).
KERNEL(256) exchange_error(const u32*, const float* weights, const u32* bits, const float* gradient, float2* figures,
                           const ExchangeShape* shape, const float*, const float*) {
  __shared__ float parts[8];
  u32 cols = shape->cols;
  const u32* mask = bits + (u64)blockIdx.x * ((cols + 31) / 32);
  u64 base = (u64)blockIdx.x * cols;
  float sum = 0;
  for (u32 col = threadIdx.x; col < cols; col += 256) {
    if (!keeps(mask, col)) sum = fmaf(weights[base + col], gradient[base + col], sum);
  }
  sum = block_sum(sum, parts);
  if (threadIdx.x == 0) figures[blockIdx.x].y = sum;
}

// Exchanges at most, of a row.
constexpr u32 MAX_EXCHANGES = 50;
// Words of the mask of the widest row.
constexpr u32 MAX_WORDS = 1024;
// A gain of less than this part of the terms that it is the difference of could be an error of rounding, and is not made, so that
// no row's error rises.
constexpr float ROUNDING = 3.8e-6f;
constexpr float LARGEST = 3.4028234e38f;
constexpr u32 NONE = 0xffffffffu;

// A column, and a change of the error.
struct Change {
  float change;
  u32 column;
};

DEVICE Change lesser(Change one, Change other) {
  bool is_less = other.change < one.change || (other.change == one.change && other.column < one.column);
  return is_less ? other : one;
}

// The least change of all threads, the lowest column among equal ones, in every thread. `parts` are 8 changes in shared memory.
DEVICE Change least_change(Change own, Change* parts) {
#pragma unroll
  for (u32 mask = 16; mask > 0; mask /= 2) {
    own = lesser(own, Change{shuffle_xor(own.change, mask), shuffle_xor(own.column, mask)});
  }
  // All threads have read what the last call wrote.
  __syncthreads();
  if (lane_id() == 0) parts[warp_id()] = own;
  __syncthreads();
  Change least = parts[0];
#pragma unroll
  for (u32 warp = 1; warp < 8; warp++) least = lesser(least, parts[warp]);
  return least;
}

// An exchange, with the change of the error, and the size of the terms that the change is the sum of.
struct Exchange {
  u32 prune, restore;
  float change, size;
};

DEVICE Exchange no_exchange() { return Exchange{NONE, NONE, 0, 0}; }

// A row in refinement.
struct Row {
  const float* weights;
  float* gradient;
  const float* diagonal;
  const float* moment;
  u32 cols, group;
  u32* kept;

  DEVICE float moment_at(u32 row, u32 col) const { return moment[(u64)row * cols + col]; }
  // The terms of the change of the error if a column is pruned or restored by itself: W² H, and 2 W g.
  DEVICE float square(u32 col) const { return weights[col] * weights[col] * diagonal[col]; }
  DEVICE float slope(u32 col) const { return 2.f * weights[col] * gradient[col]; }
  // Adds an exchange to the gradient of a column.
  DEVICE void update(const Exchange& last, u32 col) const {
    gradient[col] +=
        weights[last.prune] * moment_at(last.prune, col) - weights[last.restore] * moment_at(last.restore, col);
  }
};

// Exchanges anywhere in a row: the kept weight that costs least, and the pruned weight that then saves most.
struct Whole {
  struct Shared {
    Change parts[8];
  };

  DEVICE static void update(const Row& row, const Exchange& last) {
    for (u32 col = threadIdx.x; col < row.cols; col += 256) row.update(last, col);
  }

  DEVICE static Exchange best(const Row& row, Shared& shared) {
    Change cost = {LARGEST, NONE};
    for (u32 col = threadIdx.x; col < row.cols; col += 256) {
      if (!keeps(row.kept, col)) continue;
      float change = row.square(col) + row.slope(col);
      if (change < cost.change) cost = Change{change, col};
    }
    cost = least_change(cost, shared.parts);
    u32 prune = cost.column;
    if (prune == NONE) return no_exchange();
    Change gain = {LARGEST, NONE};
    for (u32 col = threadIdx.x; col < row.cols; col += 256) {
      if (keeps(row.kept, col)) continue;
      float after = row.gradient[col] + row.weights[prune] * row.moment_at(prune, col);
      float change = row.square(col) - 2.f * row.weights[col] * after;
      if (change < gain.change) gain = Change{change, col};
    }
    gain = least_change(gain, shared.parts);
    u32 restore = gain.column;
    if (restore == NONE) return no_exchange();
    float pruned = row.square(prune), restored = row.square(restore);
    float size = pruned + fabsf(cost.change - pruned) + restored + fabsf(gain.change - restored);
    return Exchange{prune, restore, cost.change + gain.change, size};
  }
};

// Exchanges within groups of n:m. In each group the weight that costs least and the weight that saves most are chosen, each by
// itself; the group in which they gain most is used, the first among equal ones. A thread takes whole groups.
struct Groups {
  struct Shared {
    Change parts[8];
    u32 restore;
  };

  DEVICE static void update(const Row& row, const Exchange& last) {
    for (u32 begin = threadIdx.x * row.group; begin < row.cols; begin += 256 * row.group) {
      for (u32 col = begin; col < begin + row.group; col++) row.update(last, col);
    }
  }

  DEVICE static Exchange best(const Row& row, Shared& shared) {
    Exchange own = {NONE, NONE, LARGEST, 0};
    for (u32 begin = threadIdx.x * row.group; begin < row.cols; begin += 256 * row.group) {
      Change cost = {LARGEST, NONE}, gain = {LARGEST, NONE};
      for (u32 col = begin; col < begin + row.group; col++) {
        bool is_kept = keeps(row.kept, col);
        float change = is_kept ? row.square(col) + row.slope(col) : row.square(col) - row.slope(col);
        Change& best = is_kept ? cost : gain;
        if (change < best.change) best = Change{change, col};
      }
      if (cost.column == NONE || gain.column == NONE) continue;
      float together = row.weights[gain.column] * (row.weights[cost.column] * row.moment_at(cost.column, gain.column));
      float change = cost.change + gain.change - 2.f * together;
      if (change < own.change) own = Exchange{cost.column, gain.column, change, 0};
    }
    Change least = least_change(Change{own.change, own.prune}, shared.parts);
    if (least.column == NONE) return no_exchange();
    if (least.column == own.prune) shared.restore = own.restore;
    __syncthreads();
    u32 prune = least.column, restore = shared.restore;
    float size = row.square(prune) + fabsf(row.slope(prune)) + row.square(restore) + fabsf(row.slope(restore));
    return Exchange{prune, restore, least.change, size};
  }
};

// Exchanges a kept weight p for a pruned weight q until no exchange lowers a row's error by more than its least gain, at most
// MAX_EXCHANGES times. A thread always works on the same columns. Writes the mask back, and leaves the gradient of the new mask.
//
// With g = E H, pruning p costs W_p² H_pp + 2 W_p g_p, and restoring q after it changes the error by
// W_q² H_qq − 2 W_q (g_q + W_p H_pq). Ties go to the lower column.
template <class Kind>
DEVICE void refine(const float* weights, u32* bits, float* gradient, const float2* figures, const ExchangeShape* shape,
                   const float* diagonal, const float* moment) {
  __shared__ u32 kept[MAX_WORDS];
  __shared__ typename Kind::Shared shared;
  u32 cols = shape->cols, words = (cols + 31) / 32;
  u64 base = (u64)blockIdx.x * cols;
  u32* mask = bits + (u64)blockIdx.x * words;
  for (u32 word = threadIdx.x; word < words; word += 256) kept[word] = mask[word];
  __syncthreads();
  const Row row = {weights + base, gradient + base, diagonal, moment, cols, shape->group, kept};
  float least_gain = figures[blockIdx.x].x;
  for (u32 round = 0; round < MAX_EXCHANGES; round++) {
    Exchange found = Kind::best(row, shared);
    if (found.prune == NONE || !(found.change < -fmaxf(least_gain, ROUNDING * found.size))) break;
    // All threads have read the gradient of both columns, which two of them now change.
    __syncthreads();
    if (threadIdx.x == 0) {
      kept[found.prune / 32] &= ~(1u << found.prune % 32);
      kept[found.restore / 32] |= 1u << found.restore % 32;
    }
    __syncthreads();
    Kind::update(row, found);
  }
  for (u32 word = threadIdx.x; word < words; word += 256) mask[word] = kept[word];
}

// Grid of both: (rows).
KERNEL(256) exchange_whole(const u32*, const float* weights, u32* bits, float* gradient, const float2* figures,
                           const ExchangeShape* shape, const float* diagonal, const float* moment) {
  refine<Whole>(weights, bits, gradient, figures, shape, diagonal, moment);
}

KERNEL(256) exchange_groups(const u32*, const float* weights, u32* bits, float* gradient, const float2* figures,
                            const ExchangeShape* shape, const float* diagonal, const float* moment) {
  refine<Groups>(weights, bits, gradient, figures, shape, diagonal, moment);
}
