/**
 * The functions and classes of the GPU addon, written by hand. Its {@link GpuEngine} has the interface of the native
 * addon's `Engine`, so that one backend drives either. Its {@link GpuCalibrator} calibrates decoder blocks, and its
 * {@link GpuExchanger} refines masks.
 *
 * Errors are those of the native addon (`../native/addon.d.ts`), with {@link GpuErrorCode} as `code`. A panic, a lost
 * device and a lack of device memory are errors too; the process goes on.
 */
import type {
  AddonErrorCode,
  EngineOptions,
  EngineStep,
  EngineUsage,
  EngineWeights,
  LoadCancellation,
  ModelShape,
  WeightSource,
} from '../native/addon.d.ts'

export interface GpuAddon {
  /** The hash of the sources that the addon was built from; empty if cargo was called by hand. */
  sourceHash(): string
  /**
   * Lists the devices that an engine can use, best first: discrete, integrated, virtual, and last the processor itself
   * (software drivers). Empty without a driver. Runs on a thread of libuv.
   */
  devices(): Promise<GpuDevice[]>
  /**
   * Selects the device for an engine: the first one of {@link devices} that opens, and for which the driver of CUDA compiles the
   * kernels, which takes seconds the first time. A software driver does not take over from a GPU. Runs on a thread of libuv.
   *
   * Throws `InvalidArg` at once. Rejects with `DeviceUnavailable` and the reasons of all devices; `OutOfMemory`.
   */
  selectDevice(
    options: Pick<GpuEngineOptions, 'device' | 'precision' | 'headPrecision' | 'model'>,
  ): Promise<GpuSelection>
  /**
   * Opens the device on a thread of libuv, compiles the kernels, and allocates the pages of an engine. A device that does not open
   * is passed over as by {@link selectDevice}.
   *
   * Throws at once `InvalidArg` for sizes that no model has, and `InvalidPageCount`. Rejects with `InvalidArg` for sizes that the
   * kernels do not take; `InvalidPageCount` if the pages do not fit the device; `DeviceUnavailable`; `OutOfMemory`.
   */
  openEngine(options: GpuEngineOptions): Promise<GpuEngine>
  /** Opens the device on a thread of libuv. Rejects with `DeviceUnavailable`. */
  openExchanger(options: { device?: string | null | undefined }): Promise<GpuExchanger>
  /**
   * Opens the device on a thread of libuv, and allocates its memory.
   *
   * Throws at once `InvalidArg`. Rejects with `InvalidArg`; `DeviceUnavailable`, also for heads that are wider than 256 and more
   * than 65,535 tokens; `OutOfMemory`.
   */
  openCalibrator(options: GpuCalibratorOptions): Promise<GpuCalibrator>
}

/** The code of an error of the GPU addon. */
export type GpuErrorCode =
  | AddonErrorCode
  /** There is no such device, or its driver does not open it. */
  | 'DeviceUnavailable'
  /** The device was lost, or its driver failed. The engine cannot be used again: make another one, and load again. */
  | 'DeviceLost'

/** A device, as its driver describes it. */
export interface GpuDevice {
  /** The name for {@link GpuEngineOptions.device}. */
  name: string
  /** The interface by which it is driven. */
  api: 'cuda' | 'vulkan' | 'metal' | 'dx12'
  /** `software` runs on the processor: for tests. */
  kind: 'discrete' | 'integrated' | 'virtual' | 'software' | 'other'
  /** Name and version of the driver. */
  driver: string
  /** The largest buffer that a kernel can use, bytes. */
  maxBindingBytes: number
  /** Its own memory, bytes; null where the interface does not tell: Metal, DX12. */
  memoryBytes: number | null
}

/** The device for an engine. */
export interface GpuSelection {
  device: GpuDevice
  /** The devices before it that cannot be used, and why. */
  passedOver: { device: GpuDevice; reason: string }[]
}

/**
 * The options of the native engine. `kernel` is ignored. `threads` is ignored too: steps run on the device, and loading
 * has its own number of threads. `batchTokens` is the largest number of tokens that pass through the blocks together.
 */
export interface GpuEngineOptions extends EngineOptions {
  /**
   * A part of a device's interface and name, such as `vulkan NVIDIA L4`, in any case. Left out or null: the first one of
   * {@link GpuAddon.devices}.
   */
  device?: string | null | undefined
}

/** A step of the native engine, and the adjustments of its logits. */
export interface GpuStep extends EngineStep {
  /** None by default. */
  adjustments?: LogitAdjustments | undefined
}

/**
 * The tokens whose logits the caller adjusts before it samples: by biases and penalties. A row is that of a token with
 * {@link GpuEngine.candidates}: of each item with output 5, and of each of its drafts. All arrays but `counts` join the tokens of
 * all rows.
 *
 * The addon returns the logits of these tokens unadjusted, and the caller adjusts them in f64 and rounds them to f32. The device
 * adjusts them in f32 too, but only to decide which part of the vocabulary it returns.
 */
