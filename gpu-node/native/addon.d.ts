/**
 * The functions and classes of the Rust addon, written by hand.
 *
 * Every error is an `Error` whose `code` is an {@link AddonErrorCode}, or, for an argument of a wrong type that is not a
 * property of an object, a code of N-API, such as `NumberExpected`. A panic in the addon is an error too; the process
 * goes on.
 *
 * Properties of objects are read once, when the function is called. Arrays that are used after the call has returned are
 * copied during it.
 */
export interface Addon {
  /** The hash of the sources that the addon was built from; empty if cargo was called by hand. */
  sourceHash(): string
  /** Names of the kernels that this machine can run, best first. */
  kernels(): KernelName[]
  /**
   * For tests: switches poisoning on or off. With it, memory that the addon frees is overwritten with NaNs, and freed
   * weights stay mapped but become unreadable.
   */
  poisonFreed(on: boolean): void
  /**
   * Packs a weight on a thread of libuv.
   *
   * @throws (rejects) `InvalidArg` for arrays of other shapes, or a weight that is not finite (also a pruned one) or does
   *   not fit the precision
   */
  pack(options: PackOptions): Promise<Matrix>
  /**
   * Refines the mask of some rows of a linear by exchanging pairs of weights, blocking. Gives the same bits as
   * `src/pruning/refinement/exchange.ts`, which explains the method.
   */
  exchangeRows(options: ExchangeOptions): void
  /**
   * Rounds the kept weights of some rows of a linear to codes of packed int4, blocking, so that the output error stays small.
   * The result depends neither on the kernel nor on the number of threads.
   *
   * @throws `InvalidArg` also for a weight that is not finite or above 65,504
   */
  roundToInt4Rows(options: RoundingOptions): void
  /**
   * Makes a {@link FormSample} on a thread of libuv.
   *
   * @throws (rejects) `InvalidArg`, `ThreadsUnavailable`, `OutOfMemory`
   */
  createFormSample(options: FormSampleOptions): Promise<FormSample>
  /** Makes a vocabulary from a model's tokens, on a thread of libuv. */
  createVocabulary(options: VocabularyOptions): Promise<Vocabulary>
  /** Constructs a {@link Multiplier}. */
  Multiplier: new (options: MultiplierOptions) => Multiplier
  /** Constructs a {@link Sampler}. */
  Sampler: new (options: SamplerOptions) => Sampler
  /**
   * Constructs an {@link Engine}.
   *
   * @throws `InvalidArg` for sizes that no model has, or activations of more than a gigabyte; `InvalidPageCount`;
   *   `ThreadsUnavailable`
   */
  Engine: new (options: EngineOptions) => Engine
}

/** The code of an error of the addon. */
export type AddonErrorCode =
  /** An argument has a wrong type, length or range, or arrays overlap. */
  | 'InvalidArg'
  /** The object cannot do this now: it was released or freed, or is still busy. */
  | 'InvalidState'
  /** An item of a step does not fit the tokens that are held, or the model. Only `drops` took effect. */
  | 'InvalidStep'
  /** The number of pages is out of range, or the machine has no memory for so many. */
  | 'InvalidPageCount'
  /** A logit is NaN, or the largest one is not finite. */
  | 'InvalidLogits'
  /** A mask keeps other counts of weights than its rule, or has values that are not finite or not as many. */
  | 'InvalidMask'
  /** A tensor of the master file cannot be packed, for example because a weight is not finite. */
  | 'InvalidWeights'
  /** A file cannot be opened, or ends within a tensor. */
  | 'UnreadableFile'
  /** There is no memory for the logits of a step. */
  | 'OutOfMemory'
  /** The machine cannot start the threads. */
  | 'ThreadsUnavailable'
  /** The addon, a kernel thread or the grammar compiler panicked. */
  | 'Panicked'
  /** A token may not come next, or a limit of the grammar's parser was reached. */
  | 'MatcherFailed'
  | GrammarErrorCode

