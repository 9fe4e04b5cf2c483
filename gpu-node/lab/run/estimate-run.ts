import {
  estimateCost,
  estimateSelection,
  operationsPerToken,
} from '@copal/gpu-node/pruning/runs/cost-estimate.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import { BLOCK_LINEARS, linearShape, type LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import type { Rates } from './lab-cache.ts'

/** What is still to be done. */
export interface Workload {
  calibrations: CalibrationWork[]
  /** Statistics of a domain that are on disk at once, of these calibrations. */
  storedStatistics: number
  /** Methods of the masks to be selected. */
  selections: string[]
  /** Weight sets to be loaded. */
  weightSetLoads: number
  /** Windows' tokens to be scored. */
  evaluationTokens: number
}

/** One calibration. */
export interface CalibrationWork {
  tokens: number
  propagation: Propagation
  /** Whose blocks it prunes; without meaning for dense propagation. */
  method: string
}

/** Sizes that decide memory, and threads that decide time. */
export interface WorkSizes {
  /** Tokens of a calibration sequence. */
  length: number
  windowTokens: number
  threads: number
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

/** Reading, masking and writing weights, and making a session of them. */
const LOAD_BYTES_PER_SECOND = 2e8
/** The command itself, what the working process holds of the texts, and a weight set's process before a weight is read. */
const COMMAND_BYTES = 210e6
const TEXT_BYTES = 150e6
const WEIGHT_SET_BYTES = 280e6
/** Tokens scored at once, whose logits are in memory twice: as the graph gives them, and as they are read. */
const STEP_TOKENS = 512

/** Estimates a run from the model's shapes and the rates that were measured; a rate that was not is guessed. */
export function estimateRun(config: LlamaConfig, work: Workload, sizes: WorkSizes, rates: Rates): Estimate {
  const { calibrations, storedStatistics, selections, weightSetLoads, evaluationTokens } = work
  const calibrate = sum(calibrations.map((one) => calibrateSeconds(config, one, sizes, rates)))
  const select = sum(selections.map((method) => selectSeconds(config, method, sizes.threads, rates)))
  const evaluate = evaluationTokens * (rates.evaluateToken ?? 0) + weightSetLoads * loadSeconds(config)
  const { length, threads } = sizes
  const { peakBytes, diskBytes } = estimateCost(config, {
    samples: Math.ceil(Math.max(0, ...calibrations.map(({ tokens }) => tokens)) / length),
    length,
    domains: storedStatistics,
    methods: selections,
    threads,
    // One run has one, but for masks that read no statistics.
    propagation: calibrations.find(({ propagation }) => propagation !== 'dense')?.propagation ?? 'dense',
  })
  const isWorking = calibrations.length + selections.length > 0
  return {
    seconds: { calibrate, select, evaluate, total: calibrate + select + evaluate },
    memoryBytes: Math.round(
      COMMAND_BYTES +
        TEXT_BYTES +
        (isWorking ? peakBytes : 0) +
        (weightSetLoads > 0 ? weightSetBytes(config, sizes) : 0),
    ),
    diskBytes: Math.round(diskBytes),
    guessed: [...new Set(selections)].filter((method) => rates.select[method] === undefined),
  }
}

/** Seconds that one calibration takes, with the selection that goes on in it. */
export function calibrateSeconds(
  config: LlamaConfig,
  { tokens, propagation, method }: CalibrationWork,
  { length, threads }: Pick<WorkSizes, 'length' | 'threads'>,
  rates: Rates,
): number {
  const dense = tokens * (rates.calibrateToken ?? 0)
  if (propagation === 'dense') return dense
  const factor = operationsPerToken(config, length, propagation) / operationsPerToken(config, length, 'dense')
  return dense * factor + selectSeconds(config, method, threads, rates)
}

/** Seconds that choosing one mask takes. */
export function selectSeconds(config: LlamaConfig, method: string, threads: number, rates: Rates): number {
  return rates.select[method] ?? estimateSelection(config, method, threads)
}

/** Seconds until a weight set can score. */
export function loadSeconds(config: LlamaConfig): number {
  return 1 + (4 * parameterCount(config)) / LOAD_BYTES_PER_SECOND
}

/** Weights of a model: linears, norms, embedding, and the head where it is not the embedding. */
export function parameterCount(config: LlamaConfig): number {
  const { vocabSize, hiddenSize, layers, tiedEmbedding } = config
  const embeddings = vocabSize * hiddenSize * (tiedEmbedding ? 1 : 2)
  return embeddings + hiddenSize + layers * (blockWeights(config) + 2 * hiddenSize)
}

/** A token's way through embedding, blocks and head, in times its way through one block. */
export function blocksPerToken(config: LlamaConfig): number {
  return config.layers + (config.vocabSize * config.hiddenSize) / blockWeights(config)
}

function weightSetBytes(config: LlamaConfig, { windowTokens }: WorkSizes): number {
  const { vocabSize, layers, kvHeads, headDim } = config
  const cache = 2 * layers * kvHeads * headDim * windowTokens
  return WEIGHT_SET_BYTES + 4 * (parameterCount(config) + 2 * STEP_TOKENS * vocabSize + cache)
}

function blockWeights(config: LlamaConfig): number {
  return sum(BLOCK_LINEARS.map((linear) => linearShape(config, linear)).map(([rows, cols]) => rows * cols))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
