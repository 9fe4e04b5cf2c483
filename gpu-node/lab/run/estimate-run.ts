import {
  estimateCost,
  estimateSelection,
  operationsPerToken,
} from '@copal/gpu-node/pruning/runs/cost-estimate.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import { BLOCK_LINEARS, linearShape, type LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import type { Rates } from './lab-cache.ts'

/** The work that remains in a run. */
export interface Workload {
  calibrations: CalibrationWork[]
  /** How many domain statistics of these calibrations are on disk at the same time. */
  storedStatistics: number
  /** Method of each mask to select. */
  selections: string[]
  /** Weight sets to load. */
  weightSetLoads: number
  /** Tokens of evaluation windows to score. */
  evaluationTokens: number
}

/** The size of one calibration. */
export interface CalibrationWork {
  tokens: number
  propagation: Propagation
  /** Method that prunes the blocks; unused with dense propagation. */
  method: string
}

/** Sizes that determine memory, and threads, which determine time. */
export interface WorkSizes {
  /** Tokens of a calibration sequence. */
  length: number
  windowTokens: number
  threads: number
}

/** Estimated time, memory and disk of a run. */
export interface Estimate {
  seconds: { calibrate: number; select: number; evaluate: number; total: number }
  /** Peak resident memory of all processes together. */
  memoryBytes: number
  /** Bytes written to the laboratory's folder. */
  diskBytes: number
  /** Methods whose selection was never timed on this machine; their time is a guess. */
  guessed: string[]
}

/** Speed of reading, masking and writing weights and creating a session from them. */
const LOAD_BYTES_PER_SECOND = 2e8
/**
 * Memory of the command itself, of the texts in the child process, and of a weight set's process before it reads
 * weights.
 */
const COMMAND_BYTES = 210e6
const TEXT_BYTES = 150e6
const WEIGHT_SET_BYTES = 280e6
/** Tokens scored at once; their logits are in memory twice, as graph output and as a copy. */
const STEP_TOKENS = 512

/** Estimates a run from the model's shapes and measured rates; a missing selection rate is guessed from the shapes. */
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
    // All masks of a run share one propagation, except those that read no statistics.
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

/** Estimates the seconds of one calibration; with pruned propagation this includes its selection. */
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

/** Estimates the seconds of selecting one mask. */
export function selectSeconds(config: LlamaConfig, method: string, threads: number, rates: Rates): number {
  return rates.select[method] ?? estimateSelection(config, method, threads)
}

/** Estimates the seconds of loading a weight set. */
export function loadSeconds(config: LlamaConfig): number {
  return 1 + (4 * parameterCount(config)) / LOAD_BYTES_PER_SECOND
}

/** Counts the parameters of a model: linears, norms, embedding, and the head if it is not tied. */
export function parameterCount(config: LlamaConfig): number {
  const { vocabSize, hiddenSize, layers, tiedEmbedding } = config
  const embeddings = vocabSize * hiddenSize * (tiedEmbedding ? 1 : 2)
  return embeddings + hiddenSize + layers * (blockWeights(config) + 2 * hiddenSize)
}

/** Returns the cost of a token through the whole model, head included, as a multiple of one block's cost. */
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
