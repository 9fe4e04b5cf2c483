// y[token, row] (+)= Σ_col weight[row, col] · x[token, col] for one block of 32 rows and one tile of tokens, by matrix units.
//
// The 8 warps take slices of the groups of columns, and their sums are added in the order of the slices. The sum of a group
// begins at 0, and is then multiplied by its scales and added to the slice's. So the sum of a token is the same to the bit in
// every tile. A lane has the rows 4 · (lane / 4) to + 3 of the block, and two tokens of every eight: the numbers of rows,
// columns and tokens within a fragment are free, so that 16 bytes of the layout are the rows of a lane.
//
// An input is the sum of two bf16, high and low, with 16 bits together. Inputs that are not finite would reach every row, as 0 ·
// NaN is NaN. They show in the sums, and their group is then computed again.
//
// Grid: (blocks, tiles); 256 threads.

struct Shape {
  u32 rows;
  u32 cols;
  u32 groups;
  // The row of y that the first row goes to, and the rows of y.
  u32 first;
  u32 stride;
  // 1 adds to y.
  u32 add;
};

// The largest bf16.
constexpr float BF16_MAX = 3.3895314e38f;
// Of the partial sums of eight tokens: [slice][row][token].
constexpr u32 PARTS = 8 * 32 * 8;

// The inputs of a lane in a group: of one token, in the columns that it multiplies. A form has `STEPS` times 16 columns in a
// group. `vector(v)` is the column of the first of a lane's v-th four inputs, `slot(i)` the input that goes to the place i of the
// fragments.
template <class Form>
struct Inputs {
  static constexpr u32 NUMBER = 4 * Form::STEPS;
  float x[NUMBER];
  // Fragments of the high and the low parts.
  u32 high[Form::STEPS][2], low[Form::STEPS][2];

  // `from` is the first input of a token, `start` the first column of the group.
  DEVICE void load(const float* from, u32 start, u32 cols) {
    // All columns exist, and are aligned to 16 bytes.
    if (start + Form::GROUP <= cols && cols % 4 == 0) {
#pragma unroll
      for (u32 v = 0; v < Form::STEPS; v++) {
        float4 four = __ldg((const float4*)(from + start + Form::vector(v)));
        x[4 * v] = four.x, x[4 * v + 1] = four.y, x[4 * v + 2] = four.z, x[4 * v + 3] = four.w;
      }
    } else {
      load_some(from, start, cols);
    }
  }

  DEVICE void load_some(const float* from, u32 start, u32 cols) {
#pragma unroll
    for (u32 i = 0; i < NUMBER; i++) {
      u32 col = start + Form::vector(i / 4) + i % 4;
      x[i] = col < cols ? __ldg(from + col) : 0;
    }
  }

  DEVICE void split() {
#pragma unroll
    for (u32 i = 0; i < NUMBER; i += 2) {
      float first = x[Form::slot(i)], second = x[Form::slot(i + 1)];
      u32 rounded = bf16_pair(first, second);
      high[i / 4][i / 2 % 2] = rounded;
      low[i / 4][i / 2 % 2] = bf16_pair(first - bf16_low(rounded), second - bf16_high(rounded));
    }
    arrange();
  }

  // As `split`, with 0 for what is not finite, and a high part that is.
  DEVICE void split_finite() {
#pragma unroll
    for (u32 i = 0; i < NUMBER; i += 2) {
      float first = x[Form::slot(i)], second = x[Form::slot(i + 1)];
      first = is_finite(first) ? first : 0, second = is_finite(second) ? second : 0;
      u32 rounded = bf16_pair(clamp(first), clamp(second));
      high[i / 4][i / 2 % 2] = rounded;
      low[i / 4][i / 2 % 2] = bf16_pair(first - bf16_low(rounded), second - bf16_high(rounded));
    }
    arrange();
  }

  DEVICE void arrange() {
#pragma unroll
    for (u32 step = 0; step < Form::STEPS; step++) Form::arrange(high[step]), Form::arrange(low[step]);
  }

  static DEVICE float clamp(float value) { return fminf(fmaxf(value, -BF16_MAX), BF16_MAX); }
};

// The sums of a group: of a lane's rows 0 and 1, then 2 and 3, each for its two tokens.
template <class Form>
struct GroupSums {
  float high[2][4], low[2][4];
  // Of the inputs, where the form wants them.
  float inputs[4];

  DEVICE void multiply(const u32 (&a)[Form::STEPS][2][4], const Inputs<Form>& b) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) high[0][i] = high[1][i] = low[0][i] = low[1][i] = inputs[i] = 0;
#pragma unroll
    for (u32 step = 0; step < Form::STEPS; step++) {
#pragma unroll
      for (u32 tile = 0; tile < 2; tile++) {
        mma_bf16(high[tile], a[step][tile], b.high[step]);
        mma_bf16(low[tile], a[step][tile], b.low[step]);
      }
      if (Form::SUMS_INPUTS) {
        const u32 ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
        mma_bf16(inputs, ones, b.high[step]);
        mma_bf16(inputs, ones, b.low[step]);
      }
    }
  }

  // Whether all lanes have finite inputs. An infinite high part has a low part that is not finite either.
  DEVICE bool are_finite() const {
    float zero = fmaf(low[0][0], 0.f, low[0][1] * 0.f);
    return __ballot_sync(0xffffffffu, !(zero == 0.f)) == 0;
  }
};

