import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { Values } from '../statistics/values.ts'

/** Swaps of one row at most: 200 lower the output error further, and held-out perplexity not at all. */
const MAX_ROUNDS = 50
/** A swap must gain more than this share of the mean error of a row. */
const MIN_RELATIVE_GAIN = 1e-9

/**
 * One linear while its mask is refined. Every function here works on a range of rows, and rows do not depend on
 * each other: the arrays may lie in shared memory, and which thread takes which rows does not change a bit.
 *
 * With E the pruned part of W and `H = Σ x xᵀ / tokens`, `tr(E H Eᵀ)` is the squared output error, mean over
 * tokens. H is symmetric, so its rows serve as columns.
 */
export interface ExchangeLinear {
  rows: number
  cols: number
  /** m of n:m, where a swap stays within one group of m columns; null: anywhere in the row. */
  group: number | null
  /** W `[rows, cols]` */
  weights: Values
  /** H `[cols, cols]` */
  moment: Float64Array
  /** Mask bits `[rows, ceil(cols/8)]`, changed in place. */
  bits: Uint8Array
  /** `E H` of the mask before any swap, `[rows, cols]`; see {@link copyPrunedWeights}. */
  gradient: Float64Array
  /** Error of each row under its present mask. */
  errors: Float64Array
}

/** E: the weights that the mask prunes, `[rows, cols]`, into `pruned`. */
export function copyPrunedWeights({ rows, cols, weights, bits }: ExchangeLinear, pruned: Float64Array): void {
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    // Which are kept is as good as random: a product is several times as fast as a branch.
    for (let col = 0; col < cols; col++, i++)
      pruned[i] = (weights[i] as number) * (1 - keptBit(bits, row * width, col))
  }
}

/** Computes `errors` of the mask that `gradient` belongs to. */
export function computeRowErrors({ rows, cols, weights, bits, gradient, errors }: ExchangeLinear): void {
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    let error = 0
    for (let col = 0; col < cols; col++, i++)
      error += (weights[i] as number) * (1 - keptBit(bits, row * width, col)) * (gradient[i] as number)
    errors[row] = error
  }
}

/** What a swap must gain, from the errors of the mask that the refinement starts with. */
export function minExchangeGain({ rows, errors }: Pick<ExchangeLinear, 'rows' | 'errors'>): number {
  return (MIN_RELATIVE_GAIN * totalError(errors)) / rows
}

/** `tr(E H Eᵀ)` of the present mask. */
export function totalError(errors: Float64Array): number {
  return errors.reduce((sum, error) => sum + error, 0)
}

/**
 * Refines rows `first … end`, whose `gradient` and `errors` belong to `bits`, and brings `bits` and `errors` up to
 * date: in each round it prunes the kept weight p that costs least and returns the pruned weight q that then
 * saves most, if the two together lower the error by more than `floor`. With n:m both come from one group, of
 * which each is the best alone, and the best group of the row is taken. So no row's error ever rises, and every
 * row, or group, keeps as many weights as before.
 *
 * With `g = E H`, pruning p costs `W_p² H_pp + 2 W_p g_p`; after it, returning q changes the error by
 * `W_q² H_qq − 2 W_q (g_q + W_p H_pq)`. Of equal candidates the lower column goes first.
 */
export function exchangeRows(linear: ExchangeLinear, first: number, end: number, floor: number): void {
  const { cols, moment, errors } = linear
  const line: ReorderedRow = {
    columns: new Int32Array(cols),
    weights: new Float64Array(cols),
    own: new Float64Array(cols),
    gradient: new Float64Array(cols),
    update: { pruned: 0, prunedWeight: 0, returned: 0, returnedWeight: 0 },
  }
  for (let row = first; row < end; row++) {
    const runs = loadRow(linear, row, line)
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const swap = bestExchange(line, moment, cols, runs)
      if (!(swap.change < -floor)) break
      applyExchange(line, cols, swap)
      errors[row] = (errors[row] as number) + swap.change
    }
    storeRow(linear, row, line, runs)
  }
}