export interface LogitAdjustments {
  /** The number of tokens of each row, at most {@link GpuEngine.maxAdjusted}. */
  counts: Int32Array
  /** Those of a row rise. */
  tokens: Int32Array
  /** Added to the logit first. */
  biases: Float32Array
  /** Then divides it if it is positive, and multiplies it if not; above 0. */
  factors: Float32Array
  /** Subtracted last. */
  deductions: Float32Array
}

/** Bytes of the device's memory that an engine holds. */
export interface GpuMemory {
  /** Weights of all sets, shared ones once, the embedding included. */
  weightBytes: number
  /** Pages of keys and values. */
  pageBytes: number
  /** Activations, logits, and buffers for transfers. */
  workBytes: number
}

/**
 * The forward pass of one LLaMA on a device, with its key/value cache. Like the native `Engine`, except:
 *
 * - every method can fail with `DeviceLost`, and fails with it from then on;
 * - `load` fails with `OutOfMemory` if the device has no memory for the set; other sets are unaffected;
 * - pages take their memory when the engine is opened;
 * - results repeat to the bit on one device, and do not depend on the other work of a step, but differ between devices.
 */
export interface GpuEngine {
  /** The interface of the device, as in {@link GpuDevice.api}. */
  readonly kernel: GpuDevice['api']
  /** Always 1: the thread that requests the work of the device. */
  readonly threads: number
  /** The device that the engine uses. */
  readonly device: GpuDevice
  /** Candidates of an item with output 5: 256, or all tokens of a smaller vocabulary. */
  readonly candidates: number
  /** Tokens of a row in {@link LogitAdjustments}, at most: 2048, and fewer than the vocabulary has. */
  readonly maxAdjusted: number
  /**
   * Like `Engine.load` of the native addon, always packed: `form` is ignored. Weights go to the device in bounded pieces,
   * beside running steps.
   */
  load(source: WeightSource, cancellation?: LoadCancellation): Promise<EngineWeights>
  loadCancellation(): LoadCancellation
  /**
   * Like `Engine.step` of the native addon. An item with output 5 gives, in its place among the results, for the token before
   * its drafts and for each of them:
   *
   * - the sum of `exp(logit − largest)` over all logits, and the sum of `exp((logit − largest) / temperature)`;
   * - the part of the vocabulary in which the random number times the second sum falls, if its terms are added in
   *   the order of the tokens, and the sum of the terms before the part. A part is `ceil(vocab / 256)` tokens. −1 for none;
   * - the {@link candidates} most probable tokens, each followed by its logit, most probable first, ties to the lower id.
   *   NaN counts as the most probable;
   * - the logits of the part, −∞ after the last token;
   * - the logits of the adjusted tokens of {@link LogitAdjustments}, in their order.
   *
   * Everything but the last of these leaves adjusted tokens out, as if their logit were −10³⁰. Only the part is chosen with
   * them: it is the one in which the random number falls among all tokens, by their adjusted weights. The errors of the sums are less than 2⁻¹⁶ of the whole sum where the temperature is at least 0.01.
   */
  step(weights: EngineWeights, step: GpuStep): Promise<Float32Array>
  /**
   * Downloads rows of logits of items of the last step that had output 5, all at once, after the steps that were requested
   * before. Rows are numbered as those of {@link logits}; those that are here already are left alone.
   *
   * @throws `InvalidArg` if the step does not have one of them; then none is downloaded
   */
  downloadLogits(rows: Int32Array): Promise<void>
  /**
   * Like `Engine.logits` of the native addon. The logits of an item with output 5 stay on the device until
   * {@link downloadLogits} has brought them; before that it throws `InvalidArg`.
   */
  logits(row: number, into: Float32Array): void
  /** Like `Engine.release` of the native addon. Succeeds on a lost device. */
  release(weights: EngineWeights): Promise<void>
  /** Like `Engine.close` of the native addon. Frees the device, too. */
  close(): Promise<void>
  /** @throws `InvalidState` during a step */
  usage(): EngineUsage
  /** @throws `InvalidState` during a step */
  memory(): GpuMemory
  /** For tests: the next step panics. */
  provokePanic(): void
  /** For tests: no step returns from now on, as with a driver that hangs. */
  provokeHang(): void
  /** For tests: loses the device. */
  provokeDeviceLoss(): void
}

/**
 * Refines masks on a device by exchanging pairs of weights, one linear at a time, in f32.
 * `src/pruning/refinement/exchange.ts` explains the method. Each call does a bounded amount of work on a thread of libuv, so
 * that other work of the device waits only briefly. Calls fail with `InvalidState` while another one runs.
 *
 * For a linear: `begin`, `addMoment` until H is complete, `addRows` for each piece of rows, and `refine` for each piece. The
 * device then holds H and the rows: 4 bytes a value of H, 8 bytes a weight that was not refined yet.
 *
 * Every method can reject with `InvalidArg` (a wrong shape or order, or a value that is not finite), `OutOfMemory` (also
 * where H is too large for the buffers of the device), or `DeviceLost`, and rejects with that from then on. Results repeat
 * to the bit on one device and do not depend on the rows of a piece, but differ between devices.
 */