/** The code of an error for a grammar that the compiler rejects. Most have a {@link AddonError.detail}. */
export type GrammarErrorCode =
  /** Keywords of JSON Schema are not supported. `detail`: each in single quotes, separated by commas. */
  | 'GrammarUnsupportedKeywords'
  /** A `format` is not supported. `detail`: the format. */
  | 'GrammarUnsupportedFormat'
  /** The schemas of a `oneOf` do not exclude each other. No `detail`. */
  | 'GrammarUnsupportedOneOf'
  /** A `$ref` does not point into the schema. `detail`: the reference. */
  | 'GrammarExternalRef'
  /** A `$ref` points to nothing. `detail`: the reference. */
  | 'GrammarMissingRef'
  /** No JSON satisfies the schema. `detail`: the reason. */
  | 'GrammarUnsatisfiable'
  /** Another error of the compiler. The message is the compiler's reason. No `detail`. */
  | 'GrammarInvalid'

/** An error that the addon throws. */
export interface AddonError extends Error {
  code: AddonErrorCode
  /** The part of a grammar that is at fault; {@link GrammarErrorCode} says which codes have it. */
  detail?: string
}

/**
 * A set of instructions. `avx512` needs AVX-512 F, BW, DQ and VL (Skylake-X), `avx512vnni` also VNNI (Cascade Lake),
 * `avx512vbmi2` also VBMI2 (Ice Lake, Zen 4). These three, `amx` and `avx2` give the same bits.
 * `neondot` needs dot products of bytes (ARMv8.2) and gives the bits of `neon`.
 */
export type KernelName =
  | 'amx'
  | 'avx512bf16'
  | 'avx512vbmi2'
  | 'avx512vnni'
  | 'avx512'
  | 'avx2'
  | 'neondot'
  | 'neon'
  | 'scalar'
export type Precision = 'bf16' | 'int8' | 'int4'

/** Names a kernel. An unknown name throws an `InvalidArg` that lists the known ones. */
export interface KernelChoice {
  /** Left out or null: the best kernel of the machine. */
  kernel?: string | null | undefined
}

/** A weight to pack. */
export interface PackOptions {
  /** `[rows, cols]` f32 row-major. */
  weights: Float32Array
  rows: number
  cols: number
  /** `[rows, ceil(cols / 8)]` bits as in a mask file, 1 for a kept weight. Null keeps all weights. */
  mask: Uint8Array | null
  precision: Precision
  /** Columns that share a scale; bf16 takes only 64. */
  group: 64 | 32
}

/** Rows of a linear whose mask is refined. Arrays may lie in shared memory in which other threads refine other rows. */
export interface ExchangeOptions extends KernelChoice {
  cols: number
  /** The group size m of an n:m pattern; null allows exchanges anywhere in a row. */
  group: number | null
  /** `[rows, cols]` */
  weights: Float32Array
  /** Mean of the outer products of the inputs, `[cols, cols]`, symmetric. */
  moment: Float64Array
  /** Mask bits `[rows, ceil(cols / 8)]`, refined in place. Shares memory with no other array. */
  bits: Uint8Array
  /** Pruned weights times the moment, for the mask as it is given: `[rows, cols]`. */
  gradient: Float64Array
  /** The error of each row, `[rows]`, updated in place. Shares memory with no other array. */
  errors: Float64Array
  /** The least decrease of a row's error that an exchange must bring. */
  floor: number
}

/** Some rows of a linear whose weights are rounded. They have the error `(w − a)(H + λ I)(w − a)ᵀ`. */
export interface RoundingOptions extends KernelChoice {
  threads: number
  cols: number
  /** The weights a, 0 where pruned, `[rows, cols]`, rounded in place. Shares memory with no other array. */
  values: Float32Array
  /** Mask bits `[rows, ceil(cols / 8)]`. */
  bits: Uint8Array
  /** H, the mean of the outer products of the inputs, `[cols, cols]`, symmetric. */
  moment: Float64Array
  /** λ */
  damping: number
  /**
   * `(w − a)(H + λ I)` where weights are kept, `[rows, cols]`; updated there, and without meaning elsewhere. Shares memory with
   * no other array.
   */
  gradient: Float64Array
}

