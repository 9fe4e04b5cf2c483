import { momentPanels, SEGMENT_LINEARS } from '../graph/calibration-block.ts'
import { BLOCK_LINEARS, linearShape, type BlockLinear, type LlamaConfig } from '../model/config.ts'
import { BLOCK_INPUTS, INPUT_OF, statisticTensors, type BlockInput } from './block-statistics.ts'
import { parseMethod, type Method } from './methods/registry.ts'
import { activationMemory, largestChunk } from './token-chunks.ts'

/** What is calibrated and selected. */
export interface CostOptions {
  /** Sequences of `length` tokens a domain. */
  samples: number
  length: number
  domains: number
  /** Masks that are selected, by method. */
  methods: readonly string[]
  threads: number
  rates?: CostRates
}

/** How fast the machine is; all are to be measured where it matters. */
export interface CostRates {
  /** f32 operations a second and thread of large matrix products, a multiplication and an addition counted as two. */
  productsPerThread: number
  /** Bytes a second that are hashed and written. */
  writtenBytes: number
  /** Weights a second whose score is computed and selected from, one thread. */
  selectedWeights: number
  /** Weights times inputs a second and thread, of a refinement or of a rule that updates weights. */
  refinedProducts: number
}

/** Of two cores of an AMD EPYC (family 25, model 17), not otherwise loaded. */
export const MEASURED_RATES: CostRates = {
  productsPerThread: 5e10,
  writtenBytes: 3e8,
  selectedWeights: 2e7,
  refinedProducts: 1e9,
}

/** What a run will take. */
export interface Cost {
  seconds: number
  /** Resident memory of the calibrating process at the fullest moment. */
  peakBytes: number
  /** Statistics and masks. */
  diskBytes: number
}

/** Node and the runtime's libraries, before a weight is read. */
const PROCESS_BYTES = 190e6

/**
 * Estimates calibration and selection from shapes, with P the weights of a block's linears, S the elements of its
 * statistics, T = samples · length, L layers, D domains, h hidden, i intermediate size:
 *
 * - seconds: D · L · (T · F / (threads · products) + 4 S / written), F = 4 P (forward pass and sensitivity) + 2 ·
 *   (panels of second moments) + 4 · length · heads · headDim (attention); and a method L · P / selected, and for
 *   each refinement, and for a rule that updates weights, L · Σ rows · cols² / (threads · refined).
 * - peakBytes: of the process, and the larger of
 *   calibration: 4 P + 4 · (sensitivities and panels) + 4 · T · h + 4 · (the largest segment's statistics, copied)
 *   and activations of a chunk ({@link activationMemory}), or the larger of these two where they are not kept;
 *   selection, of the largest linear [r, c]: 4 r c weights, 16 r c score and its copy, its statistics in f64, and
 *   with a refinement or update 8 c² more for the full second moment and 8 r c for errors.
 * - diskBytes: D · L · 4 S, and a method L · P / 8, and L · P more where it brings values (half of them, bf16).
 *
 * @throws AppError `invalid_request` a method is none
 */
export function estimateCost(config: LlamaConfig, options: CostOptions): Cost {
  const { samples, length, domains, threads, rates = MEASURED_RATES } = options
  const methods = options.methods.map(parseMethod)
  const { layers } = config
  const statistics = sum([...statisticTensors(config).values()])
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const running =
    (samples * length * operationsPerToken(config, length)) / (threads * rates.productsPerThread)
  const calibration = domains * layers * (running + (4 * statistics) / rates.writtenBytes)
  const selection = sum(methods.map((method) => selectSeconds(config, method, threads, rates)))
  const masks = methods.map(({ changesWeights }) => layers * weights * (1 / 8 + (changesWeights ? 1 : 0)))
  return {
    seconds: calibration + selection,
    peakBytes:
      PROCESS_BYTES +
      Math.max(
        calibrationBytes(config, samples, length),
        ...methods.map((method) => selectionBytes(config, method)),
      ),
    diskBytes: domains * layers * 4 * statistics + sum(masks),
  }
}

function operationsPerToken(config: LlamaConfig, length: number): number {
  const linears = 4 * sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const moments = 2 * sum(BLOCK_INPUTS.map((input) => panelElements(config, input)))
  return linears + moments + 4 * length * config.heads * config.headDim
}

function selectSeconds(config: LlamaConfig, method: Method, threads: number, rates: CostRates): number {
  const refined = refinements(method) / (threads * rates.refinedProducts)
  return (
    config.layers *
    sum(
      BLOCK_LINEARS.map((linear) => {
        const [rows, cols] = linearShape(config, linear)
        return rows * cols * (1 / rates.selectedWeights + cols * refined)
      }),
    )
  )
}

function calibrationBytes(config: LlamaConfig, samples: number, length: number): number {
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const copies = Object.values(SEGMENT_LINEARS).map((linears) => sumElements(config, linears))
  const copied = 4 * Math.max(...copies)
  const { kept, bytes } = activationMemory(config, largestChunk(length, samples))
  const hidden = samples * length * config.hiddenSize
  const held = 4 * (weights + sumElements(config, BLOCK_LINEARS) + hidden)
  // A run copies its outputs when it is done: where activations are not kept, they are gone by then.
  return held + (kept ? copied + bytes : Math.max(copied, bytes))
}

function selectionBytes(config: LlamaConfig, method: Method): number {
  return Math.max(
    ...BLOCK_LINEARS.map((linear) => {
      const [rows, cols] = linearShape(config, linear)
      const statistics = method.needs.map((name) => {
        if (name === 'sensitivity') return rows * cols
        return name === 'second_moment' ? (cols * (cols + 1)) / 2 : cols
      })
      const refined = refinements(method) ? 8 * cols ** 2 + 8 * rows * cols : 0
      return 20 * rows * cols + 8 * sum(statistics) + refined
    }),
  )
}

function refinements({ swaps, reconstruct, rule }: Method): number {
  return [swaps, reconstruct, rule.changesWeights].filter(Boolean).length
}

/** Elements of the sums that linears and their inputs have in memory. */
function sumElements(config: LlamaConfig, linears: readonly BlockLinear[]): number {
  const inputs = new Set(linears.map((linear) => INPUT_OF[linear]))
  return (
    sum(linears.map((linear) => elements(config, linear))) +
    sum([...inputs].map((input) => panelElements(config, input)))
  )
}

function panelElements(config: LlamaConfig, input: BlockInput): number {
  const reader = BLOCK_LINEARS.find((linear) => INPUT_OF[linear] === input) ?? 'mlp.down_proj'
  const [, cols] = linearShape(config, reader)
  return sum(momentPanels(cols).map(({ first, end }) => (end - first) * (cols - first)))
}

function elements(config: LlamaConfig, linear: BlockLinear): number {
  const [rows, cols] = linearShape(config, linear)
  return rows * cols
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
