// Exchanges within groups of n:m. In each group the weight that costs least and the weight that saves most are chosen,
// each by itself; the group in which they gain most is used, the first among equal ones. A thread takes whole groups.
fn update(base: u32, last: Exchange, thread: u32) {
  for (var begin = thread * shape.group; begin < shape.cols; begin += 256u * shape.group) {
    for (var col = begin; col < begin + shape.group; col++) { update_column(base, last, col); }
  }
}

fn best_exchange(base: u32, thread: u32) -> Exchange {
  let cols = shape.cols;
  var best = Exchange(NONE, NONE, LARGEST, 0.0);
  for (var begin = thread * shape.group; begin < cols; begin += 256u * shape.group) {
    var cost = LARGEST;
    var gain = LARGEST;
    var prune = NONE;
    var restore = NONE;
    for (var col = begin; col < begin + shape.group; col++) {
      let terms = own_change(base, col);
      if (keeps(col)) {
        if (terms.x + terms.y < cost) {
          cost = terms.x + terms.y;
          prune = col;
        }
      } else if (terms.x - terms.y < gain) {
        gain = terms.x - terms.y;
        restore = col;
      }
    }
    if (prune == NONE || restore == NONE) { continue; }
    let change = cost + gain - 2.0 * weights[base + restore] * (weights[base + prune] * moment(prune, restore));
    if (change < best.change) { best = Exchange(prune, restore, change, 0.0); }
  }
  let prune = least_column(best.change, best.prune, thread);
  let change = workgroupUniformLoad(&changes[0]);
  if (prune == NONE) { return Exchange(NONE, NONE, 0.0, 0.0); }
  if (prune == best.prune) {
    let cost = own_change(base, prune);
    let gain = own_change(base, best.restore);
    restored = best.restore;
    size_of_terms = cost.x + abs(cost.y) + gain.x + abs(gain.y);
  }
  let restore = workgroupUniformLoad(&restored);
  return Exchange(prune, restore, change, workgroupUniformLoad(&size_of_terms));
}
