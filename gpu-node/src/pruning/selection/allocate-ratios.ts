import { AppError } from '@copal/shared/errors.ts'
import { DENSE } from '@copal/shared/mask/mask-metadata.ts'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import { BLOCK_LINEARS, linearName, linearShapes } from '../../model/config/llama-config.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { LayerSensitivity } from '../../model/sensitivities/layer-sensitivity.ts'
import {
  encodeRowSensitivity,
  QUANTILES,
  type RowSensitivity,
} from '../../model/sensitivities/row-sensitivity.ts'
import { METHOD_NAMES, parseMethod } from '../methods/method-registry.ts'

/**
 * How fast the loss of a linear grows with its ratio: `e^(GROWTH · ratio)`. Of SmolLM2-135M's loss at 40, 50 and 60 %;
 * with 6, masks are worse (`docs/measurements/tried.md`).
 */
const GROWTH = 9
/** A linear's ratio differs from the model's by no more than this: the growth is only known near it. */
const MAX_RATIO_DIFFERENCE = 0.3
/** What a linear costs is measured within chance: it is taken together with so many blocks on either side. */
const NEIGHBOUR_BLOCKS = 2
/** The first blocks and the last one are like no other. */
const [DISTINCT_FIRST_BLOCKS, DISTINCT_LAST_BLOCKS] = [2, 1]
/** A weight costs at least this part of the mean: of what is measured as less nothing is known. */
const MIN_RELATIVE_LOSS = 1 / 200
/** Nothing is kept whole or pruned whole by allocation, unless the model's own ratio is nearer to that. */
const [MIN_RATIO, MAX_RATIO] = [0.05, 0.95]
/** Decimals that a pattern has. */
const PATTERN_STEPS = 10_000

/** What methods that share a ratio need to know of a model. */
type Sensitivities = Pick<DenseModel, 'layerSensitivity' | 'rowSensitivity'>

/**
 * The selection with the ratio of every linear written out, where the method shares the ratio out (`+allocated`), and counted
 * over whole linears, where their rows do (`+rows`); any other as it is. Where rows share, what their errors cost says also
 * what linears are worth, and what pruning linears costs need not have been measured. Linears that the selection names keep what it says,
 * and the others share the ratio among them.
 *
 * @throws AppError `invalid_request`, param `method`: the pattern is no ratio, or the sensitivity of the model is not known
 */
export function withAllocation(
  model: Pick<DenseModel, 'config'> & Sensitivities,
  selection: SelectionSpec,
): SelectionSpec {
  const { allocated, rows } = parseMethod(selection.method)
  if (!allocated && !rows) return selection
  const pattern = parsePattern(selection.pattern)
  if (pattern.kind !== 'ratio') {
    const plain = selection.method.replace('+allocated', '').replace('+rows', '')
    throw methodError(
      `'${selection.method}' shares a ratio of pruned weights out, and ${selection.pattern} leaves nothing to share out. ` +
        `Use '${plain}', or a ratio.`,
    )
  }
  const { layerSensitivity, rowSensitivity } = model
  if (rows && rowSensitivity === null) {
    throw sensitivityMissing(selection.method, model, 'an error of each output costs', 'row-sensitivity')
  }
  if (allocated && !rows && layerSensitivity === null) {
    throw sensitivityMissing(selection.method, model, 'pruning each part costs', 'sensitivity')
  }
  if (!allocated) return { ...selection, scope: 'matrix' }
  const named = selection.patterns ?? {}
  const shapes = new Map([...linearShapes(model.config)].filter(([name]) => !Object.hasOwn(named, name)))
  const costs = { losses: layerSensitivity?.linears, rows: rows ? rowSensitivity?.linears : undefined }
  const patterns = { ...allocateRatios(shapes, costs, pattern.ratio), ...named }
  return { ...selection, scope: rows ? 'matrix' : selection.scope, patterns }
}

/** The methods that a model can be pruned by: those that share a ratio out only where what they need was measured. */
export function supportedMethods({ layerSensitivity, rowSensitivity }: Sensitivities): string[] {
  return METHOD_NAMES.filter((name) => {
    const { allocated, rows } = parseMethod(name)
    if (rows) return rowSensitivity !== null
    return !allocated || layerSensitivity !== null
  })
}

/** What a mask of the method depends on besides statistics: what a ratio is shared out by. */
export function sensitivityInputs(
  method: string,
  { layerSensitivity, rowSensitivity }: Sensitivities,
): unknown[] {
  const { allocated, rows } = parseMethod(method)
  return [
    ...(allocated ? [layerSensitivity] : []),
    ...(rows && rowSensitivity ? [encodeOnce(rowSensitivity)] : []),
  ]
}

