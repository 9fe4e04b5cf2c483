// Attention of one query head of one token over the pages of its sequence. Grid: (heads, rows).
//
// The 8 warps take pages of 16 positions in turn, each with an online softmax of its own (Milakov and Gimelshein 2018), and
// their results are added in the order of the warps. So the result depends on the token alone.
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

RESIDENT_KERNEL(HEAD_DIM <= 128 ? 2 : 1) attention(
    const u32* step, u32 at, const float* queries, const u32* key_pages, const u32* value_pages, float* out) {
  // Words of the key for a lane.
  constexpr u32 KEY_WORDS = (HALF + 7) / 8;
  // Words of a value that a lane reads at a time, lanes of a position, positions at a time, and turns of the lanes in a position.
  constexpr u32 WIDTH = HALF % 4 == 0 ? 4 : HALF % 2 == 0 ? 2 : 1;
  constexpr u32 LANES = HALF / WIDTH, SLOTS = LANES < 32 ? 32 / LANES : 1, TURNS = (LANES + 31) / 32;
  // The lanes of a position, if it does not need all.
  constexpr u32 TAKEN = LANES < 32 ? LANES : 32;
  constexpr u32 STEPS = (16 + SLOTS - 1) / SLOTS;
  __shared__ float best_of[8], total_of[8];
  __shared__ float part[8][SLOTS][HEAD_DIM];

  Call call(step, at);
  const u32 head = blockIdx.x, row = call.first() + blockIdx.y, kv_head = head / (HEADS / KV_HEADS), lane = lane_id(), warp = warp_id();
  if (row >= call.rows()) return;
  const u32 position = call.position(row);
  const u32* table = call.table(row);
  const float* query = queries + ((u64)row * HEADS + head) * HEAD_DIM;

  float own_query[KEY_WORDS][2];
#pragma unroll
  for (u32 i = 0; i < KEY_WORDS; i++) {
    u32 word = 8 * i + lane / 4;
    bool exists = word < HALF;
    own_query[i][0] = exists ? query[2 * word] : 0;
    own_query[i][1] = exists ? query[2 * word + 1] : 0;
  }
  float best = LOWEST, total = 0;
  float sums[TURNS][WIDTH][2];
#pragma unroll
  for (u32 i = 0; i < TURNS * WIDTH * 2; i++) sums[i / 2 / WIDTH][i / 2 % WIDTH][i % 2] = 0;
  const u32 slot = lane / TAKEN, word = lane % TAKEN * WIDTH;
  // The position of the score that a lane exponentiates.
  const u32 own = lane % 4 * 4 + lane / 4 % 4;

  u32 next = 16 * warp <= position ? __ldg(table + warp) : 0;
  for (u32 index = warp; 16 * index <= position; index += 8) {
    u64 page = ((u64)next * KV_HEADS + kv_head) * HALF * 16;
    if (16 * (index + 8) <= position) next = __ldg(table + index + 8);
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
        scores[j] = fmaf(own_query[i][1], both.y, fmaf(own_query[i][0], both.x, scores[j]));
      }
    }
#pragma unroll
    for (u32 j = 0; j < 4; j++) scores[j] = warp_sum<32, 4>(scores[j]);
    float first = lane / 4 % 2 == 0 ? scores[0] : scores[1], second = lane / 4 % 2 == 0 ? scores[2] : scores[3];
    float score = lane / 8 % 2 == 0 ? first : second;
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
  if (threadIdx.x >= HEAD_DIM) return;
  float largest = best_of[0];
#pragma unroll
  for (u32 other = 1; other < 8; other++) largest = fmaxf(largest, best_of[other]);
  float sum = 0, all = 0;
#pragma unroll
  for (u32 other = 0; other < 8; other++) {
    float factor = expf(best_of[other] - largest), own_sum = 0;
#pragma unroll
    for (u32 i = 0; i < SLOTS; i++) own_sum += part[other][i][threadIdx.x];
    all = fmaf(total_of[other], factor, all);
    sum = fmaf(own_sum, factor, sum);
  }
  out[((u64)row * HEADS + head) * HEAD_DIM + threadIdx.x] = sum / all;
}
