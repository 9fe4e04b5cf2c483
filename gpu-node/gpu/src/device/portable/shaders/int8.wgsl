    // A word is four columns of a row; a scale, f16, belongs to a row and a group.
    @quad var own{q} = Sums(0.0);
//columns
      for (var col = from_col; col < to_col; col++) {
        let word = words[(at * GROUP / 4u + (col - start) / 4u) * 32u + lane];
        let code = f32(extractBits(bitcast<i32>(word), ((col - start) & 3u) * 8u, 8u));
        @quad own{q} = fma(Sums(code), {{x}}, own{q});
      }
//close
    if (group < shape.groups) {
      let scale = half_at(at * 32u + lane);
      @quad sum{q} = fma(Sums(scale), own{q}, sum{q});
    }
