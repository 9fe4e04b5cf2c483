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
  type StatisticSet,
} from '../statistics/statistic-names.ts'
import { CHUNK_ROWS } from '../refinement/moment-product.ts'
import { parseMethod, type Method } from '../methods/method-registry.ts'
import type { Propagation } from '../calibration/pruned-propagation.ts'
import { activationMemory, largestChunkTokens } from '../calibration/token-chunks.ts'

/** The calibration and selection to estimate. */
export interface CostOptions {
  /** Sequences per domain. */
  samples: number
  /** Tokens per sequence. */
  length: number
  domains: number
  /** The method of each mask to select. */
  methods: readonly string[]
  threads: number
  /** Default `dense`. */
  propagation?: Propagation
  /** The statistics that are stored: a laboratory stores `all`, the default. */
  statistics?: StatisticSet
  /** Default {@link MEASURED_RATES}. */
  rates?: CostRates
}

/** The speed of a machine. Measure it on machines where the estimate matters. */
export interface CostRates {
  /** f32 operations of large matrix products per second and thread. A multiplication and an addition are two operations. */
  productsPerThread: number
  /** Bytes that are hashed and written per second. */
  writtenBytes: number
  /** Weights that are scored and selected per second, on one thread. */
  selectedWeights: number
  /** Weights times inputs per second and thread, in a refinement or in a rule that updates weights. */
  refinedProducts: number
}

/** The rates of two cores of an AMD EPYC (family 25, model 17) without other load. */
export const MEASURED_RATES: CostRates = {
  productsPerThread: 5e10,
  writtenBytes: 3e8,
  selectedWeights: 2e7,
  refinedProducts: 1e9,
}

/** The estimated cost of a run. */
export interface Cost {
  seconds: number
  /** Peak resident memory of the calibrating process. */
  peakBytes: number
  /** Size of statistics and masks on disk. */
  diskBytes: number
}

/** Memory of Node.js and the runtime's libraries before any weight is read. */
const PROCESS_BYTES = 190e6
/** Memory of an exchange thread before it receives a linear. */
const EXCHANGE_THREAD_BYTES = 15e6

/**
 * Estimates the cost of calibration and selection from shapes, with P the weights of a block's linears, S the elements of its
 * statistics, T = samples · length, L layers, D domains, h hidden size:
 *
 * - `seconds`: D · L · (T · F / (threads · products) + 4 S / written), with F from {@link operationsPerToken}; plus, per method,
 *   L · P / selected, and for each refinement or update of weights L · Σ rows · cols² / (threads · refined).
 * - `peakBytes`: the memory of the process plus the larger of the two phases (their sum with pruned propagation):
 *   - calibration: 4 P + 4 · (sensitivities and panels) + 4 · T · h, plus a copy of the largest segment's statistics and the
 *     activations of a chunk ({@link activationMemory}), or the larger of these two if activations are not kept;
 *   - selection from the largest linear, see {@link selectionBytes}.
 * - `diskBytes`: D · L · 4 S; plus, per method, L · P / 8, and L · P more for values (half of the weights, bf16).
 *
 * @throws AppError `invalid_request` for an unknown method
 */
export function estimateCost(config: LlamaConfig, options: CostOptions): Cost {
  const { samples, length, domains, threads, propagation = 'dense', rates = MEASURED_RATES } = options
  const set = options.statistics ?? 'all'
  const methods = options.methods.map(parseMethod)
  const { layers } = config
  const statistics = sum([...statisticTensorSizes(config, set).values()])
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const running =
    (samples * length * operationsPerToken(config, length, propagation, set)) /
    (threads * rates.productsPerThread)
  const calibration = domains * layers * (running + (4 * statistics) / rates.writtenBytes)
  const selection = sum(options.methods.map((name) => estimateSelection(config, name, threads, rates)))
  const masks = methods.map(({ changesWeights }) => layers * weights * (1 / 8 + (changesWeights ? 1 : 0)))
  const calibrating = calibrationBytes(config, { samples, length, set })
  const selecting = Math.max(0, ...methods.map((method) => selectionBytes(config, method, threads)))
  return {
    seconds: calibration + selection,
    peakBytes:
      PROCESS_BYTES + (propagation === 'dense' ? Math.max(calibrating, selecting) : calibrating + selecting),
    diskBytes: domains * layers * 4 * statistics + sum(masks),
  }
}

/**
 * Returns the operations per token that calibrating a block takes. A multiplication and an addition are two operations. With P
 * the weights of its linears and A = 4 · length · heads · headDim for attention:
 *
 * - dense propagation: 4 P (forward pass and sensitivity; 2 P without sensitivities) + 2 · (panels of second moments) + A;
 * - pruned propagation: in addition 2 P + A for the second forward pass.
 */
export function operationsPerToken(
  config: LlamaConfig,
  length: number,
  propagation: Propagation,
  set: StatisticSet = 'all',
): number {
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const attention = 4 * length * config.heads * config.headDim
  const passes = set === 'all' ? 4 : 2
  const dense =
    passes * weights + 2 * sum(BLOCK_INPUTS.map((input) => panelElements(config, input))) + attention
  return propagation === 'dense' ? dense : dense + 2 * weights + attention
}

/**
 * Estimates the seconds that the selection of one mask takes, see {@link estimateCost}.
 *
 * @throws AppError `invalid_request` for an unknown method
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
  { samples, length, set }: { samples: number; length: number; set: StatisticSet },
): number {
  const weights = sum(BLOCK_LINEARS.map((linear) => elements(config, linear)))
  const copies = Object.values(SEGMENT_LINEARS).map((linears) => sumElements(config, linears, set))
  const copied = 4 * Math.max(...copies)
  const { kept, bytes } = activationMemory(config, largestChunkTokens(length, samples))
  const hidden = samples * length * config.hiddenSize
  const held = 4 * (weights + sumElements(config, BLOCK_LINEARS, set) + hidden)
  // A run copies its outputs at its end. Activations that are not kept are freed by then.
  return held + (kept ? copied + bytes : Math.max(copied, bytes))
}

/**
 * Estimates the memory of selection from the largest linear [r, c], in bytes: what is allocated throughout, plus the maximum of
 * the steps, which run one after another.
 *
 * - Throughout: 4 r c for weights; with exchange 12 r c + 8 c² that its threads share, and the threads themselves.
 * - The rule: statistics in f64, and 16 r c for scores and their copy; for a rule that updates weights, instead of scores
 *   12 r c for weights and 16 c² for moment and factor.
 * - Exchange: 16 c per row of a chunk of the product.
 * - Reconstruction: 4 r c for weights, 8 c² for H twice in f32, 8 c² more for H in f64 unless exchange shares its copy, and
 *   80 c per row of a chunk.
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

function refinementCount({ swaps, reconstruct, int4, rule }: Method): number {
  return [swaps, reconstruct, int4, rule.changesWeights].filter(Boolean).length
}

/** Returns the number of elements of the sums of linears and their inputs. */
function sumElements(config: LlamaConfig, linears: readonly BlockLinear[], set: StatisticSet): number {
  const inputs = new Set(linears.map((linear) => LINEAR_INPUT[linear]))
  return (
    sum(set === 'all' ? linears.map((linear) => elements(config, linear)) : []) +
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
