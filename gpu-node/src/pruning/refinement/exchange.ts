import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { Values } from '../statistics/values.ts'

/** Maximum exchanges per row. 200 would lower the output error further but leave held-out perplexity the same. */
const MAX_EXCHANGES = 50
/** An exchange must gain more than this fraction of the mean error of a row. */
const MIN_RELATIVE_GAIN = 1e-9

/**
 * One linear while its mask is refined.
 *
 * Every row is refined independently of the others. So the arrays may be in shared memory, and the result does not
 * depend on which thread refines which rows.
 *
 * With E the pruned part of W and `H = Σ x xᵀ / tokens`, `tr(E H Eᵀ)` is the squared output error, averaged over
 * tokens. H is symmetric, so the code reads its rows where the formulas name its columns.
 */
export interface ExchangeLinear {
  rows: number
  cols: number
  /** The m of n:m: weights are exchanged within one group of m columns. Null: anywhere in the row. */
  group: number | null
  /** W `[rows, cols]` */
  weights: Values
  /** H `[cols, cols]` */
  moment: Float64Array
  /** Mask bits `[rows, ceil(cols/8)]`, refined in place. */
  bits: Uint8Array
  /** `E H` of the mask before the first exchange, `[rows, cols]`; for E see {@link copyPrunedWeights}. */
  gradient: Float64Array
  /** Output error of each row under its current mask, `[rows]`. */
  errors: Float64Array
}

/** Writes E into `pruned`, `[rows, cols]`: the weights that the mask prunes, 0 elsewhere. */
export function copyPrunedWeights({ rows, cols, weights, bits }: ExchangeLinear, pruned: Float64Array): void {
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    // The bits are unpredictable, so a product is several times as fast as a branch.
    for (let col = 0; col < cols; col++, i++)
      pruned[i] = (weights[i] as number) * (1 - keptBit(bits, row * width, col))
  }
}

/** Computes `errors` from `gradient` and the mask that it was computed for. */
export function computeRowErrors({ rows, cols, weights, bits, gradient, errors }: ExchangeLinear): void {
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    let error = 0
    for (let col = 0; col < cols; col++, i++)
      error += (weights[i] as number) * (1 - keptBit(bits, row * width, col)) * (gradient[i] as number)
    errors[row] = error
  }
}

/** Returns the error reduction that an exchange must exceed, given the errors before the refinement. */
export function minExchangeGain({ rows, errors }: Pick<ExchangeLinear, 'rows' | 'errors'>): number {
  return (MIN_RELATIVE_GAIN * totalError(errors)) / rows
}

/** Returns `tr(E H Eᵀ)` of the current mask: the sum of the row errors. */
export function totalError(errors: Float64Array): number {
  return errors.reduce((sum, error) => sum + error, 0)
}

/**
 * Refines rows `first … end - 1`: updates `bits` and `errors`. On entry `gradient` and `errors` belong to `bits`.
 *
 * Each exchange prunes the kept weight p that costs least, and restores the pruned weight q that then saves most, if
 * the two together lower the error by more than `floor`. With n:m, p and q are each the best of one group, chosen
 * independently, and the group with the largest gain is used. So no row's error ever rises, and every row, or group,
 * keeps as many weights as before.
 *
 * With `g = E H`, pruning p costs `W_p² H_pp + 2 W_p g_p`; after it, restoring q changes the error by
 * `W_q² H_qq − 2 W_q (g_q + W_p H_pq)`. Ties go to the lower column.
 *
 * @see Zimmer et al. 2025, SparseSwaps, arXiv 2512.10922, for exchange on the Gram matrix
 */
export function exchangeRows(linear: ExchangeLinear, first: number, end: number, floor: number): void {
  const { cols, moment, errors } = linear
  const reordered: ReorderedRow = {
    columns: new Int32Array(cols),
    weights: new Float64Array(cols),
    ownCost: new Float64Array(cols),
    gradient: new Float64Array(cols),
    update: { pruned: 0, prunedWeight: 0, restored: 0, restoredWeight: 0 },
  }
  for (let row = first; row < end; row++) {
    const groups = loadRow(linear, row, reordered)
    for (let count = 0; count < MAX_EXCHANGES; count++) {
      const exchange = bestExchange(reordered, moment, cols, groups)
      if (!(exchange.change < -floor)) break
      applyExchange(reordered, cols, exchange)
      errors[row] = (errors[row] as number) + exchange.change
    }
    storeRow(linear, row, reordered, groups)
  }
}

/**
 * One row, reordered so that within each group (of n:m, or the whole row) the kept weights come first. Each loop then
 * visits only its candidates.
 */
interface ReorderedRow {
  /** Original column at each place. */
  columns: Int32Array
  weights: Float64Array
  /** `W² diag(H)` */
  ownCost: Float64Array
  /** `E H` before `update`. */
  gradient: Float64Array
  /** The last exchange: offsets of two rows of H, and two weights. The next pass over the row adds it to `gradient`. */
  update: { pruned: number; prunedWeight: number; restored: number; restoredWeight: number }
}