/** A megabyte of text, asked for with every mask. */
const encoded = new WeakMap<RowSensitivity, string>()

function encodeOnce(rowSensitivity: RowSensitivity): string {
  const text = encoded.get(rowSensitivity) ?? encodeRowSensitivity(rowSensitivity)
  encoded.set(rowSensitivity, text)
  return text
}

function sensitivityMissing(
  method: string,
  { layerSensitivity }: Pick<Sensitivities, 'layerSensitivity'>,
  what: string,
  command: string,
): AppError {
  const equal = method.replace('+rows', '')
  const plain = layerSensitivity === null ? equal.replace('+allocated', '') : equal
  return methodError(
    `'${method}' needs to know what ${what} this model, and that was never measured. ` +
      `Measure it once with copal lab ${command}, or use '${plain}'.`,
  )
}

function methodError(message: string): AppError {
  return new AppError('invalid_request', message, { param: 'method' })
}

/** What is known of linears that share a ratio; one of them at least. */
interface LinearCosts {
  /** What pruning each was measured to cost. */
  losses?: LayerSensitivity['linears'] | undefined
  /** What errors of its rows cost, and how the worth of its weights is spread. */
  rows?: RowSensitivity['linears'] | undefined
}

/**
 * Ratios of single linears that cost the model the least at the same number of pruned weights; of both kinds of knowledge,
 * where there are two, the mean.
 *
 * By losses: the loss is taken to be the sum over linears of `s · e^(GROWTH · (r − r₀))`, where `s` is what the linear was
 * measured to cost at its ratio `r₀`, all others pruned too. At the least loss under `Σ n r = ratio · Σ n` every linear has
 * the same loss a weight at the margin, so `r = r₀ + (μ − ln(s / n)) / GROWTH` with one μ for all.
 *
 * By rows: the weights that are worth the least go, in whatever linear they are, so `r` is the share of its weights that are
 * worth less than `e^μ`.
 *
 * @param shapes the linears that share the ratio
 * @returns patterns by the name of the weight, in whole columns: they prune the ratio of all weights, or more by less
 * than one column of one linear (counted over matrices, less than 1 in 10,000 of the weights more)
 */
export function allocateRatios(
  shapes: Shapes,
  { losses, rows }: LinearCosts,
  ratio: number,
): Record<string, string> {
  const found: ReadonlyMap<string, number>[] = []
  if (losses) {
    const costs = logLosses(shapes, losses, ratio)
    found.push(
      ratiosAtCommonLevel(shapes, ratio, (name, level) => ratio + (level - (costs.get(name) ?? 0)) / GROWTH),
    )
  }
  if (rows) {
    // Where many weights are worth the same, any part of them may go.
    const rising = new Map(
      [...shapes.keys()].map((name) => [name, (rows[name]?.worth ?? []).map((value, k) => value + k * 1e-7)]),
    )
    found.push(ratiosAtCommonLevel(shapes, ratio, (name, level) => shareBelow(rising.get(name) ?? [], level)))
  }
  const mean = (name: string) => found.reduce((sum, of) => sum + (of.get(name) ?? ratio), 0) / found.length
  return toColumnPatterns(shapes, new Map([...shapes.keys()].map((name) => [name, mean(name)])), ratio)
}

type Shapes = ReadonlyMap<string, readonly [rows: number, cols: number]>

/** The ratios at the level where they prune `ratio` of all weights, cut to the range in which costs are known. */
function ratiosAtCommonLevel(
  shapes: Shapes,
  ratio: number,
  ratioAt: (name: string, level: number) => number,
): Map<string, number> {
  const least = Math.min(ratio, Math.max(MIN_RATIO, ratio - MAX_RATIO_DIFFERENCE))
  const most = Math.max(ratio, Math.min(MAX_RATIO, ratio + MAX_RATIO_DIFFERENCE))
  const ratios = (level: number) =>
    new Map([...shapes.keys()].map((name) => [name, Math.min(most, Math.max(least, ratioAt(name, level)))]))
  return ratios(bisect((level) => prunedWeights(shapes, ratios(level)) < ratio * prunedWeights(shapes, null)))
}

/** How many weights ratios prune; all of them where none are given. */
function prunedWeights(shapes: Shapes, ratios: ReadonlyMap<string, number> | null): number {
  let sum = 0
  for (const [name, [rows, cols]] of shapes) sum += rows * cols * (ratios ? (ratios.get(name) ?? 0) : 1)
  return sum
}

