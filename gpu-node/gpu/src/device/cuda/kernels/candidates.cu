// What sampling needs of a row of logits:
// - two sums over all tokens: of exp(logit − largest), and of the weights exp((logit − largest) / temperature);
// - the part of PART tokens in which a random number times the sum of the weights falls, and the weights before it;
// - the COUNT most probable tokens, most probable first, ties to the lower token, each followed by its logit;
// - the logits of the part;
// - the logits of the adjusted tokens.
// It takes six words of `step`: the row of logits, the place of the results, the temperature, the random number, and the place
// and number of adjusted tokens. The place counts from the first entry, and there are arrays of as many words each: the
// tokens, the lowest first; their biases; their factors; their deductions.
//
// Adjusted tokens have the logit WITHHELD while the kernel runs, so that they are no candidates and their terms are 0. Only
// the part is chosen with their adjusted weights.
// Grid: (lists).
//
// Each of the 256 threads finds the largest of its logits. The least of these, the bound, is no larger than the last candidate,
// and few logits are larger than it: about 1500 of any number, if they are in a random order. Those are sorted in shared memory.
// If they are fewer than the candidates, the lowest tokens that have the bound are candidates too. If they do not fit, the last
// candidate is found eight bits at a time, by counting (radix selection), and becomes the bound.
//
// Logits are compared as integers. NaN is the most probable, so that the caller sees it.

// A number with the order of the logits.
DEVICE u32 key_of(u32 bits) {
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0xffffffffu;
  // −0 is as large as 0.
  u32 value = bits == 0x80000000u ? 0 : bits;
  return value >> 31 ? ~value : value | 0x80000000u;
}

constexpr u32 SORTED = 4096;
// −10³⁰, whose term is 0 at any temperature.
constexpr u32 WITHHELD = 0xf149f2cau;
// The largest exponent of an adjusted weight: sums of many such weights are finite.
constexpr float MAX_EXPONENT = 80;

// The largest first; of equal ones that with the lower token.
DEVICE u64 entry_of(u32 key, u32 token) { return (u64)key << 32 | (0xffffffffu - token); }
DEVICE u32 token_of(u64 entry) { return 0xffffffffu - (u32)entry; }

// Sorts a power of two of numbers, the largest first (Batcher 1968).
DEVICE void sort_down(u64* numbers, u32 count) {
  for (u32 size = 2; size <= count; size *= 2) {
    for (u32 distance = size / 2; distance > 0; distance /= 2) {
      for (u32 index = threadIdx.x; index < count / 2; index += 256) {
        u32 low = index / distance * distance * 2 + index % distance, high = low + distance;
        u64 first = numbers[low], second = numbers[high];
        bool falls = (low & size) == 0;
        if (falls ? first < second : first > second) numbers[low] = second, numbers[high] = first;
      }
      __syncthreads();
    }
  }
}

// The adjusted tokens of a row: `words` are those of the step, `logits` the ones that were returned.
struct Adjusted {
  const u32 *words, *logits;
  u32 count;

  DEVICE u32 token(u32 index) const { return __ldg(words + index); }
  DEVICE float number(u32 kind, u32 index) const { return __uint_as_float(__ldg(words + kind * count + index)); }
  // The weights of the tokens from `first` to `end`.
  DEVICE float weights(u32 first, u32 end, float top, float inverse) const {
    u32 low = 0, high = count;
    while (low < high) {
      u32 middle = (low + high) / 2;
      if (token(middle) < first) low = middle + 1;
      else high = middle;
    }
    float sum = 0;
    for (u32 index = low; index < count && token(index) < end; index++) {
      float biased = __uint_as_float(logits[index]) + number(1, index), factor = number(2, index);
      float logit = (biased > 0 ? biased / factor : biased * factor) - number(3, index);
      sum += expf(fminf((logit - top) * inverse, MAX_EXPONENT));
    }
    return sum;
  }
};