/**
 * One row, reordered: within each run (a group of n:m, or the whole row) the kept weights come first, so that
 * each loop goes over exactly the candidates it looks for.
 */
interface ReorderedRow {
  columns: Int32Array
  weights: Float64Array
  /** `W² diag(H)` */
  own: Float64Array
  /** `E H` before `update`. */
  gradient: Float64Array
  /** The last swap, which the next pass over the row brings into `gradient`: offsets of two rows of H and their weights. */
  update: { pruned: number; prunedWeight: number; returned: number; returnedWeight: number }
}

/** `size` places each, of which the first `kept` are kept. */
interface RowGroups {
  size: number
  kept: number
  /** The weight to return is chosen in view of the one to prune; in a group each is the best alone. */
  coupled: boolean
}

/** Places of the weight to prune and the weight to return, and what that changes the error by. */
interface Exchange {
  prune: number
  restore: number
  change: number
}

function loadRow(linear: ExchangeLinear, row: number, line: ReorderedRow): RowGroups {
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
        line.columns[place] = col
        line.weights[place] = weight
        line.own[place] = weight * weight * (moment[col * cols + col] as number)
        line.gradient[place] = gradient[row * cols + col] as number
        place++
      }
      if (wanted === 1) kept = place - begin
    }
  }
  line.update = { pruned: 0, prunedWeight: 0, returned: 0, returnedWeight: 0 }
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

/** Brings the gradient up to date on the way. One function, because groups are too short to pay for calls. */
function bestExchange(
  line: ReorderedRow,
  moment: Float64Array,
  cols: number,
  { size, kept, coupled }: RowGroups,
): Exchange {
  const { columns, weights, own, gradient } = line
  const { pruned, prunedWeight, returned, returnedWeight } = line.update
  const best: Exchange = { prune: -1, restore: -1, change: Number.POSITIVE_INFINITY }
  for (let begin = 0; begin < cols; begin += size) {
    let prune = -1
    let cost = Number.POSITIVE_INFINITY
    for (let i = begin; i < begin + kept; i++) {
      const col = columns[i] as number
      const g =
        (gradient[i] as number) +
        (prunedWeight * (moment[pruned + col] as number) -
          returnedWeight * (moment[returned + col] as number))
      gradient[i] = g
      const change = (own[i] as number) + 2 * (weights[i] as number) * g
      if (change < cost || (change === cost && col < (columns[prune] as number))) {
        cost = change
        prune = i
      }
    }
    // Nothing is kept.
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
          returnedWeight * (moment[returned + col] as number))
      gradient[i] = g
      const after = g + coupling * (moment[offset + col] as number)
      const change = (own[i] as number) - 2 * (weights[i] as number) * after
      if (change < gain || (change === gain && col < (columns[restore] as number))) {
        gain = change
        restore = i
      }
    }
    // Nothing is pruned.
    if (restore < 0) continue
    const uncounted = (weight - coupling) * (moment[offset + (columns[restore] as number)] as number)
    const change = cost + gain - 2 * (weights[restore] as number) * uncounted
    if (change < best.change) {
      best.prune = prune
      best.restore = restore
      best.change = change
    }
  }
  return best
}

/** Exchanges the two places and notes the swap for the next pass. */
function applyExchange(line: ReorderedRow, cols: number, { prune, restore }: Exchange): void {
  const { columns, weights, own, gradient } = line
  line.update = {
    pruned: (columns[prune] as number) * cols,
    prunedWeight: weights[prune] as number,
    returned: (columns[restore] as number) * cols,
    returnedWeight: weights[restore] as number,
  }
  for (const values of [columns, weights, own, gradient]) {
    const moved = values[prune] as number
    values[prune] = values[restore] as number
    values[restore] = moved
  }
}

/** 1 where the column is kept, of the row whose bits begin at byte `first`. */
function keptBit(bits: Uint8Array, first: number, col: number): number {
  return ((bits[first + (col >> 3)] as number) >> (col & 7)) & 1
}
