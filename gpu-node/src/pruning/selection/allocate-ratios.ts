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
 * Growth of a linear's loss with its ratio: the loss is proportional to `e^(GROWTH · ratio)`. Measured on SmolLM2-135M at 40,
 * 50 and 60 %; masks with 6 are worse (`docs/measurements/tried.md`).
 */
const GROWTH = 9
/** Maximum difference between a linear's ratio and the model's, because the growth is known only near the model's ratio. */
const MAX_RATIO_DIFFERENCE = 0.3
/** Number of blocks on either side over which a linear's loss is averaged, because its measurement is noisy. */
const NEIGHBOUR_BLOCKS = 2
/** Numbers of first and last blocks that are not averaged, because they differ from all others. */
const [DISTINCT_FIRST_BLOCKS, DISTINCT_LAST_BLOCKS] = [2, 1]
/** Minimum loss per weight, relative to the mean. Smaller measured losses are noise. */
const MIN_RELATIVE_LOSS = 1 / 200
/** Bounds of allocated ratios, unless the model's ratio is outside them. */
const [MIN_RATIO, MAX_RATIO] = [0.05, 0.95]
/** Number of ratios that a pattern of four decimals can express. */
const PATTERN_STEPS = 10_000

/** The measured sensitivities of a model; null if they were not measured. */
type Sensitivities = Pick<DenseModel, 'layerSensitivity' | 'rowSensitivity'>

/**
 * Resolves the allocation of a selection. With `+allocated` it adds the ratio of every linear; with `+rows` it sets the scope
 * to `matrix`. Other selections are returned unchanged.
 *
 * With `+rows` the row sensitivities also determine the ratios of linears, so layer sensitivities are optional. Linears that
 * the selection names keep their pattern; the others share the ratio among them.
 *
 * @throws AppError `invalid_request`, param `method`, when the pattern is not a ratio, or a needed sensitivity was not
 * measured
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
      `'${selection.method}' allocates a ratio of pruned weights, but the pattern ${selection.pattern} is not a ratio. ` +
        `Use '${plain}', or a ratio.`,
    )
  }
  const { layerSensitivity, rowSensitivity } = model
  if (rows && rowSensitivity === null) {
    throw sensitivityMissing(selection.method, model, 'row', 'row-sensitivity')
  }
  if (allocated && !rows && layerSensitivity === null) {
    throw sensitivityMissing(selection.method, model, 'layer', 'sensitivity')
  }
  if (!allocated) return { ...selection, scope: 'matrix' }
  const named = selection.patterns ?? {}
  const shapes = new Map([...linearShapes(model.config)].filter(([name]) => !Object.hasOwn(named, name)))
  const costs = { losses: layerSensitivity?.linears, rows: rows ? rowSensitivity?.linears : undefined }
  const patterns = { ...allocateRatios(shapes, costs, pattern.ratio), ...named }
  return { ...selection, scope: rows ? 'matrix' : selection.scope, patterns }
}

/**
 * Returns the names of the methods that a node supports for a model: those whose sensitivities were measured, and without the native
 * addon none that rounds to int4.
 */
export function supportedMethods(
  { layerSensitivity, rowSensitivity }: Sensitivities,
  hasAddon: boolean,
): string[] {
  return METHOD_NAMES.filter((name) => {
    const { allocated, rows, int4 } = parseMethod(name)
    if (int4 && !hasAddon) return false
    if (rows) return rowSensitivity !== null
    return !allocated || layerSensitivity !== null
  })
}

/** Returns the sensitivities that a mask of the method depends on, for its cache key. */
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

/** Encoded sensitivities: a megabyte of text each, needed for the key of every mask. */
const encoded = new WeakMap<RowSensitivity, string>()

function encodeOnce(rowSensitivity: RowSensitivity): string {
  const text = encoded.get(rowSensitivity) ?? encodeRowSensitivity(rowSensitivity)
  encoded.set(rowSensitivity, text)
  return text
}

function sensitivityMissing(
  method: string,
  { layerSensitivity }: Pick<Sensitivities, 'layerSensitivity'>,
  kind: 'row' | 'layer',
  command: string,
): AppError {
  const equal = method.replace('+rows', '')
  const plain = layerSensitivity === null ? equal.replace('+allocated', '') : equal
  return methodError(
    `'${method}' needs the ${kind} sensitivity of this model, which was never measured. ` +
      `Measure it once with npx copal lab ${command}, or use '${plain}'.`,
  )
}

function methodError(message: string): AppError {
  return new AppError('invalid_request', message, { param: 'method' })
}

