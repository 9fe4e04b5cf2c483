/**
 * The Rust addon's surface, by hand. Arguments of another type, length or range throw an `Error` whose
 * `code` is `InvalidArg`; a panic in the addon throws one whose `code` is `GenericFailure`, and the
 * process lives on.
 */
export interface Addon {
  /** The crate's version, that of this package. */
  version(): string
  /** Names of the kernels that this machine can run, best first. */
  kernels(): KernelName[]
  /**
   * Packs a weight on threads of its own.
   *
   * @param dense `[rows, cols]` f32 row-major; copied in the call
   * @param mask `[rows, ceil(cols / 8)]` bits as in a mask file, 1 where a weight is kept; copied in the
   *   call. `null` packs all weights.
   * @param group columns that share a scale: 64 or 32, bf16 only 64
   * @param threads how many threads share the blocks of rows
   * @throws (rejects) for a mask of another shape, a weight that is not finite (also where it is pruned)
   *   or does not fit the precision
   */
  pack(
    dense: Float32Array,
    rows: number,
    cols: number,
    mask: Uint8Array | null,
    precision: Precision,
    group: 64 | 32,
    threads: number,
  ): Promise<Matrix>
  /**
   * Refines the mask of some rows of a linear by swaps, blocking: what `swapRows` in `src/copal/swaps.ts` does,
   * to the bit. Arrays may lie in shared memory, where other threads refine other rows.
   *
   * @param kernel `null` takes the best one
   * @param group m of n:m, `null` for swaps anywhere in a row
   * @param weights `[rows, cols]`
   * @param moment `[cols, cols]`
   * @param bits `[rows, ceil(cols / 8)]`, refined in place
   * @param gradient `[rows, cols]`
   * @param errors `[rows]`, written; shares memory with no other, nor does `bits`
   * @param floor what a swap must gain
   */
  swapRows(
    kernel: string | null,
    cols: number,
    group: number | null,
    weights: Float32Array,
    moment: Float64Array,
    bits: Uint8Array,
    gradient: Float64Array,
    errors: Float64Array,
    floor: number,
  ): void
  /** Constructs a {@link Multiplier}. */
  Multiplier: new (kernel: string | null, threads: number, maxTokens: number, maxCols: number) => Multiplier
}

export type KernelName = 'avx512' | 'avx2' | 'neon' | 'scalar'
export type Precision = 'bf16' | 'int8' | 'int4'

/** A packed weight. Immutable; its memory goes when it is collected. */
export interface Matrix {
  readonly rows: number
  readonly cols: number
  /** Weights that survive; all of them in a dense matrix. */
  readonly kept: number
  /** Bytes that one multiplication reads. */
  readonly bytes: number
}

/**
 * A kernel on a fixed number of threads, the caller's among them. `null` for the kernel takes the best one;
 * an unknown name throws an error that lists the known ones.
 */
export interface Multiplier {
  readonly kernel: KernelName
  readonly threads: number
  /**
   * Multiplies, blocking: `outputs[token, row] = Σ matrix[row, col] · inputs[token, col]`, f32 row-major.
   * Results do not depend on the number of threads. `inputs` and `outputs` may not share memory.
   */
  multiply(matrix: Matrix, inputs: Float32Array, outputs: Float32Array): void
  /** For benchmarks: seconds of encoding made-up inputs and of multiplying every matrix once by `tokens` tokens. */
  timePass(matrices: Matrix[], tokens: number): [encodeS: number, multiplyS: number]
  /** For benchmarks: bytes a second that the threads read of 256 MiB together. */
  readBandwidth(): number
  /** For tests: panics on purpose on thread `thread`. */
  provokePanic(thread: number): void
}
