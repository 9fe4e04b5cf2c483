import { closeSync, openSync, readSync } from 'node:fs'
import { AppError } from '@copal/shared/errors.ts'
import { buildCalibrationBlock } from '../graph/calibration-block.ts'
import { encodeModel } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/runtime.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../model/config.ts'
import type { DenseMaster } from '../model/dense-model.ts'
import { loadBlock, type BlockWeights } from '../model/master.ts'
import { statisticTensors } from './block-statistics.ts'
import { requireFiniteWeights } from './finite.ts'
import type { PartialArtifact } from './partial.ts'
import type { TokenSequences } from './sample.ts'

/** Tokens that run through a block at once: enough for full GEMM speed, 80 MB of activations at hidden size 576. */
const CHUNK_TOKENS = 2048

/** Runs the decoder blocks of a dense model, one after another, and sums up their statistics. */
export interface CalibrationPass {
  /**
   * Calibrates from where `partial` stands until every block is committed.
   *
   * @param onBlock called with the number of blocks done
   * @throws AppError `unsupported_model` weights or activations are not finite: names the linear or the block
   */
  run(sequences: TokenSequences, partial: PartialArtifact, onBlock: (done: number) => void): Promise<void>
  release(): Promise<void>
}

/**
 * Prepares the one-block graph for sequences of at most `length` tokens. One session serves every block:
 * the weights are inputs, so the memory is that of one block, its statistics, one chunk of activations and
 * the hidden states of all sequences, whatever the number of layers.
 */
export async function createCalibrationPass(
  model: { config: LlamaConfig; master: DenseMaster },
  length: number,
  threads: number,
): Promise<CalibrationPass> {
  const { config, master } = model
  const graph = encodeModel(buildCalibrationBlock(config, length))
  const session = await InferenceSession.create(graph, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Spinning between operators would take the processor from serving.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  })
  return {
    async run(sequences, partial, onBlock) {
      let hidden = partial.hidden ?? embed(model, sequences.tokens)
      while (partial.blocksDone < config.layers) {
        const block = partial.blocksDone
        const weights = weightFeeds(await loadBlock(master, block), block, config)
        const sums = emptySums(config)
        const next = new Float32Array(hidden.length)
        for (const chunk of chunksOf(sequences)) {
          const outputs = await session.run({ ...weights, ...chunkFeeds(chunk, hidden, config) })
          for (const [name, { data }] of Object.entries(outputs)) {
            if (name === 'next_hidden') next.set(data as Float32Array, chunk.firstRow * config.hiddenSize)
            else addToSums(sums, name, data as Float32Array, block)
          }
          // `run` never leaves the event loop a turn: this lets the parent's messages and its end through.
          await new Promise((resolve) => setImmediate(resolve))
        }
        await partial.commitBlock(rounded(sums), next)
        hidden = next
        onBlock(partial.blocksDone)
      }
    },
    release: () => session.release(),
  }
}

/** Consecutive sequences that run together. */
interface Chunk {
  batch: number
  length: number
  firstRow: number
}

function chunksOf({ sequences, length }: TokenSequences): Chunk[] {
  const most = Math.max(1, Math.floor(CHUNK_TOKENS / length))
  const chunks: Chunk[] = []
  for (let first = 0; first < sequences; first += most) {
    chunks.push({ batch: Math.min(most, sequences - first), length, firstRow: first * length })
  }
  return chunks
}

function weightFeeds(weights: BlockWeights, block: number, config: LlamaConfig): Record<string, Tensor> {
  const norm = [config.hiddenSize]
  const feeds: Record<string, Tensor> = {
    'model.layers.0.input_layernorm.weight': new Tensor('float32', weights.inputNorm, norm),
    'model.layers.0.post_attention_layernorm.weight': new Tensor('float32', weights.postAttentionNorm, norm),
  }
  for (const linear of BLOCK_LINEARS) {
    requireFiniteWeights(weights.linears[linear], linearName(block, linear))
    feeds[linearName(0, linear)] = new Tensor('float32', weights.linears[linear], linearShape(config, linear))
  }
  return feeds
}

