import { statisticTensors } from '../copal/block-statistics.ts'
import { parseMethod } from '../copal/methods/registry.ts'
import { CHUNK_TOKENS } from '../copal/token-chunks.ts'
import { BLOCK_LINEARS, linearShape, type LlamaConfig } from '../model/config.ts'
import type { Rates } from './cache.ts'

/** What is still to be done. */
export interface Workload {
  /** Tokens of each calibration. */
  calibrations: number[]
  /** Methods of the masks to be selected. */
  selections: string[]
  /** Weight sets to be loaded. */
  loads: number
  /** Windows' tokens to be scored. */
  evaluationTokens: number
}

/** Sizes that decide memory. */
export interface WorkSizes {
  windowTokens: number
  /** Of the largest calibration. */
  calibrationTokens: number
}

/** Time, memory and disk that a run takes. */
export interface Estimate {
  seconds: { calibrate: number; select: number; evaluate: number; total: number }
  /** Resident memory of all processes at the fullest moment. */
  memoryBytes: number
  /** Written to the laboratory's folder. */
  diskBytes: number
  /** Methods whose selection was never timed here: a guess. */
  guessed: string[]
}

/** A selection costs about this much a weight and, where output errors are minimised, a weight and input. */
const SECONDS_A_WEIGHT = 5e-8
const SECONDS_A_WEIGHT_AND_INPUT = 4e-10
/** Reading, masking and writing weights, and making a session of them. */
const LOAD_BYTES_A_SECOND = 2e8
/** Of a node process before it holds anything. */
const PROCESS_BYTES = 150e6
/** Tokens scored at once, whose logits are in memory. */
const STEP_TOKENS = 512

/** Estimates a run from the model's shapes and the rates that were measured; a rate that was not is guessed. */
export function estimateRun(config: LlamaConfig, work: Workload, sizes: WorkSizes, rates: Rates): Estimate {
  const calibrate = sum(work.calibrations) * (rates.calibrateToken ?? 0)
  const select = sum(work.selections.map((method) => selectSeconds(config, method, rates)))
  const evaluate = work.evaluationTokens * (rates.evaluateToken ?? 0) + work.loads * loadSeconds(config)
  return {
    seconds: { calibrate, select, evaluate, total: calibrate + select + evaluate },
    memoryBytes: memoryBytes(config, work, sizes),
    diskBytes: diskBytes(config, work),
    guessed: [...new Set(work.selections)].filter((method) => rates.select[method] === undefined),
  }
}

/** Seconds that choosing one mask takes. */
export function selectSeconds(config: LlamaConfig, method: string, rates: Rates): number {
  const known = rates.select[method]
  if (known !== undefined) return known
  const { rule, swaps, reconstruct } = parseMethod(method)
  const refinements = [swaps, reconstruct, rule.changesWeights].filter(Boolean).length
  return sum(
    BLOCK_LINEARS.map((linear) => {
      const [rows, cols] = linearShape(config, linear)
      const weights = config.layers * rows * cols
      return weights * (SECONDS_A_WEIGHT + refinements * cols * SECONDS_A_WEIGHT_AND_INPUT)
    }),
  )
}

/** Seconds until a weight set can score. */
export function loadSeconds(config: LlamaConfig): number {
  return 1 + (4 * parameterCount(config)) / LOAD_BYTES_A_SECOND
}

/** Weights of a model: linears, norms, embedding, and the head where it is not the embedding. */
export function parameterCount(config: LlamaConfig): number {
  const { vocabSize, hiddenSize, layers, tiedEmbedding } = config
  const embeddings = vocabSize * hiddenSize * (tiedEmbedding ? 1 : 2)
  return embeddings + hiddenSize + layers * (blockWeights(config) + 2 * hiddenSize)
}

/** A token's way through embedding, blocks and head, in times its way through one block. */
export function blocksAToken(config: LlamaConfig): number {
  return config.layers + (config.vocabSize * config.hiddenSize) / blockWeights(config)
}

function memoryBytes(config: LlamaConfig, work: Workload, sizes: WorkSizes): number {
  const { hiddenSize, intermediateSize, vocabSize, layers, kvHeads, headDim } = config
  const cache = 2 * layers * kvHeads * headDim * sizes.windowTokens
  const evaluation = PROCESS_BYTES + 4 * (parameterCount(config) + STEP_TOKENS * vocabSize + cache)
  const activations = CHUNK_TOKENS * (8 * hiddenSize + 3 * intermediateSize)
  const calibration =
    4 * (blockWeights(config) + statisticsCount(config) + activations + sizes.calibrationTokens * hiddenSize)
  const selection = Math.max(
    ...BLOCK_LINEARS.map((linear) => {
      const [rows, cols] = linearShape(config, linear)
      return 28 * rows * cols + 20 * cols * cols
    }),
  )
  const worker = Math.max(work.calibrations.length ? calibration : 0, work.selections.length ? selection : 0)
  // The reader of texts and the command itself stay beside what works.
  return Math.round(2 * PROCESS_BYTES + worker + (work.loads ? evaluation : 0))
}

function diskBytes(config: LlamaConfig, { calibrations, selections }: Workload): number {
  const statistics = 4 * statisticsCount(config) * config.layers * calibrations.length
  const weights = blockWeights(config) * config.layers
  // Half of the weights as bf16: patterns are about that.
  const masks = selections.map((method) => weights * (1 / 8 + (parseMethod(method).changesWeights ? 1 : 0)))
  return Math.round(statistics + sum(masks))
}

function statisticsCount(config: LlamaConfig): number {
  return sum([...statisticTensors(config).values()])
}

function blockWeights(config: LlamaConfig): number {
  return sum(BLOCK_LINEARS.map((linear) => linearShape(config, linear)).map(([rows, cols]) => rows * cols))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
