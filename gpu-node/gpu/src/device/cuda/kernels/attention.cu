// Attention of one query head of one token over the pages of its sequence, span by span. A span is SPAN positions, so that what
// is added to what depends on the position of the token alone, and not on which blocks do it:
// - `attention` runs all spans of a token in a block, in order. Grid: (heads, rows).
// - `attention_spans` runs spans of all rows in the blocks of a head, in turn, and stores each; `attention_join` adds those of a
//   token, in order. For a few tokens with long contexts, which would leave most of a device idle otherwise.
//   Grids: (heads, any number), (heads, rows).
//
// In a span the 8 warps take pages of 16 positions in turn, each with an online softmax of its own (Milakov and Gimelshein 2018),
// and their results are added in the order of the warps.
//
// Scores: 4 lanes read a word of a key for all positions of a page, 16 bytes each, and the 8 groups of lanes take the words in
// turn. Values: lanes read the words of a position, as many bytes at a time as fit, and take several positions at a time if
// lanes are left.

template <u32 WIDTH>
struct Words {
  u32 word[WIDTH];
};

DEVICE void load_words(const u32* from, Words<4>& words) {
  uint4 four = __ldg((const uint4*)from);
  words.word[0] = four.x, words.word[1] = four.y, words.word[2] = four.z, words.word[3] = four.w;
}
DEVICE void load_words(const u32* from, Words<2>& words) {
  uint2 two = __ldg((const uint2*)from);
  words.word[0] = two.x, words.word[1] = two.y;
}
DEVICE void load_words(const u32* from, Words<1>& words) { words.word[0] = __ldg(from); }

// The largest score of some positions; the sum of the weights exp(score − largest); and the sum of the values with these weights, of
// the element of the head that is the thread's.
struct Attended {
  float best, total, sum;

  // Adds later positions. The operations leave the compiler no choice, so that every kernel has the same bits.
  DEVICE void add(Attended later) {
    float largest = fmaxf(best, later.best), decay = expf(best - largest), factor = expf(later.best - largest);
    best = largest;
    total = fmaf(later.total, factor, __fmul_rn(total, decay));
    sum = fmaf(later.sum, factor, __fmul_rn(sum, decay));
  }
};

// The words of a query that a lane multiplies.
struct Query {
  static constexpr u32 KEY_WORDS = (HALF + 7) / 8;
  float word[KEY_WORDS][2];

  DEVICE explicit Query(const float* query) {
#pragma unroll
    for (u32 i = 0; i < KEY_WORDS; i++) {
      u32 pair = 8 * i + lane_id() / 4;
      bool exists = pair < HALF;
      word[i][0] = exists ? query[2 * pair] : 0;
      word[i][1] = exists ? query[2 * pair + 1] : 0;
    }
  }
};

