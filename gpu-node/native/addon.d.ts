/**
 * The Rust addon's surface, by hand. Arguments of another type, length or range throw an `Error` whose
 * `code` is `InvalidArg`; a panic in the addon throws one whose `code` is `GenericFailure`, and the
 * process lives on.
 */
export interface Addon {
  /** `sourceHash` of what it was built of; empty where cargo was called by hand. */
  sources(): string
  /** Names of the kernels that this machine can run, best first. */
  kernels(): KernelName[]
  /**
   * For tests: from now on memory that the addon frees is overwritten with NaNs, and that of weights stays where it is,
   * unreadable; or both are left alone again.
   */
  poisonFreed(on: boolean): void
  /**
   * Packs a weight on a thread of libuv.
   *
   * @param dense `[rows, cols]` f32 row-major; copied in the call
   * @param mask `[rows, ceil(cols / 8)]` bits as in a mask file, 1 where a weight is kept; copied in the
   *   call. `null` packs all weights.
   * @param group columns that share a scale: 64 or 32, bf16 only 64
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
  ): Promise<Matrix>
  /**
   * Refines the mask of some rows of a linear by swaps, blocking: what `swapRows` in `src/pruning/refinement/exchange.ts` does,
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
  /**
   * Makes a vocabulary from a model's tokens, off the event loop; the arrays are copied in the call.
   *
   * @param bytes what the tokens stand for, joined in order of their ids
   * @param lengths of each token in `bytes`; a token of none is in no answer
   * @param special 1 for tokens that are no text
   * @param endTokens what ends an answer, at least one
   */
  createVocabulary(
    bytes: Uint8Array,
    lengths: Uint32Array,
    special: Uint8Array,
    endTokens: Uint32Array,
  ): Promise<Vocabulary>
  /** Constructs a {@link Multiplier}. */
  Multiplier: new (kernel: string | null, threads: number, maxTokens: number, maxCols: number) => Multiplier
  /** Constructs a {@link Sampler} of logits `[vocab]`. */
  Sampler: new (kernel: string | null, vocab: number) => Sampler
  /**
   * Constructs an {@link Engine}.
   *
   * `null` for the kernel takes the best one; an unknown name throws an error that lists the known ones.
   *
   * @param threads how many threads share a step
   * @param precision of all linears; int8 in groups of 64, int4 of 32
   * @param head the head's precision, in the same groups
   * @param shape hidden, layers, heads, kvHeads, headDim, intermediate, vocab, context, eps
   * @param rope radians a position of each of the `headDim / 2` rotary pairs, scaling included
   * @param pages room for keys and values, in pages of 16 tokens; memory is taken when one is first used
   * @param batchTokens tokens that go through the blocks together; longer steps are cut
   * @throws `InvalidArg` for numbers that no model has, or activations of more than a gigabyte; `GenericFailure` when the
   *   machine has not the threads, or less memory than the pages may take
   */
  Engine: new (
    kernel: string | null,
    threads: number,
    precision: Precision,
    head: Precision,
    shape: Float64Array,
    rope: Float64Array,
    pages: number,
    batchTokens: number,
  ) => Engine
}

export type KernelName = 'amx' | 'avx512bf16' | 'avx512' | 'avx2' | 'neon' | 'scalar'
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

/** A model's tokens, for which grammars are compiled. */
export interface Vocabulary {
  /**
   * Compiles a grammar, off the event loop.
   *
   * @throws (rejects) `InvalidArg` when the compiler refuses it, with the compiler's reason
   */
  compile(language: 'json_schema' | 'lark', source: string): Promise<Grammar>
}

/** A compiled grammar. */
export interface Grammar {
  /** A matcher at the beginning of an answer. */
  matcher(): Matcher
}

/** How far one answer has come in its grammar. */
export interface Matcher {
  /**
   * Takes the tokens that were sampled since the last call, and tells which may come next, off the event loop.
   * Where the answer is complete these are the end tokens alone. The caller awaits each call before the next.
   *
   * @returns `[ceil(vocab / 32)]`; token `i` may come if bit `i % 32` of word `i / 32` is 1
   * @throws (rejects) `GenericFailure` for a token that may not come, or when a limit is reached; then the matcher
   *   is of no more use; `InvalidArg` when it was freed
   */
  advance(tokens: Int32Array): Promise<Uint32Array>
  /**
   * Gives back what it holds, megabytes where a grammar is costly, of which V8 knows nothing; twice is as once.
   *
   * @throws `InvalidArg` while it advances
   */
  free(): void
}

