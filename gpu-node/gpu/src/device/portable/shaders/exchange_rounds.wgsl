// Exchanges a kept weight p for a pruned weight q until no exchange lowers a row's error by more than its least gain,
// at most MAX_ROUNDS times. A workgroup takes a row; a thread always works on the same columns. Writes the mask back, and
// leaves the gradient of the new mask.
//
// With g = E H, pruning p costs W_p² H_pp + 2 W_p g_p, and restoring q after it changes the error by
// W_q² H_qq − 2 W_q (g_q + W_p H_pq). Ties go to the lower column.
//
// A gain of less than ROUNDING of the terms that it is the difference of could be an error of rounding, and is not made,
// so that no row's error rises.
const MAX_ROUNDS = 50u;
const MAX_WORDS = 1024u;
const ROUNDING = 3.8e-6;
const LARGEST = 3.4028234e38;
const NONE = 0xffffffffu;

var<workgroup> kept: array<u32, MAX_WORDS>;
var<workgroup> changes: array<f32, 256>;
var<workgroup> columns: array<u32, 256>;
var<workgroup> restored: u32;
var<workgroup> size_of_terms: f32;

// An exchange, with the change of the error, and the size of the terms that the change is the sum of.
struct Exchange {
  prune: u32,
  restore: u32,
  change: f32,
  size: f32,
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let cols = shape.cols;
  let words = (cols + 31u) / 32u;
  let base = id.x * cols;
  let least_gain = figures[id.x].x;
  for (var word = thread; word < words; word += 256u) { kept[word] = bits[id.x * words + word]; }
  workgroupBarrier();
  var last = Exchange(0u, 0u, 0.0, 0.0);
  for (var round = 0u; ; round++) {
    if (round > 0u) { update(base, last, thread); }
    if (round == MAX_ROUNDS) { break; }
    let found = best_exchange(base, thread);
    if (found.prune == NONE || !(found.change < -max(least_gain, ROUNDING * found.size))) { break; }
    if (thread == 0u) {
      kept[found.prune / 32u] &= ~(1u << (found.prune % 32u));
      kept[found.restore / 32u] |= 1u << (found.restore % 32u);
    }
    workgroupBarrier();
    last = found;
  }
  for (var word = thread; word < words; word += 256u) { bits[id.x * words + word] = kept[word]; }
}

// Adds an exchange to the gradient of a column.
fn update_column(base: u32, last: Exchange, col: u32) {
  let prune = first_of(last.prune);
  let restore = first_of(last.restore);
  gradient[base + col] += weights[base + last.prune] * moment_at(prune.x, prune.y + col)
    - weights[base + last.restore] * moment_at(restore.x, restore.y + col);
}

// The part of H that has a row, and the place of the row in it.
fn first_of(row: u32) -> vec2<u32> {
  let part = row / shape.part_rows;
  return vec2<u32>(part, (row - part * shape.part_rows) * shape.cols);
}

fn keeps(col: u32) -> bool { return ((kept[col / 32u] >> (col % 32u)) & 1u) == 1u; }

// The change of the error if a column is pruned or restored by itself.
fn own_change(base: u32, col: u32) -> vec2<f32> {
  let weight = weights[base + col];
  return vec2<f32>(weight * weight * diagonal[col], 2.0 * weight * gradient[base + col]);
}

// The column of the least change of all threads, the lowest among equal ones.
fn least_column(change: f32, column: u32, thread: u32) -> u32 {
  changes[thread] = change;
  columns[thread] = column;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half >>= 1u) {
    if (thread < half) {
      let other = changes[thread + half];
      let other_column = columns[thread + half];
      if (other < changes[thread] || (other == changes[thread] && other_column < columns[thread])) {
        changes[thread] = other;
        columns[thread] = other_column;
      }
    }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&columns[0]);
}