// Attention of a query to a span, by all threads of the block. Threads after the last element of the head get no sums.
DEVICE Attended attend(const Query& query, u32 head, const u32* table, u32 position, u32 span, const u32* key_pages,
                       const u32* value_pages) {
  constexpr u32 KEY_WORDS = Query::KEY_WORDS;
  // Words of a value that a lane reads at a time, lanes of a position, positions at a time, and turns of the lanes in a position.
  constexpr u32 WIDTH = HALF % 4 == 0 ? 4 : HALF % 2 == 0 ? 2 : 1;
  constexpr u32 LANES = HALF / WIDTH, SLOTS = LANES < 32 ? 32 / LANES : 1, TURNS = (LANES + 31) / 32;
  // The lanes of a position, if it does not need all.
  constexpr u32 TAKEN = LANES < 32 ? LANES : 32;
  constexpr u32 STEPS = (16 + SLOTS - 1) / SLOTS;
  __shared__ float best_of[8], total_of[8];
  __shared__ float part[8][SLOTS][HEAD_DIM];
  const u32 kv_head = head / (HEADS / KV_HEADS), lane = lane_id(), warp = warp_id();
  float best = LOWEST, total = 0;
  float sums[TURNS][WIDTH][2];
#pragma unroll
  for (u32 i = 0; i < TURNS * WIDTH * 2; i++) sums[i / 2 / WIDTH][i / 2 % WIDTH][i % 2] = 0;
  const u32 slot = lane / TAKEN, word = lane % TAKEN * WIDTH;
  // The position of the score that a lane exponentiates.
  const u32 own = lane % 4 * 4 + lane / 4 % 4;

  const u32 first = span * (SPAN / 16) + warp, end = min((span + 1) * (SPAN / 16), position / 16 + 1);
  u32 next = first < end ? __ldg(table + first) : 0;
  for (u32 index = first; index < end; index += 8) {
    u64 page = ((u64)next * KV_HEADS + kv_head) * HALF * 16;
    if (index + 8 < end) next = __ldg(table + index + 8);
    // Later slots may hold NaN.
    u32 count = min(16u, position - 16 * index + 1);
    // Everything is loaded before anything is used.
    Words<4> keys[KEY_WORDS];
#pragma unroll
    for (u32 i = 0; i < KEY_WORDS; i++) {
      u32 key = 8 * i + lane / 4;
      if (HALF % 8 == 0 || key < HALF) load_words(key_pages + page + key * 16 + lane % 4 * 4, keys[i]);
      else keys[i] = {};
    }
    Words<WIDTH> values[STEPS][TURNS];
#pragma unroll
    for (u32 i = 0; i < STEPS; i++) {
      u32 of = i * SLOTS + slot;
#pragma unroll
      for (u32 turn = 0; turn < TURNS; turn++) {
        u32 from = word + turn * 32 * WIDTH;
        if (of < count && slot < SLOTS && from < HALF) load_words(value_pages + page + of * HALF + from, values[i][turn]);
        else values[i][turn] = {};
      }
    }
    float scores[4] = {0, 0, 0, 0};
#pragma unroll
    for (u32 i = 0; i < KEY_WORDS; i++) {
#pragma unroll
      for (u32 j = 0; j < 4; j++) {
        float2 both = halves_to_floats(keys[i].word[j]);
        scores[j] = fmaf(query.word[i][1], both.y, fmaf(query.word[i][0], both.x, scores[j]));
      }
    }
#pragma unroll
    for (u32 j = 0; j < 4; j++) scores[j] = warp_sum<32, 4>(scores[j]);
    float low = lane / 4 % 2 == 0 ? scores[0] : scores[1], high = lane / 4 % 2 == 0 ? scores[2] : scores[3];
    float score = lane / 8 % 2 == 0 ? low : high;
    // A NaN is never the largest score. Its weight is NaN, and so are the sums.
    float largest = fmaxf(best, warp_max(own < count ? score : LOWEST));
    float weight = own < count ? expf(score - largest) : 0;
    float decay = expf(best - largest);
    best = largest;
    total = fmaf(total, decay, weight);
#pragma unroll
    for (u32 i = 0; i < TURNS * WIDTH * 2; i++) sums[i / 2 / WIDTH][i / 2 % WIDTH][i % 2] *= decay;
#pragma unroll
    for (u32 i = 0; i < STEPS; i++) {
      u32 of = i * SLOTS + slot;
      float factor = __shfl_sync(0xffffffffu, weight, of % 4 * 4 + of / 4 % 4);
#pragma unroll
      for (u32 turn = 0; turn < TURNS; turn++) {
#pragma unroll
        for (u32 j = 0; j < WIDTH; j++) {
          float2 both = halves_to_floats(values[i][turn].word[j]);
          sums[turn][j][0] = fmaf(factor, both.x, sums[turn][j][0]);
          sums[turn][j][1] = fmaf(factor, both.y, sums[turn][j][1]);
        }
      }
    }
  }

  // Lanes l and l + 16 exponentiate the same score.
  total = warp_sum<16>(total);
  // The span before was read.
  __syncthreads();
  if (lane == 0) best_of[warp] = best, total_of[warp] = total;
#pragma unroll
  for (u32 turn = 0; turn < TURNS; turn++) {
#pragma unroll
    for (u32 j = 0; j < WIDTH; j++) {
      u32 dim = 2 * (word + turn * 32 * WIDTH + j);
      if (slot < SLOTS && dim < HEAD_DIM) part[warp][slot][dim] = sums[turn][j][0], part[warp][slot][dim + 1] = sums[turn][j][1];
    }
  }
  __syncthreads();
  Attended all = {best_of[0], 0, 0};
  if (threadIdx.x >= HEAD_DIM) return all;
#pragma unroll
  for (u32 other = 1; other < 8; other++) all.best = fmaxf(all.best, best_of[other]);
#pragma unroll
  for (u32 other = 0; other < 8; other++) {
    float factor = expf(best_of[other] - all.best), own_sum = 0;
#pragma unroll
    for (u32 i = 0; i < SLOTS; i++) own_sum += part[other][i][threadIdx.x];
    all.total = fmaf(total_of[other], factor, all.total);
    all.sum = fmaf(own_sum, factor, all.sum);
  }
  return all;
}