/** Which share of a linear's weights is worth less than `e^level`, between and beyond rising quantiles by straight lines. */
function shareBelow(quantiles: readonly number[], level: number): number {
  const next = quantiles.findIndex((value) => value >= level)
  const upper = Math.min(Math.max(next < 0 ? quantiles.length - 1 : next, 1), quantiles.length - 1)
  const [low, high] = [quantiles[upper - 1] ?? 0, quantiles[upper] ?? 0]
  return (upper + (level - low) / (high - low)) / QUANTILES
}

/** Natural logarithms of what each linear costs at one ratio a weight. */
function logLosses(
  shapes: Shapes,
  sensitivity: LayerSensitivity['linears'],
  ratio: number,
): Map<string, number> {
  const losses = smoothedLosses(ratio, sensitivity)
  const total = [...shapes.keys()].reduce((sum, name) => sum + Math.max(0, losses.get(name) ?? 0), 0)
  const leastLoss = (MIN_RELATIVE_LOSS * total) / prunedWeights(shapes, null)
  return new Map(
    [...shapes].map(([name, [rows, cols]]) => [
      name,
      Math.log(Math.max(leastLoss, (losses.get(name) ?? 0) / (rows * cols))),
    ]),
  )
}

/** The ratios as patterns of whole columns. */
function toColumnPatterns(
  shapes: Shapes,
  ratios: ReadonlyMap<string, number>,
  ratio: number,
): Record<string, string> {
  const counts = [...shapes].map(([name, [rows, cols]]) => {
    const columns = (ratios.get(name) ?? ratio) * cols
    return { name, rows, cols, columns: Math.floor(columns), rest: columns - Math.floor(columns) }
  })
  let missing =
    ratio * prunedWeights(shapes, null) - counts.reduce((sum, { rows, columns }) => sum + rows * columns, 0)
  // A linear keeps something.
  const hasRoom = ({ columns, cols }: { columns: number; cols: number }) => columns + 1 < cols
  // Whole columns first where rounding took most, then where one column is the least weights.
  for (const count of counts.toSorted((a, b) => b.rest - a.rest)) {
    if (count.rows > missing || !hasRoom(count)) continue
    count.columns++
    missing -= count.rows
  }
  for (const count of counts.toSorted((a, b) => a.rows - b.rows)) {
    if (missing <= 0) break
    if (!hasRoom(count)) continue
    count.columns++
    missing -= count.rows
  }
  return Object.fromEntries(counts.map(({ name, cols, columns }) => [name, patternOf(columns, cols)]))
}

/** What each linear costs at one ratio: of its kind, the mean over its block and those that are like it. */
function smoothedLosses(ratio: number, sensitivity: LayerSensitivity['linears']): Map<string, number> {
  const layers = Object.keys(sensitivity).length / BLOCK_LINEARS.length
  const lossOf = (layer: number, linear: (typeof BLOCK_LINEARS)[number]) => {
    const measured = sensitivity[linearName(layer, linear)]
    return measured ? measured.loss * Math.exp(GROWTH * (ratio - measured.ratio)) : 0
  }
  const losses = new Map<string, number>()
  for (let layer = 0; layer < layers; layer++) {
    const isUnlike = layer < DISTINCT_FIRST_BLOCKS || layer >= layers - DISTINCT_LAST_BLOCKS
    const first = isUnlike ? layer : Math.max(DISTINCT_FIRST_BLOCKS, layer - NEIGHBOUR_BLOCKS)
    const last = isUnlike ? layer : Math.min(layers - DISTINCT_LAST_BLOCKS - 1, layer + NEIGHBOUR_BLOCKS)
    for (const linear of BLOCK_LINEARS) {
      let sum = 0
      for (let near = first; near <= last; near++) sum += lossOf(near, linear)
      losses.set(linearName(layer, linear), sum / (last - first + 1))
    }
  }
  return losses
}

/** The pattern that prunes so many of `cols` columns, or one more where four decimals cannot say it. */
function patternOf(columns: number, cols: number): string {
  if (columns === 0) return DENSE
  for (let step = Math.floor((columns / cols) * PATTERN_STEPS); ; step++) {
    const text = (step / PATTERN_STEPS).toFixed(4)
    if (Math.floor(cols * Number(text)) >= columns) return text
  }
}

/** Where `isBelow`, which holds up to some point, ends to hold. */
function bisect(isBelow: (at: number) => boolean): number {
  let [low, high] = [-1e3, 1e3]
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2
    if (isBelow(middle)) low = middle
    else high = middle
  }
  return high
}
