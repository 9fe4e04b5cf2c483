/** A numeric vector in memory; what is computed from it is f64, whatever it is kept in. */
export type Values = Float32Array | Float64Array