RESIDENT_KERNEL(HEAD_DIM <= 128 ? 2 : 1) attention(
    const u32* step, u32 at, const float* queries, const u32* key_pages, const u32* value_pages, float* out) {
  Call call(step, at);
  const u32 head = blockIdx.x, row = call.first() + blockIdx.y;
  if (row >= call.rows()) return;
  const u32 position = call.position(row);
  const u64 place = ((u64)row * HEADS + head) * HEAD_DIM;
  const Query query(queries + place);
  Attended all = {};
  for (u32 span = 0; span <= position / SPAN; span++) {
    Attended later = attend(query, head, call.table(row), position, span, key_pages, value_pages);
    if (span == 0) all = later;
    else all.add(later);
  }
  if (threadIdx.x < HEAD_DIM) out[place + threadIdx.x] = all.sum / all.total;
}

// The picks of its call are the number of spans before each row and of all rows, and then the row of each span. A span is stored
// as its sums, its largest score and its total.
RESIDENT_KERNEL(HEAD_DIM <= 128 ? 2 : 1) attention_spans(
    const u32* step, u32 at, const float* queries, const u32* key_pages, const u32* value_pages, float* spans) {
  Call call(step, at);
  const u32* before = call.picks();
  const u32 head = blockIdx.x, rows = call.rows(), count = __ldg(before + rows);
  for (u32 index = blockIdx.y; index < count; index += gridDim.y) {
    const u32 row = __ldg(before + rows + 1 + index), span = index - __ldg(before + row);
    const Query query(queries + ((u64)row * HEADS + head) * HEAD_DIM);
    Attended all = attend(query, head, call.table(row), call.position(row), span, key_pages, value_pages);
    float* place = spans + ((u64)index * HEADS + head) * (HEAD_DIM + 2);
    if (threadIdx.x < HEAD_DIM) place[threadIdx.x] = all.sum;
    if (threadIdx.x == 0) place[HEAD_DIM] = all.best, place[HEAD_DIM + 1] = all.total;
  }
}

KERNEL(256) attention_join(const u32* step, u32 at, const float* spans, float* out) {
  Call call(step, at);
  const u32 head = blockIdx.x, row = blockIdx.y;
  if (row >= call.rows() || threadIdx.x >= HEAD_DIM) return;
  const u32 first = __ldg(call.picks() + row), end = __ldg(call.picks() + row + 1);
  auto stored = [&](u32 index) {
    const float* place = spans + ((u64)index * HEADS + head) * (HEAD_DIM + 2);
    return Attended{place[HEAD_DIM], place[HEAD_DIM + 1], place[threadIdx.x]};
  };
  Attended all = stored(first);
#pragma unroll 4
  for (u32 index = first + 1; index < end; index++) all.add(stored(index));
  out[((u64)row * HEADS + head) * HEAD_DIM + threadIdx.x] = all.sum / all.total;
}
