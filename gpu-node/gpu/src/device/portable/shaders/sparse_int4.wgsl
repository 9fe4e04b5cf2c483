    // A row has a mask of the columns that it keeps, and 16 bits of a scale and a zero point. The codes of the kept weights follow
    // each other in the order of rows and columns. `starts` has the places of the codes of rows 0, 8, 16 and 24: from there on a lane
    // counts the bits of the masks of the rows before its own.
    @quad var own{q} = Sums(0.0);
    var kept = 0u;
    var place = 0u;
    var word = 0u;
    var scale = 0.0;
    var zero = 0.0;
    if (group < shape.groups) {
      kept = masks[at * 32u + lane];
      // The number of codes before row 0 is that of the highest two bits, which are 0.
      let counts = starts[2u * at + 1u] >> (10u * ((lane / 8u + 3u) % 4u));
      place = 8u * starts[2u * at] + (counts & 1023u);
      for (var row = lane & 24u; row < lane; row++) { place += countOneBits(masks[at * 32u + row]); }
      if (kept != 0u) { word = values[place >> 3u] >> ((place & 7u) * 4u); }
      let both = scales[at * 16u + lane / 2u] >> ((lane & 1u) * 16u);
      // Of a quarter of a code.
      scale = 0.25 * unpack2x16float((both & 0xffc0u) >> 1u).x;
      zero = f32(both & 63u);
    }
//columns
      for (var col = from_col; col < to_col; col++) {
        if ((kept & 1u) == 1u) {
          if ((place & 7u) == 0u) { word = values[place >> 3u]; }
          let quarters = f32((word & 15u) << 2u) - zero;
          word >>= 4u;
          place++;
          @quad own{q} = fma(Sums(quarters), {{x}}, own{q});
        }
        kept >>= 1u;
      }
//close
    @quad sum{q} = fma(Sums(scale), own{q}, sum{q});