/** The groups of a row: `size` places each, of which the first `kept` are kept. */
interface RowGroups {
  size: number
  kept: number
  /** Whether the choice of the weight to restore accounts for the pruned one. Not within groups of n:m. */
  coupled: boolean
}

/** The places of the weight to prune and of the weight to restore, and the resulting change of the error. */
interface Exchange {
  prune: number
  restore: number
  change: number
}

function loadRow(linear: ExchangeLinear, row: number, reordered: ReorderedRow): RowGroups {
  const { cols, group, weights, moment, bits, gradient } = linear
  const size = group ?? cols
  const first = row * rowBytes(cols)
  let kept = 0
  for (let begin = 0; begin < cols; begin += size) {
    let place = begin
    for (const wanted of [1, 0]) {
      for (let col = begin; col < begin + size; col++) {
        if (keptBit(bits, first, col) !== wanted) continue
        const weight = weights[row * cols + col] as number
        reordered.columns[place] = col
        reordered.weights[place] = weight
        reordered.ownCost[place] = weight * weight * (moment[col * cols + col] as number)
        reordered.gradient[place] = gradient[row * cols + col] as number
        place++
      }
      if (wanted === 1) kept = place - begin
    }
  }
  reordered.update = { pruned: 0, prunedWeight: 0, restored: 0, restoredWeight: 0 }
  return { size, kept, coupled: group === null }
}

function storeRow(
  { cols, bits }: ExchangeLinear,
  row: number,
  { columns }: ReorderedRow,
  { size, kept }: RowGroups,
): void {
  const first = row * rowBytes(cols)
  bits.fill(0, first, first + rowBytes(cols))
  for (let begin = 0; begin < cols; begin += size) {
    for (let place = begin; place < begin + kept; place++) {
      const col = columns[place] as number
      const at = first + (col >> 3)
      bits[at] = (bits[at] as number) | (1 << (col & 7))
    }
  }
}

/**
 * Finds the best exchange of a row, and adds the last exchange to the gradient in the same pass. One function, because
 * calls would take longer than the short loops over a group.
 */
function bestExchange(
  reordered: ReorderedRow,
  moment: Float64Array,
  cols: number,
  { size, kept, coupled }: RowGroups,
): Exchange {
  const { columns, weights, ownCost, gradient } = reordered
  const { pruned, prunedWeight, restored, restoredWeight } = reordered.update
  const best: Exchange = { prune: -1, restore: -1, change: Number.POSITIVE_INFINITY }
  for (let begin = 0; begin < cols; begin += size) {
    let prune = -1
    let cost = Number.POSITIVE_INFINITY
    for (let i = begin; i < begin + kept; i++) {
      const col = columns[i] as number
      const g =
        (gradient[i] as number) +
        (prunedWeight * (moment[pruned + col] as number) -
          restoredWeight * (moment[restored + col] as number))
      gradient[i] = g
      const change = (ownCost[i] as number) + 2 * (weights[i] as number) * g
      if (change < cost || (change === cost && col < (columns[prune] as number))) {
        cost = change
        prune = i
      }
    }
    // The group keeps no weight.
    if (prune < 0) continue
    const weight = weights[prune] as number
    const offset = (columns[prune] as number) * cols
    const coupling = coupled ? weight : 0
    let restore = -1
    let gain = Number.POSITIVE_INFINITY
    for (let i = begin + kept; i < begin + size; i++) {
      const col = columns[i] as number
      const g =
        (gradient[i] as number) +
        (prunedWeight * (moment[pruned + col] as number) -
          restoredWeight * (moment[restored + col] as number))
      gradient[i] = g
      const after = g + coupling * (moment[offset + col] as number)
      const change = (ownCost[i] as number) - 2 * (weights[i] as number) * after
      if (change < gain || (change === gain && col < (columns[restore] as number))) {
        gain = change
        restore = i
      }
    }
    // The group prunes no weight.
    if (restore < 0) continue
    const uncoupled = (weight - coupling) * (moment[offset + (columns[restore] as number)] as number)
    const change = cost + gain - 2 * (weights[restore] as number) * uncoupled
    if (change < best.change) {
      best.prune = prune
      best.restore = restore
      best.change = change
    }
  }
  return best
}

/** Exchanges the two places, and records the exchange for the next pass. */
function applyExchange(reordered: ReorderedRow, cols: number, { prune, restore }: Exchange): void {
  const { columns, weights, ownCost, gradient } = reordered
  reordered.update = {
    pruned: (columns[prune] as number) * cols,
    prunedWeight: weights[prune] as number,
    restored: (columns[restore] as number) * cols,
    restoredWeight: weights[restore] as number,
  }
  for (const values of [columns, weights, ownCost, gradient]) {
    const moved = values[prune] as number
    values[prune] = values[restore] as number
    values[restore] = moved
  }
}

/** Returns 1 if the mask keeps column `col` of the row whose bits begin at byte `first`, else 0. */
function keptBit(bits: Uint8Array, first: number, col: number): number {
  return ((bits[first + (col >> 3)] as number) >> (col & 7)) & 1
}