export interface GpuExchanger {
  /** The device that it uses. */
  readonly device: GpuDevice
  /**
   * Allocates H, `Σ x xᵀ / tokens`, `[cols, cols]`, and frees the linear before.
   *
   * @returns the rows of a piece whose work is bounded
   */
  begin(linear: {
    /** The diagonal of H, `[cols]`. */
    diagonal: Float64Array
    /** The group size m of an n:m pattern; null allows exchanges anywhere in a row. */
    group: number | null
  }): Promise<number>
  /** Adds the next rows of H, `[rows, cols]`. */
  addMoment(rows: Float64Array): Promise<void>
  /**
   * Adds a piece: rows of W, `[rows, cols]`, with their mask bits, `[rows, ceil(cols / 8)]`.
   *
   * @returns the error of each row, `e H eᵀ` with E the pruned part of W
   */
  addRows(weights: Float32Array, bits: Uint8Array): Promise<Float64Array>
  /**
   * Refines the rows of a piece, by its place in the order in which they were added, and frees it. An exchange must lower
   * the error of a row by more than `floor`.
   */
  refine(piece: number, floor: number): Promise<RefinedRows>
  /** Frees the linear and the device: at once, or when the call ends that is running. */
  close(): void
  /** For tests: loses the device. */
  provokeDeviceLoss(): void
}

/** The refined mask of a piece of rows. */
export interface RefinedRows {
  /** `[rows, ceil(cols / 8)]` */
  bits: Uint8Array
  /** The error of each row, `[rows]`. */
  errors: Float64Array
}

/** The size and the statistics of a calibration. */
export interface GpuCalibratorOptions {
  /** As in {@link GpuEngineOptions.device}. */
  device?: string | null | undefined
  model: ModelShape
  /** Tokens of the largest chunk. */
  tokens: number
  /** Tokens of the longest sequence. */
  length: number
  /** `moments`: without sensitivities, which then take no memory. */
  statistics: 'all' | 'moments'
}

/** Bytes of the device's memory that a calibrator holds, from its beginning on. */
export interface GpuCalibrationMemory {
  /** Weights of a block, f32. */
  weightBytes: number
  /** Sums of its statistics. */
  sumBytes: number
  /** Activations of a chunk, and what describes it. */
  activationBytes: number
}

/**
 * Runs one decoder block at a time on a device, in f32, and sums its statistics. Each call does a bounded amount of work on a
 * thread of libuv, as those of {@link GpuExchanger}, and fails as they do.
 *
 * For a block: `writeLinear` and `writeNorm` for its weights, and `clear`; for each chunk of sequences `begin`, `run` for each
 * piece, and `readStream`; then the sums are read. Linears are numbered in the order q, k, v, o, gate, up, down; inputs are
 * those of attention, of o, of the gated layer, and of down. Results repeat to the bit on one device.
 */
export interface GpuCalibrator {
  /** The device that it uses. */
  readonly device: GpuDevice
  memory(): GpuCalibrationMemory
  /** Writes rows of a linear's weights, `[rows, d_in]`, from row `first` on. */
  writeLinear(linear: number, first: number, values: Float32Array): Promise<void>
  /** Writes the factors of the norm before attention (0) or before the gated layer (1), `[hidden]`. */
  writeNorm(norm: number, values: Float32Array): Promise<void>
  /** Sets all sums to zero. */
  clear(): Promise<void>
  /**
   * Uploads the hidden states of a chunk of sequences, `[tokens, hidden]`, whose statistics are added to the sums.
   *
   * @param lengths tokens of each sequence, which begins at position 0
   * @returns the number of pieces to {@link run}
   */
  begin(hidden: Float32Array, lengths: Uint32Array): Promise<number>
  /** Runs a piece; each once, in order. */
  run(piece: number): Promise<void>
  /** Downloads tokens `first … end - 1` of the output of the block, once all pieces have run. */
  readStream(first: number, end: number): Promise<Float32Array>
  /**
   * Downloads rows `first … end - 1` of the second moment of an input, each from the diagonal on, one after another. All are
   * NaN if a value of the input was not finite.
   */
  readMoment(input: number, first: number, end: number): Promise<Float32Array>
  /** Downloads rows `first … end - 1` of the sensitivity of a linear, `[rows, d_in]`. */
  readSensitivity(linear: number, first: number, end: number): Promise<Float32Array>
  /** Frees the memory and the device: at once, or when the call ends that is running. */
  close(): void
  /** For tests: loses the device. */
  provokeDeviceLoss(): void
}