function chunkFeeds(chunk: Chunk, hidden: Float32Array, config: LlamaConfig): Record<string, Tensor> {
  const { batch, length, firstRow } = chunk
  const { hiddenSize, kvHeads, headDim } = config
  const rows = batch * length
  const values = hidden.subarray(firstRow * hiddenSize, (firstRow + rows) * hiddenSize)
  const past = new Tensor('float32', new Float32Array(0), [batch, kvHeads, 0, headDim])
  return {
    hidden: new Tensor('float32', values, [rows, hiddenSize]),
    attention_shape: new Tensor('int64', BigInt64Array.of(BigInt(batch), BigInt(length), -1n), [3]),
    last_position: new Tensor('int32', new Int32Array(batch).fill(length - 1), [batch]),
    total_length: new Tensor('int32', Int32Array.of(length), []),
    past_key_0: past,
    past_value_0: past,
  }
}

/** f64 sums over chunks, by tensor name. */
function emptySums(config: LlamaConfig): Map<string, Float64Array> {
  return new Map([...statisticTensors(config)].map(([name, count]) => [name, new Float64Array(count)]))
}

/** Adds one chunk's output; a panel of a second moment goes into the packed triangle, its diagonal also into the norm. */
function addToSums(
  sums: ReadonlyMap<string, Float64Array>,
  output: string,
  values: Float32Array,
  block: number,
): void {
  const [name = '', panel] = output.split('@')
  const sum = sumOf(sums, name)
  if (panel === undefined) {
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number)
    return
  }
  const squareNorm = sumOf(sums, name.replace(/second_moment$/, 'square_norm'))
  const size = squareNorm.length
  const first = Number(panel)
  const width = size - first
  for (let row = first, from = 0; from < values.length; row++, from += width + 1) {
    const diagonal = values[from] as number
    if (!Number.isFinite(diagonal)) {
      const input = name.replace(/\.second_moment$/, '')
      throw new AppError(
        'unsupported_model',
        `Block ${block} of the model gives values that are not finite on this text (${input}): it overflows f32. ` +
          `Calibrate on other text, or serve another model.`,
      )
    }
    squareNorm[row] = (squareNorm[row] as number) + diagonal
    // Row r of the packed triangle begins after r rows of size, size - 1, … elements.
    const to = row * size - (row * (row - 1)) / 2
    for (let i = 0; i < size - row; i++) sum[to + i] = (sum[to + i] as number) + (values[from + i] as number)
  }
}

function sumOf(sums: ReadonlyMap<string, Float64Array>, name: string): Float64Array {
  const sum = sums.get(name)
  if (!sum) throw new RangeError(`the calibration graph has an output ${name} that is no statistic`)
  return sum
}

function rounded(sums: ReadonlyMap<string, Float64Array>): Map<string, Float32Array> {
  return new Map([...sums].map(([name, sum]) => [name, new Float32Array(sum)]))
}

/** Rows of the embedding, one a token, read where they lie: `[tokens, hidden]`. */
function embed(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  tokens: Int32Array,
): Float32Array {
  const embedding = master.tensors.get('model.embed_tokens.weight')
  if (!embedding) throw new RangeError('the master holds no embedding')
  const { hiddenSize } = config
  const rows = new Map<number, Float32Array>()
  const hidden = new Float32Array(tokens.length * hiddenSize)
  const file = openSync(master.path, 'r')
  try {
    for (const [position, token] of tokens.entries()) {
      let row = rows.get(token)
      if (!row) {
        row = new Float32Array(hiddenSize)
        readSync(file, row, 0, row.byteLength, embedding.offset + token * row.byteLength)
        rows.set(token, row)
      }
      hidden.set(row, position * hiddenSize)
    }
  } finally {
    closeSync(file)
  }
  return hidden
}
