/** A numeric vector in memory, f32 or f64. Computations on it are in f64. */
export type Values = Float32Array | Float64Array
