import { momentPanels, SEGMENT_LINEARS } from '../calibration/calibration-graph.ts'
import {
  BLOCK_LINEARS,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'
import {
  BLOCK_INPUTS,
  LINEAR_INPUT,
  statisticTensorSizes,
  type BlockInput,
} from '../statistics/statistic-names.ts'
import { CHUNK_ROWS } from '../refinement/moment-product.ts'
import { parseMethod, type Method } from '../methods/method-registry.ts'
import type { Propagation } from '../calibration/pruned-propagation.ts'
import { activationMemory, largestChunkTokens } from '../calibration/token-chunks.ts'

/** What is calibrated and selected. */
export interface CostOptions {
  /** Sequences of `length` tokens a domain. */
  samples: number
  length: number
  domains: number
  /** Masks that are selected, by method. */
  methods: readonly string[]
  threads: number
  /** `dense` unless given. */
  propagation?: Propagation
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
/** A thread that swaps, before it is given a linear. */
const EXCHANGE_THREAD_BYTES = 15e6

/**
 * Estimates calibration and selection from shapes, with P the weights of a block's linears, S the elements of its
 * statistics, T = samples · length, L layers, D domains, h hidden, i intermediate size:
 *
 * - seconds: D · L · (T · F / (threads · products) + 4 S / written), F of {@link operationsPerToken}; and a method
 *   L · P / selected, and for each refinement, and for a rule that updates weights, L · Σ rows · cols² / (threads · refined).
 * - peakBytes: of the process, and the larger of
 *   calibration: 4 P + 4 · (sensitivities and panels) + 4 · T · h + 4 · (the largest segment's statistics, copied)
 *   and activations of a chunk ({@link activationMemory}), or the larger of these two where they are not kept;
 *   selection, of the largest linear [r, c]: 4 r c weights, and the most of what its steps hold ({@link selectionBytes}).
 *   Where blocks are pruned as they are calibrated both at once.
 * - diskBytes: D · L · 4 S, and a method L · P / 8, and L · P more where it brings values (half of them, bf16).
 *
 * @throws AppError `invalid_request` a method is none
 */
export function estimateCost(config: LlamaConfig, options: CostOptions): Cost {
  const { samples, length, domains, threads, propagation = 'dense', rates = MEASURED_RATES } = options
  const methods = options.methods.map(parseMethod)
  const { layers } = config
  const statistics = sum([...statisticTensorSizes(config).values()])
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const running =
    (samples * length * operationsPerToken(config, length, propagation)) / (threads * rates.productsPerThread)
  const calibration = domains * layers * (running + (4 * statistics) / rates.writtenBytes)
  const selection = sum(options.methods.map((name) => estimateSelection(config, name, threads, rates)))
  const masks = methods.map(({ changesWeights }) => layers * weights * (1 / 8 + (changesWeights ? 1 : 0)))
  const calibrating = calibrationBytes(config, { samples, length })
  const selecting = Math.max(0, ...methods.map((method) => selectionBytes(config, method, threads)))
  return {
    seconds: calibration + selection,
    peakBytes:
      PROCESS_BYTES + (propagation === 'dense' ? Math.max(calibrating, selecting) : calibrating + selecting),
    diskBytes: domains * layers * 4 * statistics + sum(masks),
  }
}

/**
 * Operations that calibrating a block takes a token, a multiplication and an addition counted as two, with P the weights of
 * its linears and A = 4 · length · heads · headDim of attention:
 *
 * - dense: 4 P (forward pass and sensitivity) + 2 · (panels of second moments) + A; pruned: the forward pass again, 2 P + A.
 */
export function operationsPerToken(config: LlamaConfig, length: number, propagation: Propagation): number {
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const attention = 4 * length * config.heads * config.headDim
  const dense = 4 * weights + 2 * sum(BLOCK_INPUTS.map((input) => panelElements(config, input))) + attention
  return propagation === 'dense' ? dense : dense + 2 * weights + attention
}

/**
 * Seconds that choosing one mask takes, see {@link estimateCost}.
 *
 * @throws AppError `invalid_request` the method is none
 */
export function estimateSelection(
  config: LlamaConfig,
  name: string,
  threads: number,
  rates: CostRates = MEASURED_RATES,
): number {
  const method = parseMethod(name)
  const refined = refinementCount(method) / (threads * rates.refinedProducts)
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

function calibrationBytes(
  config: LlamaConfig,
  { samples, length }: { samples: number; length: number },
): number {
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const copies = Object.values(SEGMENT_LINEARS).map((linears) => sumElements(config, linears))
  const copied = 4 * Math.max(...copies)
  const { kept, bytes } = activationMemory(config, largestChunkTokens(length, samples))
  const hidden = samples * length * config.hiddenSize
  const held = 4 * (weights + sumElements(config, BLOCK_LINEARS) + hidden)
  // A run copies its outputs when it is done: where activations are not kept, they are gone by then.
  return held + (kept ? copied + bytes : Math.max(copied, bytes))
}

/**
 * What choosing from the largest linear [r, c] holds, of which its steps follow one another:
 *
 * - throughout: 4 r c weights; with swaps what their threads share, 12 r c + 8 c², and the threads themselves;
 * - the rule: statistics in f64, and 16 r c of score and its copy; of one that updates weights 12 r c of them, and 16 c² of
 *   moment and factor;
 * - swaps: 16 c of each row that the product takes;
 * - reconstruction: 4 r c, H twice in f32, in f64 where swaps do not share theirs, and 80 c of each row that is solved.
 */
function selectionBytes(config: LlamaConfig, method: Method, threads: number): number {
  const { rule, swaps, reconstruct, needs } = method
  const steps = BLOCK_LINEARS.map((linear) => {
    const [rows, cols] = linearShape(config, linear)
    const [whole, square] = [rows * cols, cols ** 2]
    const statistics = needs.map((name) => {
      if (name === 'sensitivity') return whole
      return name === 'second_moment' ? square / 2 : cols
    })
    const chosen = 8 * sum(statistics) + (rule.changesWeights ? 12 * whole + 16 * square : 16 * whole)
    const chunk = cols * Math.min(rows, cols, CHUNK_ROWS)
    const solved = 4 * whole + 8 * square + (swaps ? 0 : 8 * square) + 80 * chunk
    return {
      held: 4 * whole + (swaps ? 12 * whole + 8 * square : 0),
      step: Math.max(chosen, swaps ? 16 * chunk : 0, reconstruct ? solved : 0),
    }
  })
  const [held, step] = [steps.map((one) => one.held), steps.map((one) => one.step)]
  return Math.max(...held) + Math.max(...step) + (swaps ? threads * EXCHANGE_THREAD_BYTES : 0)
}

function refinementCount({ swaps, reconstruct, rule }: Method): number {
  return [swaps, reconstruct, rule.changesWeights].filter(Boolean).length
}

/** Elements of the sums that linears and their inputs have in memory. */
function sumElements(config: LlamaConfig, linears: readonly BlockLinear[]): number {
  const inputs = new Set(linears.map((linear) => LINEAR_INPUT[linear]))
  return (
    sum(linears.map((linear) => elements(config, linear))) +
    sum([...inputs].map((input) => panelElements(config, input)))
  )
}

function panelElements(config: LlamaConfig, input: BlockInput): number {
  const cols = inputSize(config, input)
  return sum(momentPanels(cols).map(({ first, end }) => (end - first) * (cols - first)))
}

function inputSize(config: LlamaConfig, input: BlockInput): number {
  const reader = BLOCK_LINEARS.find((linear) => LINEAR_INPUT[linear] === input) ?? 'mlp.down_proj'
  return linearShape(config, reader)[1]
}

function elements(config: LlamaConfig, linear: BlockLinear): number {
  const [rows, cols] = linearShape(config, linear)
  return rows * cols
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