/** The sensitivities of linears that share a ratio; at least one of the two. */
interface LinearCosts {
  /** Measured loss of pruning each linear. */
  losses?: LayerSensitivity['linears'] | undefined
  /** Sensitivity of each linear's rows, and quantiles of the worth of its weights. */
  rows?: RowSensitivity['linears'] | undefined
}

/**
 * Allocates a ratio to linears so that the loss is minimal for the same number of pruned weights. With both kinds of
 * sensitivities it returns the mean of both allocations.
 *
 * By losses: the model assumes the loss `Σ s · e^(GROWTH · (r − r₀))` over linears, where `s` is the measured loss of a linear
 * at its ratio `r₀` while all others are pruned too. At the minimum under `Σ n r = ratio · Σ n` the marginal loss per weight is
 * the same for all linears, so `r = r₀ + (μ − ln(s / n)) / GROWTH` with one μ for all.
 *
 * By rows: the weights with the lowest worth are pruned, in whichever linear they are, so `r` is the fraction of a linear's
 * weights whose worth is less than `e^μ`.
 *
 * @param shapes the linears that share the ratio
 * @returns patterns by the name of the weight, in whole columns: they prune the ratio of all weights, or more by less than one
 * column of one linear (with the scope `matrix`, less than 1 in 10,000 of the weights more)
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
    // Where many weights have the same worth, this makes any fraction of them selectable.
    const rising = new Map(
      [...shapes.keys()].map((name) => [name, (rows[name]?.worth ?? []).map((value, k) => value + k * 1e-7)]),
    )
    found.push(ratiosAtCommonLevel(shapes, ratio, (name, level) => shareBelow(rising.get(name) ?? [], level)))
  }
  const mean = (name: string) => found.reduce((sum, of) => sum + (of.get(name) ?? ratio), 0) / found.length
  return toColumnPatterns(shapes, new Map([...shapes.keys()].map((name) => [name, mean(name)])), ratio)
}

type Shapes = ReadonlyMap<string, readonly [rows: number, cols: number]>

/** Returns the ratios at the level where they prune `ratio` of all weights, limited to the range where losses are known. */
function ratiosAtCommonLevel(
  shapes: Shapes,
  ratio: number,
  ratioAt: (name: string, level: number) => number,
): Map<string, number> {
  const low = Math.min(ratio, Math.max(MIN_RATIO, ratio - MAX_RATIO_DIFFERENCE))
  const high = Math.max(ratio, Math.min(MAX_RATIO, ratio + MAX_RATIO_DIFFERENCE))
  const ratios = (level: number) =>
    new Map([...shapes.keys()].map((name) => [name, Math.min(high, Math.max(low, ratioAt(name, level)))]))
  return ratios(bisect((level) => prunedWeights(shapes, ratios(level)) < ratio * prunedWeights(shapes, null)))
}

/** Returns the number of weights that ratios prune; the number of all weights for null. */
function prunedWeights(shapes: Shapes, ratios: ReadonlyMap<string, number> | null): number {
  let sum = 0
  for (const [name, [rows, cols]] of shapes) sum += rows * cols * (ratios ? (ratios.get(name) ?? 0) : 1)
  return sum
}

/** Returns the fraction of a linear's weights with a worth below `e^level`, by linear inter- and extrapolation of quantiles. */
function shareBelow(quantiles: readonly number[], level: number): number {
  const next = quantiles.findIndex((value) => value >= level)
  const upper = Math.min(Math.max(next < 0 ? quantiles.length - 1 : next, 1), quantiles.length - 1)
  const [low, high] = [quantiles[upper - 1] ?? 0, quantiles[upper] ?? 0]
  return (upper + (level - low) / (high - low)) / QUANTILES
}

/** Returns the natural logarithm of each linear's loss per weight at one ratio. */
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

/** Converts ratios to patterns of whole columns. */
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
  // A linear keeps at least one column.
  const hasRoom = ({ columns, cols }: { columns: number; cols: number }) => columns + 1 < cols
  // Columns are added first where rounding removed most, then to linears with the smallest columns.
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

/** Returns each linear's loss at one ratio, averaged over the same linear of neighbouring blocks. */
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

/** Returns the pattern that prunes `columns` of `cols` columns, or one more where four decimals are not precise enough. */
function patternOf(columns: number, cols: number): string {
  if (columns === 0) return DENSE
  for (let step = Math.floor((columns / cols) * PATTERN_STEPS); ; step++) {
    const text = (step / PATTERN_STEPS).toFixed(4)
    if (Math.floor(cols * Number(text)) >= columns) return text
  }
}

/** Returns the point up to which `isBelow` holds. */
function bisect(isBelow: (at: number) => boolean): number {
  let [low, high] = [-1e3, 1e3]
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2
    if (isBelow(middle)) low = middle
    else high = middle
  }
  return high
}
