// The negative log-likelihood of a target in nats, followed by the most probable tokens and their negative
// log-likelihoods. A score takes four words of `step`: the row of logits, the target, the number of most probable
// tokens, and the place of the results.
@group(1) @binding(0) var<storage, read> logits: array<f32>;
@group(1) @binding(1) var<storage, read_write> results: array<f32>;

const LOWEST = -3.4028234e38;

var<workgroup> values: array<f32, 256>;
var<workgroup> tokens: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let entry = call.picks + 4u * id.x;
  let row = step[entry] * VOCAB;
  let alternatives = step[entry + 2u];
  let place = step[entry + 3u];

  var largest = LOWEST;
  for (var token = thread; token < VOCAB; token += 256u) {
    let logit = logits[row + token];
    if (logit > largest) { largest = logit; }
  }
  values[thread] = largest;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half >>= 1u) {
    if (thread < half) { values[thread] = max(values[thread], values[thread + half]); }
    workgroupBarrier();
  }
  largest = values[0];
  workgroupBarrier();

  var sum = 0.0;
  for (var token = thread; token < VOCAB; token += 256u) { sum += exp(logits[row + token] - largest); }
  values[thread] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half >>= 1u) {
    if (thread < half) { values[thread] += values[thread + half]; }
    workgroupBarrier();
  }
  let log_sum = log(values[0]);
  if (thread == 0u) { results[place] = (largest - logits[row + step[entry + 1u]]) + log_sum; }
  workgroupBarrier();

  // Most probable first, ties to the lower token: each round finds the best token that comes after the last one.
  var last = 0.0;
  var last_token = 0u;
  for (var rank = 0u; rank < alternatives; rank++) {
    var best = LOWEST;
    var best_token = VOCAB;
    for (var token = thread; token < VOCAB; token += 256u) {
      let logit = logits[row + token];
      let follows = rank == 0u || logit < last || (logit == last && token > last_token);
      if (follows && (logit > best || (logit == best && token < best_token))) {
        best = logit;
        best_token = token;
      }
    }
    values[thread] = best;
    tokens[thread] = best_token;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half >>= 1u) {
      if (thread < half) {
        let other = values[thread + half];
        let other_token = tokens[thread + half];
        if (other > values[thread] || (other == values[thread] && other_token < tokens[thread])) {
          values[thread] = other;
          tokens[thread] = other_token;
        }
      }
      workgroupBarrier();
    }
    last = values[0];
    last_token = tokens[0];
    if (thread == 0u) {
      results[place + 1u + 2u * rank] = f32(last_token);
      results[place + 2u + 2u * rank] = (largest - last) + log_sum;
    }
    workgroupBarrier();
  }
}
