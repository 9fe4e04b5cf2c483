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
//
// The logit of the last candidate is found eight bits at a time, by counting (radix selection). Logits are compared as
// integers, because drivers may assume that there is no NaN. Here NaN is the most probable, so that the caller sees it.
@group(1) @binding(0) var<storage, read_write> logits: array<u32>;
@group(1) @binding(1) var<storage, read_write> results: array<u32>;

// Terms that are added before their sum is added to the others: fewer roundings than one after another.
const RUN = 16u;
// −10³⁰, whose term is 0 at any temperature: infinities may be assumed not to be there.
const WITHHELD = 0xf149f2cau;
// The largest exponent of an adjusted weight: sums of many such weights are finite.
const MAX_EXPONENT = 80.0;

var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> digit: u32;
// Logits above the digit, and at it, in a round.
var<workgroup> above: u32;
var<workgroup> equal: u32;
var<workgroup> found: atomic<u32>;
var<workgroup> keys: array<u32, 256>;
var<workgroup> tokens: array<u32, 256>;
var<workgroup> largest: u32;
var<workgroup> ties: array<atomic<u32>, 8>;
// The third one is that of the adjusted weights.
var<workgroup> sums: array<vec3<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let entry = call.picks + 6u * id.x;
  let row = step[entry] * VOCAB;
  let place = step[entry + 1u];
  let inverse = 1.0 / bitcast<f32>(step[entry + 2u]);
  let chance = bitcast<f32>(step[entry + 3u]);
  let list = call.picks + step[entry + 4u];
  let listed = step[entry + 5u];

  let withheld = place + 4u + 2u * COUNT + PART;
  for (var index = thread; index < listed; index += 256u) {
    let at = row + step[list + index];
    results[withheld + index] = logits[at];
    logits[at] = WITHHELD;
  }
  storageBarrier();

  // The key of the last candidate, and how many candidates have it.
  var least = 0u;
  var left = COUNT;
  if (thread == 0u) { atomicStore(&found, 0u); }
  for (var round = 0u; round < 4u; round++) {
    let shift = 24u - 8u * round;
    atomicStore(&counts[thread], 0u);
    workgroupBarrier();
    for (var token = thread; token < VOCAB; token += 256u) {
      let key = key_of(logits[row + token]);
      if ((((key ^ least) >> shift) >> 8u) == 0u) { atomicAdd(&counts[(key >> shift) & 255u], 1u); }
    }
    workgroupBarrier();
    let own = atomicLoad(&counts[thread]);
    var higher = 0u;
    for (var other = thread + 1u; other < 256u; other++) { higher += atomicLoad(&counts[other]); }
    if (higher < left && left <= higher + own) {
      digit = thread;
      above = higher;
      equal = own;
    }
    workgroupBarrier();
    least |= digit << shift;
    left -= above;
  }

  let takes_ties = equal == left;
  for (var token = thread; token < VOCAB; token += 256u) {
    let key = key_of(logits[row + token]);
    if (key > least || (takes_ties && key == least)) { take(atomicAdd(&found, 1u), key, token); }
  }
  if (!takes_ties) {
    // Only the lowest tokens that have the key.
    var taken = COUNT - left;
    for (var first = 0u; first < VOCAB && taken < COUNT; first += 256u) {
      if (thread < 8u) { atomicStore(&ties[thread], 0u); }
      workgroupBarrier();
      let token = first + thread;
      var is_tie = false;
      if (token < VOCAB) { is_tie = key_of(logits[row + token]) == least; }
      if (is_tie) { atomicOr(&ties[thread >> 5u], 1u << (thread & 31u)); }
      workgroupBarrier();
      var slot = taken;
      for (var word = 0u; word < 8u; word++) {
        let bits = atomicLoad(&ties[word]);
        taken += countOneBits(bits);
        if (word < (thread >> 5u)) { slot += countOneBits(bits); }
        if (word == (thread >> 5u)) { slot += countOneBits(bits & ((1u << (thread & 31u)) - 1u)); }
      }
      if (is_tie && slot < COUNT) { take(slot, least, token); }
      workgroupBarrier();
    }
  }
  workgroupBarrier();

  if (thread < COUNT) {
    let key = keys[thread];
    let token = tokens[thread];
    var rank = 0u;
    for (var other = 0u; other < COUNT; other++) {
      if (keys[other] > key || (keys[other] == key && tokens[other] < token)) { rank++; }
    }
    let logit = logits[row + token];
    results[place + 4u + 2u * rank] = bitcast<u32>(f32(token));
    results[place + 5u + 2u * rank] = logit;
    if (rank == 0u) { largest = logit; }
  }
  workgroupBarrier();

  // A thread adds a part of neighbours, so that the sums before a thread are those of all lower tokens.
  let top = bitcast<f32>(largest);
  let end = min((thread + 1u) * PART, VOCAB);
  var sum = vec2<f32>(0.0);
  for (var first = thread * PART; first < end; first += RUN) {
    var run = vec2<f32>(0.0);
    for (var token = first; token < min(first + RUN, end); token++) {
      let below = bitcast<f32>(logits[row + token]) - top;
      run += exp(vec2<f32>(below, below * inverse));
    }
    sum += run;
  }
  sums[thread] = vec3<f32>(sum, adjusted_weights(thread * PART, end, list, listed, row, withheld, top, inverse));
  if (thread == 0u) { atomicStore(&found, 256u); }
  workgroupBarrier();
  // Sums up to each thread (Hillis and Steele 1986).
  for (var distance = 1u; distance < 256u; distance <<= 1u) {
    var lower = vec3<f32>(0.0);
    if (thread >= distance) { lower = sums[thread - distance]; }
    workgroupBarrier();
    sums[thread] += lower;
    workgroupBarrier();
  }
  let total = sums[255];
  var before = vec2<f32>(0.0);
  if (thread > 0u) { before = sums[thread - 1u].yz; }
  // Rounding may let two parts have it, or none.
  let target_sum = chance * (total.y + total.z);
  if (before.x + before.y <= target_sum && target_sum < sums[thread].y + sums[thread].z) { atomicMin(&found, thread); }
  workgroupBarrier();
  let part = atomicLoad(&found);
  if (thread == 0u) {
    results[place] = bitcast<u32>(total.x);
    results[place + 1u] = bitcast<u32>(total.y);
    results[place + 2u] = bitcast<u32>(select(-1.0, f32(part), part < 256u));
  }
  if (thread == min(part, 255u)) { results[place + 3u] = bitcast<u32>(before.x); }
  for (var at = thread; at < PART; at += 256u) {
    let token = min(part, 255u) * PART + at;
    // −∞
    var logit = 0xff800000u;
    if (token < VOCAB) { logit = logits[row + token]; }
    results[place + 4u + 2u * COUNT + at] = logit;
  }

  storageBarrier();
  for (var index = thread; index < listed; index += 256u) {
    logits[row + step[list + index]] = results[withheld + index];
  }
}

// The weights of the adjusted tokens from `first` to `end`.
fn adjusted_weights(
  first: u32, end: u32, list: u32, listed: u32, row: u32, withheld: u32, top: f32, inverse: f32,
) -> f32 {
  var low = 0u;
  var high = listed;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (step[list + middle] < first) { low = middle + 1u; } else { high = middle; }
  }
  var sum = 0.0;
  for (var index = low; index < listed; index++) {
    if (step[list + index] >= end) { break; }
    let number = list + index;
    let factor = bitcast<f32>(step[number + 2u * listed]);
    let biased = bitcast<f32>(results[withheld + index]) + bitcast<f32>(step[number + listed]);
    let logit = select(biased * factor, biased / factor, biased > 0.0) - bitcast<f32>(step[number + 3u * listed]);
    sum += exp(min((logit - top) * inverse, MAX_EXPONENT));
  }
  return sum;
}

fn take(slot: u32, key: u32, token: u32) {
  keys[slot] = key;
  tokens[slot] = token;
}

// A number with the order of the logits.
fn key_of(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  // −0 is as large as 0.
  let value = select(bits, 0u, bits == 0x80000000u);
  return select(value | 0x80000000u, ~value, (value >> 31u) == 1u);
}
