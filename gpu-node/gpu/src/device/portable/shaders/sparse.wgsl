    // 32-bit masks, one for each column: bit r is 1 where the weight of row r is kept. The kept weights follow each other
    // in the order of columns and rows.
    var base = 0u;
    if (group < shape.groups) { base = starts[at]; }
    let below = (1u << lane) - 1u;
//columns
      for (var col = from_col; col < to_col; col++) {
        let mask = masks[at * GROUP + col - start];
        if (((mask >> lane) & 1u) == 1u) {
          let index = base + countOneBits(mask & below);
          let weight = bitcast<f32>((values[index >> 1u] >> ((index & 1u) * 16u)) << 16u);
          @quad sum{q} = fma(Sums(weight), {{x}}, sum{q});
        }
        base += countOneBits(mask);
      }
