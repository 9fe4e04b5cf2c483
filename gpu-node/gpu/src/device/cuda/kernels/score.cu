// The negative log-likelihood of a target in nats, followed by the most probable tokens and their negative log-likelihoods. A
// score takes four words of `step`: the row of logits, the target, the number of most probable tokens, and the place of the
// results. Grid: (scores).

// A token and its logit; the better one has the larger logit, or the lower token.
struct Ranked {
  float logit;
  u32 token;

  // NaN is never better.
  DEVICE void take_better(Ranked other) {
    if (other.logit > logit || (other.logit == logit && other.token < token)) *this = other;
  }
  DEVICE void take_best_of_warp() {
#pragma unroll
    for (u32 mask = 16; mask > 0; mask /= 2) take_better({shuffle_xor(logit, mask), shuffle_xor(token, mask)});
  }
};

KERNEL(256) score(const u32* step, u32 at, const float* logits, float* results) {
  // The vocabulary in at most 1024 chunks, each the tokens of a few turns of a warp.
  constexpr u32 CHUNK = (VOCAB + 32 * 1024 - 1) / (32 * 1024) * 32, CHUNKS = (VOCAB + CHUNK - 1) / CHUNK;
  __shared__ float parts[2][8];
  __shared__ Ranked best[CHUNKS], best_of[8];
  const u32* entry = Call(step, at).picks() + 4 * blockIdx.x;
  const float* row = logits + (u64)__ldg(entry) * VOCAB;
  const u32 alternatives = __ldg(entry + 2), lane = lane_id(), warp = warp_id();
  float* out = results + __ldg(entry + 3);

  float largest = LOWEST;
#pragma unroll 8
  for (u32 token = threadIdx.x; token < VOCAB; token += 256) largest = fmaxf(largest, row[token]);
  largest = block_max(largest, parts[0]);
  float sum = 0;
#pragma unroll 8
  for (u32 token = threadIdx.x; token < VOCAB; token += 256) sum += expf(row[token] - largest);
  float log_sum = logf(block_sum(sum, parts[1]));
  if (threadIdx.x == 0) out[0] = (largest - row[__ldg(entry + 1)]) + log_sum;
  if (alternatives == 0) return;

  // The best token of each chunk after the last one. Most probable first, ties to the lower token.
  Ranked last = {0, 0};
  auto find_best = [&](u32 chunk, bool all) {
    Ranked found = {LOWEST, VOCAB};
    for (u32 token = chunk * CHUNK + lane; token < min((chunk + 1) * CHUNK, VOCAB); token += 32) {
      float logit = row[token];
      if (all || logit < last.logit || (logit == last.logit && token > last.token)) found.take_better({logit, token});
    }
    found.take_best_of_warp();
    if (lane == 0) best[chunk] = found;
  };
  for (u32 chunk = warp; chunk < CHUNKS; chunk += 8) find_best(chunk, true);
  __syncthreads();
  for (u32 rank = 0; rank < alternatives; rank++) {
    Ranked found = {LOWEST, VOCAB};
    for (u32 chunk = threadIdx.x; chunk < CHUNKS; chunk += 256) found.take_better(best[chunk]);
    found.take_best_of_warp();
    if (lane == 0) best_of[warp] = found;
    __syncthreads();
    last = best_of[0];
#pragma unroll
    for (u32 other = 1; other < 8; other++) last.take_better(best_of[other]);
    if (threadIdx.x == 0) {
      out[1 + 2 * rank] = (float)last.token;
      out[2 + 2 * rank] = (largest - last.logit) + log_sum;
    }
    // Only its chunk has another best token now. None is left if no logit is above −∞.
    if (warp == 0 && last.token < VOCAB) find_best(last.token / CHUNK, false);
    __syncthreads();
  }
}