/** Weights that an {@link Engine} has loaded; freed by {@link Engine.release}, not before. */
export interface EngineWeights {
  /** Bytes that the multiplications of one token read. */
  readonly bytes: number
}

/** The loops over a vocabulary that choose a token: what `createScriptLoops` does, in vectors. */
export interface Sampler {
  /** Natural logarithm of the sum of the exponentials of the logits. @throws for NaN, or if none is finite */
  logSumExp(logits: Float32Array): number
  /**
   * A token of the logits.
   *
   * @param temperature 0 takes the most probable token
   * @param topK 0 is all
   * @param chance in [0, 1), decides
   * @throws for NaN, or if none is finite
   */
  draw(
    logits: Float32Array,
    temperature: number,
    minP: number,
    topK: number,
    topP: number,
    chance: number,
  ): number
}

/**
 * The forward pass of one LLaMA over packed weights, with its key/value cache. Steps run on threads of its own, in the
 * order in which they are asked for, loads on one of libuv's; the caller awaits each step before it asks for the next.
 */
export interface Engine {
  readonly kernel: KernelName
  readonly threads: number
  /**
   * Checks the linears of a mask and packs a weight set. Sets of one engine share the head, the norms and every
   * dense linear.
   *
   * Places are bytes from the start of a file: f32 tensors of the master, bits and bf16 values of the mask
   * file.
   *
   * @param shared embedding, head (the embedding's place when they are tied), final norm, then for each block
   *   the norms before attention and before the gated layer
   * @param linears seven a block: q, k, v, o, gate, up, down
   * @param masked five numbers each: where its bits begin, -1 where it is dense; how many columns of a row are
   *   counted together, 1 to 64, 0 for each row, -1 for the whole matrix; how many of those are kept; where the values
   *   of the kept weights begin, -1 where they are the master's; how many values there are
   * @param threads how many threads of its own share the packing
   * @throws (rejects) for a file that is missing or ends too early, or a weight that is not finite, naming it; for a
   *   mask that keeps other counts, or with values that are not finite or not as many, beginning with `not a usable
   *   mask: `
   */
  load(
    master: string,
    shared: Float64Array,
    linears: Float64Array,
    mask: string | null,
    masked: Float64Array,
    threads: number,
  ): Promise<EngineWeights>
  /**
   * Forgets the sequences `drops`, then runs works on one weight set.
   *
   * @param sequences their ids, one a work
   * @param works five numbers each: the position of its first token; how many tokens; what is wanted: 0 nothing,
   *   1 the logits after the last one, for {@link logits}, 2 negative log-likelihoods of the targets, -1 for
   *   none, 3 the sum over the tokens of the last hidden state after the final norm, `[hidden]`, added up in
   *   f64; how many tokens before the position stand in shared pages, with the first work of a sequence that does
   *   not start at 0; how many pages
   * @param tokens those of all works, joined
   * @param targets as many
   * @param pages those of all works, joined: for each the pages of its sequence from the first on, enough for the
   *   new tokens. Those that are written may be in the step only once. Which are free, the caller knows
   * @returns the negative log-likelihoods, in nats, and the sums of all works, joined in their order
   * @throws (rejects) `InvalidArg` when the work does not fit what is held; then nothing but `drops` has changed.
   *   `GenericFailure` after a panic: what the sequences of the step hold behind their positions is lost.
   */
  step(
    weights: EngineWeights,
    sequences: Float64Array,
    works: Int32Array,
    tokens: Int32Array,
    targets: Int32Array,
    pages: Int32Array,
    drops: Float64Array,
  ): Promise<Float32Array>
  /** Copies the logits, `[vocab]`, of the `index`-th work of the last step that wanted them; not during a step. */
  logits(index: number, into: Float32Array): void
  /** After the steps that were asked for before, frees weights and their sequences and gives the memory back. */
  release(weights: EngineWeights): Promise<void>
  /** Sequences that are held, pages that were written, pages that there are. Not during a step. */
  usage(): [sequences: number, pages: number, totalPages: number]
  /** For tests: the next step panics. */
  provokePanic(): void
}