/** The tokens of a model. */
export interface VocabularyOptions {
  /** The bytes of all tokens, joined in the order of their ids. */
  bytes: Uint8Array
  /** The number of bytes of each token. A token without bytes is never allowed. */
  lengths: Uint32Array
  /** 1 for each token that is not text. */
  special: Uint8Array
  /** Tokens that end an output, at least one. */
  endTokens: Uint32Array
}

/** The size of a {@link Multiplier}. */
export interface MultiplierOptions extends KernelChoice {
  /** Threads that share a multiplication, including the caller's. */
  threads: number
  /** The largest number of tokens of the inputs. */
  maxTokens: number
  /** The largest number of columns of a matrix. */
  maxCols: number
}

/** The size of a {@link Sampler}. */
export interface SamplerOptions extends KernelChoice {
  vocabSize: number
}

/** How keys and values are stored: 16-bit floats, or 8-bit integers with an f32 scale for each head, token, key and value. */
export type KvPrecision = 'f16' | 'int8'

/** A model, and the resources that its {@link Engine} gets. */
export interface EngineOptions extends KernelChoice {
  /** Threads that share a step, 1 to 256. */
  threads: number
  /** Precision of the linears of the blocks. Scales cover groups of 64 columns with int8, 32 with int4. */
  precision: Precision
  /** Precision of the head, in the same groups. */
  headPrecision: Precision
  model: ModelShape
  /** Pages of 16 tokens for keys and values. The machine provides the memory of a page when it is first used. */
  pages: number
  /** How they are stored; f16 by default. */
  kvPrecision?: KvPrecision
  /** Tokens that go through the blocks together; longer steps are split. */
  batchTokens: number
}

/** Shape and constants of a LLaMA. */
export interface ModelShape {
  /** Width of the residual stream. */
  hidden: number
  layers: number
  /** Query heads. */
  heads: number
  /** Key and value heads; they divide the query heads. */
  kvHeads: number
  headDim: number
  /** Width of the gated layer. */
  intermediate: number
  vocab: number
  /** The largest number of positions of a sequence. */
  context: number
  /** Added to the mean square in a norm. */
  eps: number
  /** Radians per position of each of the `headDim / 2` rotary pairs, scaling included. */
  ropeFrequencies: Float64Array
}

/** A packed weight. Immutable; its memory is freed when it is garbage-collected. */
export interface Matrix {
  readonly rows: number
  readonly cols: number
  /** The number of weights that the mask keeps; all of them for a dense matrix. */
  readonly kept: number
  /** Bytes that one multiplication reads. */
  readonly bytes: number
}

/** A kernel on a fixed number of threads. */
export interface Multiplier {
  readonly kernel: KernelName
  readonly threads: number
  /**
   * Multiplies, blocking: `outputs[token, row] = Σ matrix[row, col] · inputs[token, col]`, f32 row-major. Results do not
   * depend on the number of threads. `inputs` and `outputs` may not share memory.
   */
  multiply(matrix: Matrix, inputs: Float32Array, outputs: Float32Array): void
  /** For benchmarks: measures one multiplication of every matrix by `tokens` tokens of made-up inputs. */
  timePass(matrices: Matrix[], tokens: number): PassTime
  /** For benchmarks: bytes per second at which the threads together read 256 MiB. */
  readBandwidth(): number
  /** For tests: panics on one thread. */
  provokePanic(thread: number): void
}

