// The calibration of blocks: their forward pass in f32, and the sums of their statistics. The kernels need `tile.cuh`
// for their tiles, and the constants of a model. Their calls are their own: `word(i)` is the i-th word that `shaders/*.wgsl` declare.

DEVICE u32 word(const u32* step, u32 at, u32 index) { return __ldg(step + at + index); }

// The outputs X Wᵀ of a linear of a block, of some rows of X [.., cols] and of W, f32: [.., rows]. An output has the same bits
// whatever is computed beside it. Grid: (rows / TILE, tokens / TILE).
KERNEL(256) block_linear(const u32* step, u32 at, const float* inputs, const float* weights, float* outputs) {
  __shared__ __align__(16) Terms tile;
  // Rows of X that are multiplied, the first of them, and the row of the outputs that it is written to.
  u32 tokens = word(step, at, 0), first_input = word(step, at, 1), first_output = word(step, at, 2);
  // Columns of W, and all its rows.
  u32 cols = word(step, at, 3), rows = word(step, at, 4);
  // The first row and the end of the rows of W that are multiplied, and the row that `weights` begins with.
  u32 end_row = word(step, at, 6), part_row = word(step, at, 7);
  u32 first_token = blockIdx.y * TILE, first_row = word(step, at, 5) + blockIdx.x * TILE;
  // Of a row neighbouring threads take neighbouring terms, which are columns.
  auto fill = [&](u32 term) {
#pragma unroll
    for (u32 index = threadIdx.x; index < TILE * DEPTH; index += 256) {
      u32 place = index / DEPTH, depth = index % DEPTH, col = term + depth;
      u32 token = first_token + place, row = first_row + place;
      bool has_input = col < cols && token < tokens, has_weight = col < cols && row < end_row;
      tile.left[depth][place] = has_input ? inputs[(u64)(first_input + token) * cols + col] : 0.f;
      tile.right[depth][place] = has_weight ? weights[(u64)(row - part_row) * cols + col] : 0.f;
    }
  };
  float sums[4][4];
  tile_product(tile, cols, fill, sums);
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    u32 token = first_token + own_row() + i;
    if (token >= tokens) break;
    float* to = outputs + (u64)(first_output + token) * rows;
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
      u32 row = first_row + own_col() + j;
      if (row < end_row) to[row] = sums[i][j];
    }
  }
}

// Adds a statistic of some tokens to its sum, [rows, cols] f32: the second moment Xᵀ X, its upper triangle, or the sensitivity
// |Y|ᵀ |X|. `left_factor` is Y, or X, [.., rows], and `right_factor` is X, [.., cols]. The sum of all products is added at once.
// Grid: (cols / TILE, rows / TILE).
KERNEL(256) statistic(const u32* step, u32 at, const float* left_factor, const float* right_factor, float* statistic) {
  __shared__ __align__(16) Terms tile;
  // The rows of both factors that belong to the first token.
  u32 tokens = word(step, at, 0), first_left = word(step, at, 1), first_right = word(step, at, 2);
  u32 rows = word(step, at, 3), cols = word(step, at, 4);
  // The end of the rows of the statistic that are summed, and the row that `statistic` begins with.
  u32 end_row = word(step, at, 6), part_row = word(step, at, 7);
  bool is_sensitivity = word(step, at, 9) == 1;
  u32 first_row = word(step, at, 5) + blockIdx.y * TILE, first_col = word(step, at, 8) + blockIdx.x * TILE;
  if (!is_sensitivity && first_col < first_row) return;
  // Columns of the factors are the rows and the columns of the tile. The terms are tokens.
  auto fill = [&](u32 term) {
#pragma unroll
    for (u32 index = threadIdx.x; index < TILE * DEPTH; index += 256) {
      u32 depth = index / TILE, place = index % TILE, token = term + depth;
      u32 row = first_row + place, col = first_col + place;
      float left = token < tokens && row < rows ? left_factor[(u64)(first_left + token) * rows + row] : 0.f;
      float right = token < tokens && col < cols ? right_factor[(u64)(first_right + token) * cols + col] : 0.f;
      tile.left[depth][place] = is_sensitivity ? fabsf(left) : left;
      tile.right[depth][place] = is_sensitivity ? fabsf(right) : right;
    }
  };
  float sums[4][4];
  tile_product(tile, tokens, fill, sums);
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    u32 row = first_row + own_row() + i;
    if (row >= end_row) break;
    float* to = statistic + (u64)(row - part_row) * cols;
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
      u32 col = first_col + own_col() + j;
      if (col < cols) to[col] += sums[i][j];
    }
  }
}

// Rotates queries or keys [tokens, heads, HEAD_DIM] in place by the positions of their tokens (Su et al. 2021), the first half of
// a head paired with the second. `angles` are the cosines, then the sines of each position, [positions, 2, HALF].
// Grid: (pairs / 64, tokens).
KERNEL(64) rotate(const u32* step, u32 at, float* states, const float* angles, const u32* positions) {
  u32 unit = blockIdx.x * 64 + threadIdx.x, heads = word(step, at, 0), row = blockIdx.y;
  if (unit >= heads * HALF) return;
  u32 pair = unit % HALF;
  float* low = states + ((u64)row * heads + unit / HALF) * HEAD_DIM + pair;
  const float* angle = angles + (u64)positions[row] * HEAD_DIM + pair;
  float cosine = angle[0], sine = angle[HALF], a = low[0], b = low[HALF];
  low[0] = a * cosine - b * sine;
  low[HALF] = b * cosine + a * sine;
}

// Queries of a tile, and positions of a step.
constexpr u32 QUERIES = 8, POSITIONS = 64;