KERNEL(256) candidates(const u32* step, u32 at, u32* logits, u32* results) {
  __shared__ u64 entries[SORTED];
  __shared__ u32 counts[256], words[8], found, digit, above;
  __shared__ float2 sums[256];
  __shared__ float adjusted[256];
  const u32 thread = threadIdx.x, lane = lane_id(), warp = warp_id(), all = 0xffffffffu;
  const u32 *entries_of_call = Call(step, at).picks(), *entry = entries_of_call + 6 * blockIdx.x;
  u32* row = logits + (u64)__ldg(entry) * VOCAB;
  u32* out = results + __ldg(entry + 1);
  const float inverse = 1.f / __uint_as_float(__ldg(entry + 2)), chance = __uint_as_float(__ldg(entry + 3));
  u32* withheld = out + 4 + 2 * COUNT + PART;
  const Adjusted list = {entries_of_call + __ldg(entry + 4), withheld, __ldg(entry + 5)};
  for (u32 index = thread; index < list.count; index += 256) {
    u32* logit = row + list.token(index);
    withheld[index] = *logit;
    *logit = WITHHELD;
  }
  __syncthreads();

  // The bound. Threads without tokens have 0, so that every logit is larger.
  u32 bound = 0;
#pragma unroll 8
  for (u32 token = thread; token < VOCAB; token += 256) bound = max(bound, key_of(row[token]));
#pragma unroll
  for (u32 mask = 16; mask > 0; mask /= 2) bound = min(bound, shuffle_xor(bound, mask));
  if (lane == 0) words[warp] = bound;
  if (thread == 0) found = 0;
  __syncthreads();
#pragma unroll
  for (u32 other = 0; other < 8; other++) bound = min(bound, words[other]);

  // Every logit above the bound, counted even where it does not fit.
  auto collect = [&]() {
#pragma unroll 4
    for (u32 token = thread; token < VOCAB; token += 256) {
      u32 key = key_of(row[token]);
      if (key > bound) {
        u32 place = atomicAdd(&found, 1u);
        if (place < SORTED) entries[place] = entry_of(key, token);
      }
    }
    __syncthreads();
  };
  collect();
  u32 larger = found;
  if (larger > SORTED) {
    // The key of the last candidate, and how many candidates have it.
    u32 least = 0, left = COUNT;
    for (u32 shift = 24;; shift -= 8) {
      counts[thread] = 0;
      __syncthreads();
      for (u32 token = thread; token < VOCAB; token += 256) {
        u32 key = key_of(row[token]);
        if ((key ^ least) >> shift >> 8 == 0) atomicAdd(&counts[key >> shift & 255], 1u);
      }
      __syncthreads();
      u32 own = counts[thread], higher = 0;
      for (u32 other = thread + 1; other < 256; other++) higher += counts[other];
      if (higher < left && left <= higher + own) digit = thread, above = higher;
      __syncthreads();
      least |= digit << shift;
      left -= above;
      if (shift == 0) break;
    }
    bound = least;
    if (thread == 0) found = 0;
    __syncthreads();
    collect();
    larger = found;
  }
  // The lowest tokens that have the bound.
  u32 taken = larger;
  for (u32 first = 0; first < VOCAB && taken < COUNT; first += 256) {
    u32 token = first + thread;
    bool ties = token < VOCAB && key_of(row[token]) == bound;
    u32 bits = __ballot_sync(all, ties);
    if (lane == 0) words[warp] = bits;
    __syncthreads();
    u32 place = taken + __popc(bits & ((1u << lane) - 1));
#pragma unroll
    for (u32 other = 0; other < 8; other++) {
      u32 count = __popc(words[other]);
      taken += count;
      if (other < warp) place += count;
    }
    if (ties && place < COUNT) entries[place] = entry_of(bound, token);
    __syncthreads();
  }
  // Fillers come last. There is no token 2³² − 1.
  u32 size = 256;
  while (size < larger) size *= 2;
  for (u32 index = max(larger, min(taken, COUNT)) + thread; index < size; index += 256) entries[index] = 0;
  __syncthreads();
  sort_down(entries, size);

  const float top = __uint_as_float(row[token_of(entries[0])]);
  if (thread < COUNT) {
    u32 token = token_of(entries[thread]);
    out[4 + 2 * thread] = __float_as_uint((float)token);
    out[5 + 2 * thread] = row[token];
  }

  // The sums of the parts: a warp adds a part at a time, so that the sums before a part are those of all lower tokens.
  for (u32 part = warp; part < 256; part += 8) {
    u32 end = min((part + 1) * PART, VOCAB);
    float2 sum = make_float2(0, 0);
    for (u32 token = part * PART + lane; token < end; token += 32) {
      float below = __uint_as_float(row[token]) - top;
      sum.x += expf(below);
      sum.y += expf(below * inverse);
    }
    sum = make_float2(warp_sum(sum.x), warp_sum(sum.y));
    if (lane == 0) sums[part] = sum;
  }
  adjusted[thread] = list.weights(thread * PART, min((thread + 1) * PART, VOCAB), top, inverse);
  if (thread == 0) found = 256;
  __syncthreads();
  // Sums up to each part (Hillis and Steele 1986).
  for (u32 distance = 1; distance < 256; distance *= 2) {
    float2 lower = thread >= distance ? sums[thread - distance] : make_float2(0, 0);
    float lower_adjusted = thread >= distance ? adjusted[thread - distance] : 0;
    __syncthreads();
    sums[thread].x += lower.x;
    sums[thread].y += lower.y;
    adjusted[thread] += lower_adjusted;
    __syncthreads();
  }
  const float2 total = sums[255];
  const float before = thread > 0 ? sums[thread - 1].y : 0, target = chance * (total.y + adjusted[255]);
  const float adjusted_before = thread > 0 ? adjusted[thread - 1] : 0;
  // Rounding may let two parts have it, or none.
  if (before + adjusted_before <= target && target < sums[thread].y + adjusted[thread]) atomicMin(&found, thread);
  __syncthreads();
  const u32 part = found;
  if (thread == 0) {
    out[0] = __float_as_uint(total.x);
    out[1] = __float_as_uint(total.y);
    out[2] = __float_as_uint(part < 256 ? (float)part : -1.f);
  }
  if (thread == min(part, 255u)) out[3] = __float_as_uint(before);
  for (u32 index = thread; index < PART; index += 256) {
    u32 token = min(part, 255u) * PART + index;
    // −∞
    out[4 + 2 * COUNT + index] = token < VOCAB ? row[token] : 0xff800000u;
  }
  __syncthreads();
  for (u32 index = thread; index < list.count; index += 256) row[list.token(index)] = withheld[index];
}