/** The linears that a {@link FormSample} is made of, and its limits. */
export interface FormSampleOptions extends KernelChoice {
  threads: number
  precision: Precision
  /** The linears of one block of the model; at least one. */
  shapes: { rows: number; cols: number }[]
  /** Blocks of the model. */
  layers: number
  /** Share of the weights that a mask keeps; not read with a `group`. */
  keptShare: number
  /** Kept weights of every group of columns; null if a mask may keep any. */
  group: { columns: number; kept: number } | null
  /** The largest number of tokens to measure. */
  maxTokens: number
  /** The sample in the dense form has about as many bytes as the model, but no more than these. */
  maxBytes: number
}

/**
 * Linears of a model's shapes with made-up weights and masks, in both forms, to measure which form is faster. It has
 * threads of its own.
 */
export interface FormSample {
  /** Returns the bytes of the sample in a form. */
  bytes(form: StoredForm): number
  /**
   * Multiplies by the sample once, on a thread of libuv.
   *
   * @returns seconds for one token and one block of the model (less where its linears were cut)
   */
  time(form: StoredForm, tokens: number): Promise<number>
  /** Frees memory and threads once no measurement runs. */
  free(): void
}

/** Durations in seconds. */
export interface PassTime {
  /** Encoding of the inputs. */
  encodeS: number
  /** The multiplications. */
  multiplyS: number
}

/** A model's tokens, for which grammars are compiled. */
export interface Vocabulary {
  /**
   * Compiles a grammar, off the event loop.
   *
   * @throws (rejects) a {@link GrammarErrorCode} if the compiler rejects it
   */
  compile(language: 'json_schema' | 'lark', source: string): Promise<Grammar>
}

/** A compiled grammar. */
export interface Grammar {
  /** Makes a matcher at the start of an output. */
  matcher(): Matcher
}

/** The state of one output in its grammar. */
export interface Matcher {
  /**
   * Takes the tokens that were sampled since the last call and returns which may come next, off the event loop. If the
   * output is complete, only the end tokens may. The caller awaits each call before the next.
   *
   * @param drafts tokens that it does not take, each of which may follow the one before
   * @returns `[1 + drafts, ceil(vocab / 32)]`; token `i` may come if bit `i % 32` of word `i / 32` is 1. The rows end after
   *   the last draft that may come, or before one for which that is too costly to tell.
   * @throws (rejects) `MatcherFailed`, after which the matcher cannot be used; `InvalidState` if it was freed
   */
  advance(tokens: Int32Array, drafts: Int32Array): Promise<Uint32Array>
  /**
   * Takes the tokens that were sampled since the last call and returns the bytes that must follow, at most 512, off the event
   * loop; none where there is a choice. Null where it is too costly to look ahead now, as it then is in {@link advance}.
   *
   * @throws (rejects) as {@link advance}
   */
  forced(tokens: Int32Array): Promise<Uint8Array | null>
  /**
   * Frees the memory of the matcher: megabytes for a costly grammar, which V8 does not count. A second call does nothing.
   *
   * @throws `InvalidState` while it advances
   */
  free(): void
}

/** Chooses tokens from logits with vector instructions. Its results equal those of `createScriptLogitKernels`. */
export interface Sampler {
  /** Returns the natural logarithm of the sum of the exponentials of the logits. @throws `InvalidLogits` */
  logSumExp(logits: Float32Array): number
  /**
   * Draws a token.
   *
   * @param settings five numbers, an array that the caller reuses for all tokens: temperature, where 0 takes the most
   *   probable token; min-p, where 0 keeps all tokens; top-k, where 0 keeps all; top-p, where 1 keeps all; a random
   *   number in [0, 1) that decides
   * @throws `InvalidLogits`
   */
  draw(logits: Float32Array, settings: Float64Array): number
}

/** Weights that an {@link Engine} has loaded. Only {@link Engine.release} frees them. */
export interface EngineWeights {
  /** Bytes that the multiplications of one token read. */
  readonly bytes: number
  /** Bytes that it takes in memory, with those that it shares with other sets. */
  readonly memoryBytes: number
}