// Adds weight · input for the inputs that are not finite of a lane's two tokens to its sums. Rare, so that its code is small.
template <class Form>
DEVICE void add_infinite(
    const Form& form, u32 group, const float* const (&from)[2], u32 cols, float (&sums)[2][4]) {
  u32 start = group * Form::GROUP, end = min(start + Form::GROUP, cols);
#pragma unroll 1
  for (u32 col = start; col < end; col++) {
    float first = __ldg(from[0] + col), second = __ldg(from[1] + col);
    if (is_finite(first) && is_finite(second)) continue;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      float weight, *sum = &sums[i / 2][i % 2 * 2];
      if (!form.weight(group, col - start, 4 * (lane_id() / 4) + i, weight)) continue;
      if (!is_finite(first)) sum[0] = fmaf(weight, first, sum[0]);
      if (!is_finite(second)) sum[1] = fmaf(weight, second, sum[1]);
    }
  }
}

template <class Form, u32 TOKENS>
DEVICE void product(
    const u32* step, u32 at, const float* x, float* y, const Shape* shape, const typename Form::Arrays& arrays) {
  constexpr u32 TILES = TOKENS / 8;
  constexpr u32 OWN = sizeof(typename Form::Shared);
  constexpr u32 BYTES = 8 * OWN > 4 * PARTS ? 8 * OWN : 4 * PARTS;
  __shared__ uint4 memory[(BYTES + 15) / 16];
  const u32 cols = shape->cols, groups = shape->groups, tokens = Call(step, at).rows();
  const u32 lane = lane_id(), slice = warp_id(), token = blockIdx.y * TOKENS;
  const u32 first = slice * groups / 8, end = (slice + 1) * groups / 8;
  if (token >= tokens) return;
  // Tokens after the last one repeat it, and are not stored.
  auto input = [&](u32 index) { return x + (u64)min(token + index, tokens - 1) * cols; };

  float sums[TILES][2][4];
#pragma unroll
  for (u32 tile = 0; tile < TILES; tile++) {
#pragma unroll
    for (u32 i = 0; i < 8; i++) sums[tile][i / 4][i % 4] = 0;
  }
  Form form(arrays, shape, first, end, (typename Form::Shared*)((u8*)memory + slice * OWN));
  // A form keeps `AHEAD` groups in registers, so that the loop is unrolled as often.
#pragma unroll 1
  for (u32 turn = first; turn < end; turn += Form::AHEAD) {
#pragma unroll
    for (u32 ahead = 0; ahead < Form::AHEAD; ahead++) {
      u32 group = turn + ahead;
      if (group >= end) break;
      u32 a[Form::STEPS][2][4];
      Inputs<Form> inputs;
      // The inputs of the first tokens arrive while the weights are expanded.
      inputs.load(input(lane / 4), group * Form::GROUP, cols);
      form.expand(group, ahead, a);
#pragma unroll
      for (u32 tile = 0; tile < TILES; tile++) {
        GroupSums<Form> own;
        if (tile > 0) inputs.load(input(8 * tile + lane / 4), group * Form::GROUP, cols);
        inputs.split();
        own.multiply(a, inputs);
        if (own.are_finite()) {
          form.close(own, sums[tile]);
        } else {
          inputs.load_some(input(8 * tile + lane / 4), group * Form::GROUP, cols);
          inputs.split_finite();
          own.multiply(a, inputs);
          form.close(own, sums[tile]);
          const float* const from[2] = {input(8 * tile + 2 * (lane % 4)), input(8 * tile + 2 * (lane % 4) + 1)};
          add_infinite(form, group, from, cols, sums[tile]);
        }
      }
    }
  }

  float(*parts)[32][8] = (float(*)[32][8])memory;
  u32 row = threadIdx.x % 32, column = threadIdx.x / 32;
#pragma unroll
  for (u32 tile = 0; tile < TILES; tile++) {
    __syncthreads();
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
      float2 both = make_float2(sums[tile][i / 2][i % 2 * 2], sums[tile][i / 2][i % 2 * 2 + 1]);
      *(float2*)&parts[slice][4 * (lane / 4) + i][2 * (lane % 4)] = both;
    }
    __syncthreads();
    u32 own = blockIdx.x * 32 + row, to = token + 8 * tile + column;
    if (own < shape->rows && to < tokens) {
      float total = parts[0][row][column];
#pragma unroll
      for (u32 other = 1; other < 8; other++) total += parts[other][row][column];
      float* out = y + (u64)to * shape->stride + shape->first + own;
      *out = shape->add == 1 ? *out + total : total;
    }
  }
}
