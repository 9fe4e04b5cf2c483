import { AppError } from '@copal/shared/errors.ts'
import { DENSE } from '@copal/shared/mask/metadata.ts'
import { parsePattern } from '@copal/shared/mask/pattern.ts'
import type { SelectionSpec } from '@copal/shared/wire/node-rpc.ts'
import { BLOCK_LINEARS, linearName } from '../model/config.ts'
import type { DenseModel } from '../model/dense-model.ts'
import type { LayerSensitivity } from '../model/layer-sensitivity.ts'
import { METHOD_NAMES, parseMethod } from './methods/registry.ts'
import { linearShapes } from './patterns.ts'

/**
 * How fast the loss of a linear grows with its ratio: `e^(GROWTH · ratio)`. Of SmolLM2-135M's loss at 40, 50 and 60 %;
 * with 6, masks are worse (`docs/measurements.md`).
 */
const GROWTH = 9
/** A linear's ratio differs from the model's by no more than this: the growth is only known near it. */
const FARTHEST = 0.3
/** Nothing is kept whole or pruned whole by allocation, unless the model's own ratio is nearer to that. */
const [LEAST, MOST] = [0.05, 0.95]
/** Decimals that a pattern has. */
const STEPS = 10_000

/**
 * The selection with the ratio of every linear written out, where the method shares the ratio out (`+allocated`); any
 * other as it is. Linears that the selection names keep what it says, and the others share the ratio among them.
 *
 * @throws AppError `invalid_request`, param `method`: the pattern is no ratio, or the sensitivity of the model is not known
 */
export function withAllocation(
  { config, layerSensitivity }: Pick<DenseModel, 'config' | 'layerSensitivity'>,
  selection: SelectionSpec,
): SelectionSpec {
  if (!parseMethod(selection.method).allocated) return selection
  const plain = selection.method.replace('+allocated', '')
  const pattern = parsePattern(selection.pattern)
  if (pattern.kind !== 'ratio') {
    throw new AppError(
      'invalid_request',
      `'${selection.method}' shares a ratio of pruned weights out over the linears, and ${selection.pattern} leaves nothing ` +
        `to share out. Use '${plain}', or a ratio.`,
      { param: 'method' },
    )
  }
  if (layerSensitivity === null) {
    throw new AppError(
      'invalid_request',
      `'${selection.method}' needs to know what pruning each part of this model costs, and that was never measured. ` +
        `Measure it once with copal lab sensitivity, or use '${plain}'.`,
      { param: 'method' },
    )
  }
  const named = selection.patterns ?? {}
  const shapes = new Map([...linearShapes(config)].filter(([name]) => !Object.hasOwn(named, name)))
  return {
    ...selection,
    patterns: { ...allocateRatios(shapes, layerSensitivity.divergence, pattern.ratio), ...named },
  }
}

/** The methods that a model can be pruned by: those that allocate only where its sensitivity is known. */
export function methodsFor({ layerSensitivity }: Pick<DenseModel, 'layerSensitivity'>): string[] {
  return METHOD_NAMES.filter((name) => layerSensitivity !== null || !parseMethod(name).allocated)
}

/**
 * Ratios of single linears that cost the model the least at the same number of pruned weights.
 *
 * The loss is taken to be the sum over linears of `s · e^(GROWTH · (r − ratio))`, where `s`, the divergence with this
 * linear alone pruned, is that of its block shared out as the model's is over its kinds of linears. At the least loss
 * under `Σ n r = ratio · Σ n` every linear has the same loss a weight at the margin, so `r = ratio + (μ − ln(s / n)) /
 * GROWTH` with one μ for all, cut to the range in which that is known.
 *
 * @param shapes the linears that share the ratio
 * @returns patterns by the name of the weight, in whole columns: they prune the ratio of all weights, or more by less
 * than one column of one linear
 */
export function allocateRatios(
  shapes: ReadonlyMap<string, readonly [rows: number, cols: number]>,
  { linears: byLinear, blocks }: LayerSensitivity['divergence'],
  ratio: number,
): Record<string, string> {
  const linears = blocks.flatMap((block, layer) =>
    BLOCK_LINEARS.flatMap((linear) => {
      const name = linearName(layer, linear)
      const shape = shapes.get(name)
      if (!shape) return []
      const [rows, cols] = shape
      // Constants do not matter: μ takes them up.
      return [{ name, rows, cols, lossAWeight: Math.log((block * byLinear[linear]) / (rows * cols)) }]
    }),
  )
  const least = Math.min(ratio, Math.max(LEAST, ratio - FARTHEST))
  const most = Math.max(ratio, Math.min(MOST, ratio + FARTHEST))
  const ratioAt = (loss: number, level: number) =>
    Math.min(most, Math.max(least, ratio + (level - loss) / GROWTH))
  const weights = linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const prunedAt = (level: number) =>
    linears.reduce((sum, { rows, cols, lossAWeight }) => sum + rows * cols * ratioAt(lossAWeight, level), 0)
  const level = bisect((at) => prunedAt(at) < ratio * weights)

  const counts = linears.map(({ name, rows, cols, lossAWeight }) => {
    const columns = ratioAt(lossAWeight, level) * cols
    return { name, rows, cols, columns: Math.floor(columns), rest: columns - Math.floor(columns) }
  })
  let missing = ratio * weights - counts.reduce((sum, { rows, columns }) => sum + rows * columns, 0)
  // A row keeps something.
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

/** The pattern that prunes so many of `cols` columns, or one more where four decimals cannot say it. */
function patternOf(columns: number, cols: number): string {
  if (columns === 0) return DENSE
  for (let step = Math.floor((columns / cols) * STEPS); ; step++) {
    const text = (step / STEPS).toFixed(4)
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
