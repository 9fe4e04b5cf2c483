import type { GpuCalibrator, GpuCalibratorOptions } from '../../../gpu/addon.d.ts'
import {
  BLOCK_LINEARS,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import { allocateBlock } from '../../model/master/read-master.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import { isGpuFault } from '../../platform/gpu-addon.ts'
import { modelShape } from '../graph/model-shape.ts'
import type { BlockTensor } from '../statistics/block-file.ts'
import { LINEAR_INPUT, statisticTensorName, type BlockInput } from '../statistics/statistic-names.ts'
import { LostBlockError, readFiniteBlock, type BlockRunner, type RunnerOptions } from './block-runner.ts'
import { byName, momentTensors, type BlockStatistics } from './block-sums.ts'
import { cutChunks, hiddenOfChunk, largestChunkTokens } from './token-chunks.ts'
import type { TokenSequences } from './token-sequences.ts'

/** Values that go to the device in one call: 16 MiB. */
const UPLOAD_VALUES = 1 << 22
/** Values that are downloaded in one call: 4 MiB. */
const DOWNLOAD_VALUES = 1 << 20

/** Parts of {@link createDeviceBlockRunner}. */
export interface DeviceRunnerOptions extends Pick<RunnerOptions, 'length' | 'statistics'> {
  open: (options: GpuCalibratorOptions) => Promise<GpuCalibrator>
  /** Called between pieces of bounded work, which goes on when it has settled. */
  pause: () => Promise<void>
  /** Called with the fault of a device that is lost. Work on the block at hand then throws a {@link LostBlockError}. */
  onFault: (fault: Error) => void
}

/**
 * Creates a runner on a GPU, in f32, with the same statistics as those of the processor but for rounding. Weights, sums and the
 * activations of one chunk lie on the device, which has all their memory from now on; hidden states are uploaded and
 * downloaded chunk by chunk.
 *
 * @throws the errors of `open`
 */
export async function createDeviceBlockRunner(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  { length, statistics = 'all', open, pause, onFault }: DeviceRunnerOptions,
): Promise<BlockRunner> {
  const tokens = largestChunkTokens(length)
  const weights = allocateBlock(config)
  const device = await open({ model: modelShape(config), tokens, length, statistics })

  /** Calls the device. */
  async function call<T>(work: Promise<T>): Promise<T> {
    let result: T
    try {
      result = await work
    } catch (error) {
      if (!isGpuFault(error)) throw error
      onFault(error)
      throw new LostBlockError(error.message, { cause: error })
    }
    await pause()
    return result
  }

  /** Uploads the weights: they may have changed since the last run. */
  async function upload(): Promise<void> {
    for (const [index, linear] of BLOCK_LINEARS.entries()) {
      const [rows, cols] = linearShape(config, linear)
      for (const [first, end] of rowRanges(rows, cols, UPLOAD_VALUES))
        await call(
          device.writeLinear(index, first, weights.linears[linear].subarray(first * cols, end * cols)),
        )
    }
    await call(device.writeNorm(0, weights.inputNorm))
    await call(device.writeNorm(1, weights.postAttentionNorm))
  }

  /** Runs the block over all sequences. `next` receives the output. */
  async function run(
    sequences: TokenSequences,
    hidden: Float32Array,
    next: Float32Array | null,
  ): Promise<void> {
    await upload()
    for (const chunk of cutChunks(sequences)) {
      const lengths = new Uint32Array(chunk.batch).fill(chunk.length)
      const pieces = await call(device.begin(hiddenOfChunk(hidden, chunk, config), lengths))
      for (let piece = 0; piece < pieces; piece++) await call(device.run(piece))
      if (!next) continue
      const output = hiddenOfChunk(next, chunk, config)
      const read = (first: number, end: number) => device.readStream(first, end)
      await download(chunk.batch * chunk.length, config.hiddenSize, read, output)
    }
  }

  /** Downloads `rows` of at most `cols` values, one after another, into `values`. */
  async function download(
    rows: number,
    cols: number,
    read: (first: number, end: number) => Promise<Float32Array>,
    values: Float32Array,
  ): Promise<void> {
    let at = 0
    for (const [first, end] of rowRanges(rows, cols, DOWNLOAD_VALUES)) {
      const piece = await call(read(first, end))
      values.set(piece, at)
      at += piece.length
    }
  }

  const sums = createDeviceStatistics(config, statistics === 'all', {
    moment: (input, cols, triangle) =>
      download(cols, cols, (first, end) => device.readMoment(input, first, end), triangle),
    sensitivity: (linear, [rows, cols], values) =>
      download(rows, cols, (first, end) => device.readSensitivity(linear, first, end), values),
  })
  return {
    weights,
    load: (block) => readFiniteBlock(master, block, weights),
    async calibrate(sequences, hidden, next) {
      await call(device.clear())
      await run(sequences, hidden, next)
      return sums
    },
    async release() {
      device.close()
      sums.release()
      for (const values of Object.values(weights.linears)) freeMemory(values)
    },
  }
}

/** Downloads from the device. */
interface Downloads {
  /** Writes the upper triangle of the second moment of an input, by its place among the inputs. */
  moment: (input: number, cols: number, triangle: Float32Array) => Promise<void>
  /** Writes the sensitivity of a linear. */
  sensitivity: (linear: number, shape: [rows: number, cols: number], values: Float32Array) => Promise<void>
}

/**
 * Returns the statistics of the block at hand. The memory for second moments, and for the largest sensitivity, is allocated
 * for the first block that ends.
 */
function createDeviceStatistics(
  config: LlamaConfig,
  hasSensitivities: boolean,
  downloads: Downloads,
): BlockStatistics & { release(): void } {
  const triangles = new Map<BlockInput, Float32Array<ArrayBuffer>>()
  let sensitivities: Float32Array<ArrayBuffer> | undefined

  const sensitivityTensor = (linear: BlockLinear, index: number): BlockTensor => {
    const shape = linearShape(config, linear)
    const length = shape[0] * shape[1]
    return {
      name: statisticTensorName('sensitivity', linear),
      dtype: 'F32',
      length,
      // One at a time is in memory.
      load: async () => {
        const largest = Math.max(...BLOCK_LINEARS.map((each) => elements(config, each)))
        const values = (sensitivities ??= new Float32Array(largest)).subarray(0, length)
        await downloads.sensitivity(index, shape, values)
        return values
      },
    }
  }

  return {
    async finish(block) {
      const tensors = hasSensitivities ? BLOCK_LINEARS.map(sensitivityTensor) : []
      for (const [index, [input, cols]] of inputSizes(config).entries()) {
        let triangle = triangles.get(input)
        if (!triangle) triangles.set(input, (triangle = new Float32Array((cols * (cols + 1)) / 2)))
        await downloads.moment(index, cols, triangle)
        const diagonal = new Float32Array(cols)
        for (let row = 0, at = 0; row < cols; at += cols - row++) diagonal[row] = triangle[at] as number
        tensors.push(...momentTensors(block, input, triangle, diagonal))
      }
      return byName(tensors)
    },
    release() {
      for (const values of triangles.values()) freeMemory(values)
      if (sensitivities) freeMemory(sensitivities)
    },
  }
}

/** Returns the columns of each input, in the order of the device. */
function inputSizes(config: LlamaConfig): [BlockInput, number][] {
  return [...new Map(BLOCK_LINEARS.map((linear) => [LINEAR_INPUT[linear], linearShape(config, linear)[1]]))]
}

function elements(config: LlamaConfig, linear: BlockLinear): number {
  const [rows, cols] = linearShape(config, linear)
  return rows * cols
}

/** Splits `rows` of `cols` values into ranges of at most `maxValues`, or of one row. */
function rowRanges(rows: number, cols: number, maxValues: number): [first: number, end: number][] {
  const step = Math.max(1, Math.floor(maxValues / cols))
  return Array.from({ length: Math.ceil(rows / step) }, (_, index) => [
    index * step,
    Math.min((index + 1) * step, rows),
  ])
}
