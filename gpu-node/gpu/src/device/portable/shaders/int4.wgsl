    // A word is eight columns of a row; a scale and a minimum, f16, belong to a row and a group.
    var scale = vec2<f32>(0.0);
    if (group < shape.groups) { scale = unpack2x16float(scales[at * 32u + lane]); }
//columns
      for (var col = from_col; col < to_col; col++) {
        let word = words[(at * GROUP / 8u + (col - start) / 8u) * 32u + lane];
        let weight = fma(f32(extractBits(word, ((col - start) & 7u) * 4u, 4u)), scale.x, scale.y);
        @quad sum{q} = fma(Sums(weight), {{x}}, sum{q});
      }