// Causal attention of a tile of queries of one head, with an online softmax (Milakov and Gimelshein 2018), f32: 64 positions at a
// time, from the beginning of the sequence on, so that the result of a query depends on its sequence alone. The results replace
// the queries [rows, HEADS, HEAD_DIM]; keys and values are [rows, KV_HEADS, HEAD_DIM]. For each tile `tiles` has the first row of
// its sequence, and the first row and the end of its rows. Grid: (HEADS, tiles).
KERNEL(64) block_attention(const u32* step, u32 at, const u32* tiles, const float* keys, const float* values, float* states) {
  constexpr u32 PARTS = (HEAD_DIM + POSITIONS - 1) / POSITIONS;
  __shared__ float queries[HEAD_DIM][QUERIES];
  // The scores, then the weights of the positions of a step.
  __shared__ float scores[POSITIONS][QUERIES];
  __shared__ float largest[2][QUERIES];
  u32 head = blockIdx.x, thread = threadIdx.x;
  const u32* tile = tiles + 3 * (word(step, at, 0) + blockIdx.y);
  u32 start = tile[0], first = tile[1], end = tile[2];
  u32 kv_head = head / (HEADS / KV_HEADS);
  for (u32 dim = thread; dim < HEAD_DIM; dim += POSITIONS) {
#pragma unroll
    for (u32 i = 0; i < QUERIES; i++) {
      bool is_there = first + i < end;
      queries[dim][i] = is_there ? SCALE * states[((u64)(first + i) * HEADS + head) * HEAD_DIM + dim] : 0.f;
    }
  }
  __syncthreads();
  // A thread sums the elements thread, thread + 64, … of the head.
  float best[QUERIES], total[QUERIES], sums[PARTS][QUERIES];
#pragma unroll
  for (u32 i = 0; i < QUERIES; i++) {
    best[i] = LOWEST, total[i] = 0;
#pragma unroll
    for (u32 part = 0; part < PARTS; part++) sums[part][i] = 0;
  }
  for (u32 base = start; base < end; base += POSITIONS) {
    u32 key = base + thread;
    float own[QUERIES] = {};
    if (key < end) {
      const float* elements = keys + ((u64)key * KV_HEADS + kv_head) * HEAD_DIM;
      for (u32 dim = 0; dim < HEAD_DIM; dim++) {
#pragma unroll
        for (u32 i = 0; i < QUERIES; i++) own[i] = fmaf(queries[dim][i], elements[dim], own[i]);
      }
    }
    float most[QUERIES];
#pragma unroll
    for (u32 i = 0; i < QUERIES; i++) {
      most[i] = warp_max(key <= first + i ? own[i] : LOWEST);
      if (lane_id() == 0) largest[warp_id()][i] = most[i];
    }
    __syncthreads();
#pragma unroll
    for (u32 i = 0; i < QUERIES; i++) {
      most[i] = fmaxf(best[i], fmaxf(largest[0][i], largest[1][i]));
      // The weight of NaN is NaN, and so are the sums.
      scores[thread][i] = key <= first + i ? expf(own[i] - most[i]) : 0.f;
    }
    __syncthreads();
#pragma unroll
    for (u32 i = 0; i < QUERIES; i++) {
      float decay = expf(best[i] - most[i]);
      best[i] = most[i];
      total[i] *= decay;
#pragma unroll
      for (u32 part = 0; part < PARTS; part++) sums[part][i] *= decay;
    }
    u32 count = end - base < POSITIONS ? end - base : POSITIONS;
    for (u32 place = 0; place < count; place++) {
      const float* elements = values + ((u64)(base + place) * KV_HEADS + kv_head) * HEAD_DIM;
#pragma unroll
      for (u32 i = 0; i < QUERIES; i++) total[i] += scores[place][i];
#pragma unroll
      for (u32 part = 0; part < PARTS; part++) {
        u32 dim = thread + part * POSITIONS;
        if (dim >= HEAD_DIM) continue;
        float value = elements[dim];
#pragma unroll
        for (u32 i = 0; i < QUERIES; i++) {
          // A value that a query does not see may be NaN.
          if (base + place <= first + i) sums[part][i] = fmaf(scores[place][i], value, sums[part][i]);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (u32 part = 0; part < PARTS; part++) {
    u32 dim = thread + part * POSITIONS;
    if (dim >= HEAD_DIM) continue;
#pragma unroll
    for (u32 i = 0; i < QUERIES; i++) {
      if (first + i < end) states[((u64)(first + i) * HEADS + head) * HEAD_DIM + dim] = sums[part][i] / total[i];
    }
  }
}

// Adds rows [rows, HIDDEN] to the residual stream, from a row of it on. Grid: (HIDDEN / 64, rows).
KERNEL(64) residual(const u32* step, u32 at, const float* added, float* stream) {
  u32 col = blockIdx.x * 64 + threadIdx.x, row = blockIdx.y;
  if (col < HIDDEN) stream[(u64)(word(step, at, 0) + row) * HIDDEN + col] += added[(u64)row * HIDDEN + col];
}

// Marks the inputs of a linear, [.., cols] as the bits of f32, if a value is not finite. Grid: (cols / 64).
KERNEL(64) check(const u32* step, u32 at, const u32* inputs, u32* marks) {
  u32 tokens = word(step, at, 0), first = word(step, at, 1), cols = word(step, at, 2), mark = word(step, at, 3);
  u32 col = blockIdx.x * 64 + threadIdx.x, largest = 0;
  if (col >= cols) return;
  for (u32 token = first; token < first + tokens; token++) {
    u32 size = inputs[(u64)token * cols + col] & 0x7fffffffu;
    if (size > largest) largest = size;
  }
  if (largest >= 0x7f800000u) atomicOr(marks + mark, 1u);
}