/** How pruned linears are stored: without the pruned weights, or with zeros in their place. Results have the same bits. */
export type StoredForm = 'packed' | 'dense'

/** The files of a weight set. All places are offsets in bytes from the start of a file. */
export interface WeightSource {
  /** The file with the dense f32 weights. */
  masterPath: string
  /** The mask file, required if a linear has a mask. */
  maskPath: string | null
  /** Place of the embedding in the master file. */
  embedding: number
  /** Place of the head in the master file; the embedding's if the two are tied. */
  head: number
  /** Place of the norm before the head in the master file. */
  finalNorm: number
  /** One for each layer. */
  blocks: BlockPlaces[]
  /**
   * Packed by default. `both`: packed for fewer than `denseFrom` tokens at once, dense for more. In int4 the forms are
   * different weights.
   */
  form?: StoredForm | 'both'
  /** The smallest number of tokens that the dense form multiplies; required with `both`. */
  denseFrom?: number
  /** Threads that share the packing, in addition to those of the engine. */
  threads: number
}

/** Cancels a load: it ends before its next linear, and the weights that it packed are freed. */
export interface LoadCancellation {
  cancel(): void
}

/** The places of one block. */
export interface BlockPlaces {
  /** Place of the norm before attention in the master file. */
  attentionNorm: number
  /** Place of the norm before the gated layer in the master file. */
  mlpNorm: number
  linears: Record<LinearName, LinearPlace>
}

/** The linears of a block, as the model's tensors are named. */
export type LinearName =
  | 'self_attn.q_proj'
  | 'self_attn.k_proj'
  | 'self_attn.v_proj'
  | 'self_attn.o_proj'
  | 'mlp.gate_proj'
  | 'mlp.up_proj'
  | 'mlp.down_proj'

/** The place of a linear. */
export interface LinearPlace {
  /** Place of its f32 weights in the master file. */
  dense: number
  /** Null for a linear that stays dense. */
  mask: MaskedPlace | null
}

/** The place of a linear's mask in the mask file, and what the mask must keep. */
export interface MaskedPlace {
  /** Place of its bits. */
  bits: number
  rule: KeptRule
  /** Place and number of the bf16 values of the kept weights; null if the master's weights are used. */
  values: { begin: number; count: number } | null
}

/** How many weights a mask must keep, exactly: of the matrix, of every row, or of every group of 1 to 64 columns. */
export type KeptRule =
  | { per: 'matrix' | 'row'; kept: number }
  | { per: 'group'; columns: number; kept: number }

/**
 * The work of a step, in arrays so that a step takes the same few calls into the addon whatever its number of sequences.
 * The first six arrays have one element for each item, that is, for each sequence that has work.
 */
export interface EngineStep {
  /** Ids of the sequences. */
  sequences: Float64Array
  /** Position of the first token of each item. */
  positions: Int32Array
  /** The number of tokens of each item. */
  lengths: Int32Array
  /** The result of each item: one of {@link StepOutput}. */
  outputs: Uint8Array
  /** The number of most probable tokens that follow each log-likelihood of an item; at most the vocabulary's. */
  alternatives: Uint8Array
  /** The temperature of each item with output 5, above 0; those of other items are not read. */
  temperatures?: Float32Array | undefined
  /** The random numbers of the items with output 5, from 0 to 1, joined: one for each item and for each of its drafts. */
  chances?: Float32Array | undefined
  /** The number of drafts of each item with output 5 or 6; those of other items are not read. */
  drafts?: Uint8Array | undefined
  /**
   * The number of tokens before the position that are in shared pages. Given with the first item of a sequence that does
   * not start at 0.
   */
  cachedLengths: Int32Array
  /** The number of pages of each item. */
  pageCounts: Int32Array
  /** The tokens of all items, joined. */
  tokens: Int32Array
  /** For each token the token whose likelihood is wanted. Items with outputs 2, 3 and 4 read theirs; −1 skips a token. */
  targets: Int32Array
  /**
   * The pages of all items, joined: for each item the pages of its sequence from the first on, enough for the new tokens.
   * A page that an item writes may be in the step only once. The caller keeps track of which pages are free.
   */
  pages: Int32Array
  /** Ids of sequences that are forgotten before the work runs. */
  drops: Float64Array
}

