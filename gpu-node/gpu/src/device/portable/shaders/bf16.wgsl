    // A word is two columns of a row.
//columns
      for (var col = from_col; col < to_col; col += 2u) {
        let word = words[(at * GROUP / 2u + (col - start) / 2u) * 32u + lane];
        let low = bitcast<f32>(word << 16u);
        @quad sum{q} = fma(Sums(low), {{x}}, sum{q});
        if (col + 1u < to_col) {
          let high = bitcast<f32>(word & 0xffff0000u);
          @quad sum{q} = fma(Sums(high), {{x+1}}, sum{q});
        }
      }
