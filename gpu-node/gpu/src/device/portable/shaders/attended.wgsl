// The largest score of some positions; the sum of the weights exp(score − largest); and the sums of the values with these
// weights, of the elements thread, thread + 64, … of the head.
struct Attended {
  best: f32,
  total: f32,
  @dims sum{i}: f32,
}

// Adds later positions.
fn joined(earlier: Attended, later: Attended) -> Attended {
  var all: Attended;
  all.best = earlier.best;
  // A NaN is never the largest score.
  if (later.best > all.best) { all.best = later.best; }
  let decay = exp(earlier.best - all.best);
  let factor = exp(later.best - all.best);
  all.total = fma(later.total, factor, earlier.total * decay);
  @dims all.sum{i} = fma(later.sum{i}, factor, earlier.sum{i} * decay);
  return all;
}
