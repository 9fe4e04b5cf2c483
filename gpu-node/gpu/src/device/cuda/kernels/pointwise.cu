// Embeddings, norms, gates and sums.

struct TableShape {
  u32 rows, cols, groups, first;
};

// Copies the embedding of each token of a batch into the residual stream. The table is a dense bf16 matrix, perhaps in parts; a
// part skips the tokens of other parts. Grid: (columns / 64, rows).
KERNEL(64) embed(const u32* step, u32 at, const u32* words, float* stream, const TableShape* shape) {
  Call call(step, at);
  if (blockIdx.y >= call.rows()) return;
  u32 col = blockIdx.x * 64 + threadIdx.x, token = call.token(blockIdx.y);
  if (col >= shape->cols || token < shape->first || token - shape->first >= shape->rows) return;
  u32 row = token - shape->first;
  u64 group = (u64)(row / 32) * shape->groups + col / 64;
  u32 word = words[(group * 32 + col % 64 / 2) * 32 + row % 32];
  stream[(u64)blockIdx.y * shape->cols + col] = __uint_as_float(word >> col % 2 * 16 << 16);
}

// Root mean square norm of a row (Zhang and Sennrich 2019): x / sqrt(mean(x²) + EPS) · gamma. Grid: (rows).
DEVICE void norm_row(const float* x, const float* gamma, float* out) {
  // A thread keeps its numbers if they are few.
  constexpr u32 TURNS = (HIDDEN + 255) / 256, KEPT = TURNS <= 32 ? TURNS : 1;
  __shared__ float parts[8];
  float own[KEPT], sum = 0;
  if (TURNS == KEPT) {
#pragma unroll
    for (u32 i = 0; i < KEPT; i++) {
      u32 col = threadIdx.x + 256 * i;
      own[i] = col < HIDDEN ? x[col] : 0;
      sum = fmaf(own[i], own[i], sum);
    }
  } else {
    for (u32 col = threadIdx.x; col < HIDDEN; col += 256) sum = fmaf(x[col], x[col], sum);
  }
  float scale = 1.f / sqrtf(block_sum(sum, parts) / (float)HIDDEN + EPS);
  if (TURNS == KEPT) {
#pragma unroll
    for (u32 i = 0; i < KEPT; i++) {
      u32 col = threadIdx.x + 256 * i;
      if (col < HIDDEN) out[col] = own[i] * scale * gamma[col];
    }
  } else {
    for (u32 col = threadIdx.x; col < HIDDEN; col += 256) out[col] = x[col] * scale * gamma[col];
  }
}

KERNEL(256) norm_rows(const u32* step, u32 at, const float* x, const float* gamma, float* out) {
  if (blockIdx.x >= Call(step, at).rows()) return;
  norm_row(x + (u64)blockIdx.x * HIDDEN, gamma, out + (u64)blockIdx.x * HIDDEN);
}

KERNEL(256) norm_picked(const u32* step, u32 at, const float* x, const float* gamma, float* out) {
  u32 row = __ldg(Call(step, at).picks() + blockIdx.x);
  norm_row(x + (u64)row * HIDDEN, gamma, out + (u64)blockIdx.x * HIDDEN);
}

// gate ← silu(gate) · up (Shazeer 2020). Grid: (INTERMEDIATE / 256, rows).
KERNEL(256) gate(const u32* step, u32 at, float* gate, const float* up) {
  u32 col = blockIdx.x * 256 + threadIdx.x;
  if (col >= INTERMEDIATE || blockIdx.y >= Call(step, at).rows()) return;
  u64 place = (u64)blockIdx.y * INTERMEDIATE + col;
  float value = gate[place];
  gate[place] = value / (1.f + expf(-value)) * up[place];
}

// Adds rows to a sum, [HIDDEN], by compensated summation (Kahan 1965). The second half of `sums` holds the rounding errors.
// Neither compiler reorders sums of floats. Grid: (HIDDEN / 64).
KERNEL(64) sum(const u32* step, u32 at, const float* rows, float* sums) {
  Call call(step, at);
  u32 col = blockIdx.x * 64 + threadIdx.x;
  if (col >= HIDDEN) return;
  float sum = 0, error = 0;
  if (!call.reset()) sum = sums[col], error = sums[HIDDEN + col];
  u32 first = call.first(), end = first + call.rows();
  for (u32 row = first; row < end; row++) {
    float value = rows[(u64)row * HIDDEN + col] - error, next = sum + value;
    error = (next - sum) - value;
    sum = next;
  }
  sums[col] = sum;
  sums[HIDDEN + col] = error;
}
