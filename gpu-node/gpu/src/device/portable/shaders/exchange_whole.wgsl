// Exchanges anywhere in a row: the kept weight that costs least, and the pruned weight that then saves most.
fn update(base: u32, last: Exchange, thread: u32) {
  for (var col = thread; col < shape.cols; col += 256u) { update_column(base, last, col); }
}

fn best_exchange(base: u32, thread: u32) -> Exchange {
  let cols = shape.cols;
  var cost = LARGEST;
  var column = NONE;
  for (var col = thread; col < cols; col += 256u) {
    if (!keeps(col)) { continue; }
    let terms = own_change(base, col);
    if (terms.x + terms.y < cost) {
      cost = terms.x + terms.y;
      column = col;
    }
  }
  let prune = least_column(cost, column, thread);
  cost = workgroupUniformLoad(&changes[0]);
  if (prune == NONE) { return Exchange(NONE, NONE, 0.0, 0.0); }
  let weight = weights[base + prune];
  let moments = first_of(prune);
  var gain = LARGEST;
  column = NONE;
  for (var col = thread; col < cols; col += 256u) {
    if (keeps(col)) { continue; }
    let own = weights[base + col];
    let after = gradient[base + col] + weight * moment_at(moments.x, moments.y + col);
    let change = own * own * diagonal[col] - 2.0 * own * after;
    if (change < gain) {
      gain = change;
      column = col;
    }
  }
  let restore = least_column(gain, column, thread);
  gain = workgroupUniformLoad(&changes[0]);
  if (restore == NONE) { return Exchange(NONE, NONE, 0.0, 0.0); }
  let own = weights[base + restore];
  let pruned_square = weight * weight * diagonal[prune];
  let restored_square = own * own * diagonal[restore];
  let size = pruned_square + abs(cost - pruned_square) + restored_square + abs(gain - restored_square);
  return Exchange(prune, restore, cost + gain, size);
}
