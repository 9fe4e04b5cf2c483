/**
 * The value at a rank of unsorted values. Its branches do not depend on the values, which would be guessed wrong half of the
 * time: values are counted in buckets, and only those of the bucket with the rank are compared.
 */

/** Buckets of a histogram. */
const BUCKETS = 256
/** Fewer values than this are compared without counting. */
const FEW = 64
/** The bits of an infinity's upper half; those of finite numbers are less, without the sign. */
const INFINITE = 0x7ff00000

const counts = new Uint32Array(BUCKETS)

/**
 * Returns the value at index `rank` of the sorted `values[begin … end)`. Of zeros it may return either sign.
 *
 * @param scratch at least as long, overwritten; not the same array
 * @throws RangeError when a value is not finite
 */
export function nthSmallest(
  values: Float64Array,
  [begin, end]: readonly [begin: number, end: number],
  rank: number,
  scratch: Float64Array,
): number {
  if (end - begin < FEW) {
    for (let i = begin; i < end; i++) scratch[i - begin] = finite(values[i] as number)
    return quickselect(scratch, end - begin, rank)
  }
  let [from, count, left] = [values.subarray(begin, end), end - begin, rank]
  let keys = upperHalves(from)
  for (;;) {
    const { least, greatest } = keyRange(keys, count)
    const scale = BUCKETS / (greatest - least + 1)
    counts.fill(0)
    for (let i = 1; i < 2 * count; i += 2) {
      const bucket = ((orderedKey(keys[i] as number) - least) * scale) | 0
      counts[bucket] = (counts[bucket] as number) + 1
    }
    let bucket = 0
    while (left >= (counts[bucket] as number)) left -= counts[bucket++] as number
    let collected = 0
    for (let i = 0; i < count; i++) {
      const value = from[i] as number
      scratch[collected] = value
      collected += (((orderedKey(keys[2 * i + 1] as number) - least) * scale) | 0) === bucket ? 1 : 0
    }
    // Values whose upper halves are all alike are rarely many.
    if (collected < FEW || least === greatest) return quickselect(scratch, collected, left)
    if (from !== scratch) [from, keys] = [scratch, upperHalves(scratch)]
    count = collected
  }
}

/** The upper and lower halves of values as integers: that of value i is at 2i + 1. */
function upperHalves(values: Float64Array): Int32Array {
  return new Int32Array(values.buffer, values.byteOffset, 2 * values.length)
}

/** Maps the upper half of a number to an integer that is ordered as the numbers are. */
function orderedKey(upper: number): number {
  return upper ^ ((upper >> 31) & 0x7fffffff)
}

/**
 * Returns the least and the greatest key.
 *
 * @throws RangeError when a value is not finite
 */
function keyRange(keys: Int32Array, count: number): { least: number; greatest: number } {
  let [least, greatest, largest] = [orderedKey(keys[1] as number), orderedKey(keys[1] as number), 0]
  for (let i = 1; i < 2 * count; i += 2) {
    const upper = keys[i] as number
    const key = orderedKey(upper)
    least = Math.min(least, key)
    greatest = Math.max(greatest, key)
    largest = Math.max(largest, upper & 0x7fffffff)
  }
  if (largest >= INFINITE) throw new RangeError(NOT_FINITE)
  return { least, greatest }
}

const NOT_FINITE = 'a score is not finite, so the weights or the statistics are not finite'

function finite(value: number): number {
  if (!Number.isFinite(value)) throw new RangeError(NOT_FINITE)
  return value
}

/** Returns the value at index `rank` of the sorted first `count` values, and reorders them: Hoare's selection. */
function quickselect(values: Float64Array, count: number, rank: number): number {
  let low = 0
  let high = count - 1
  while (low < high) {
    const pivot = median(values[low] as number, values[(low + high) >> 1] as number, values[high] as number)
    let i = low
    let j = high
    while (i <= j) {
      while ((values[i] as number) < pivot) i++
      while ((values[j] as number) > pivot) j--
      if (i <= j) {
        const swapped = values[i] as number
        values[i++] = values[j] as number
        values[j--] = swapped
      }
    }
    if (rank <= j) high = j
    else if (rank >= i) low = i
    else break
  }
  return values[rank] as number
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
}