/**
 * The code of an item's result. 0: none. 1: the logits after the last token, for {@link Engine.logits}. 2: the negative
 * log-likelihoods of the targets, in nats, each followed by its alternatives, most probable first: the token, and its
 * negative log-likelihood. 3: the same without alternatives, then the sum over the tokens of the last hidden state after
 * the final norm, `[hidden]`, added up in f64. 4: 1 and 2. 5: candidates in place of the logits of 6, from the GPU addon;
 * the native addon treats it as 6. 6: the logits after the token before the item's last tokens, its drafts, and after each
 * of them.
 */
export type StepOutput = 0 | 1 | 2 | 3 | 4 | 5 | 6

/** The sequences and pages that an engine uses. */
export interface EngineUsage {
  /** Sequences of all weight sets. */
  sequences: number
  /** Pages that a step has written. */
  writtenPages: number
  totalPages: number
}

/**
 * The forward pass of one LLaMA over packed weights, with its key/value cache. Steps run on threads of its own, in the
 * order in which they are requested; loads run on a thread of libuv. The caller awaits each step before it requests the
 * next.
 */
export interface Engine {
  readonly kernel: KernelName
  readonly threads: number
  /**
   * Checks the linears of a mask and packs a weight set. Sets of one engine share the head, the norms and every dense
   * linear.
   *
   * @throws (rejects) `UnreadableFile`; `InvalidWeights`; `InvalidMask`: the message names the file or the tensor.
   *   `InvalidState` when it is cancelled
   */
  load(source: WeightSource, cancellation?: LoadCancellation): Promise<EngineWeights>
  /** Returns what cancels the load that it is passed to. */
  loadCancellation(): LoadCancellation
  /**
   * Runs a prompt of 2 to 16 tokens on new weights, at once and again with its last token by cached keys and values. It
   * runs beside the steps, on a thread of libuv that rests during them, so no step waits for it.
   *
   * @returns the logits after the prompt of both runs, `[2, vocab]`
   * @throws `InvalidArg`; `InvalidState` for weights that were released
   * @throws (rejects) `InvalidStep` for tokens that the model does not have, `Panicked`
   */
  tryOut(weights: EngineWeights, tokens: Int32Array): Promise<Float32Array>
  /**
   * Runs a step on one weight set.
   *
   * @returns the negative log-likelihoods and the sums of all items that want them, joined in the order of the items
   * @throws `InvalidArg` for arrays that do not fit each other; `InvalidState` for weights that were released
   * @throws (rejects) `InvalidStep` or `OutOfMemory`, after which only `drops` has taken effect; `Panicked`, after which
   *   the sequences of the step hold no more than the tokens before their positions
   */
  step(weights: EngineWeights, step: EngineStep): Promise<Float32Array>
  /**
   * Copies a row of logits, `[vocab]`, of the last step, in the order of the items that wanted some and of their tokens.
   *
   * @throws `InvalidState` during a step
   */
  logits(index: number, into: Float32Array): void
  /** Frees weights and their sequences after the steps that were requested before, and gives the memory back. */
  release(weights: EngineWeights): Promise<void>
  /**
   * Ends the threads, and frees the memory of keys and values and what released weights have left to the next ones, after the
   * steps that were requested before. Afterwards only `release` and `close` may be called.
   */
  close(): Promise<void>
  /** @throws `InvalidState` during a step */
  usage(): EngineUsage
  /** For tests: the next step panics. */
  provokePanic(): void
}
