/**
 * The value at a rank of unsorted values. Its branches do not depend on the values, which would be guessed wrong half of the
 * time: values are counted in buckets, and only those of the bucket with the rank are compared. Of many values only those near the
 * value in a sample are counted, because their buckets may be few, where some values are far smaller than most.
 */

/** Buckets of a histogram. */
const BUCKETS = 256
/** Fewer values than this are compared without counting. */
const FEW = 64
/** From as many values on, a sample tells which are near the rank. */
const MANY = 16_384
const SAMPLE = 1024
/** How many ranks the sample may be wrong: three standard deviations in the middle. Beyond that every value is counted. */
const MARGIN = 48
/** Multiples of it, without their whole parts, are spread evenly, whatever the number of columns. */
const GOLDEN = (Math.sqrt(5) - 1) / 2
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
  const near = count < MANY ? undefined : collectNear(from, rank, scratch)
  if (near) [from, count, left] = [scratch, near.count, near.rank]
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

/**
 * Copies the values near the rank of many values to the front of `scratch`.
 *
 * @returns how many there are, and the rank among them; nothing when the value at the rank is not among them
 * @throws RangeError when a value is not finite
 */
function collectNear(
  values: Float64Array,
  rank: number,
  scratch: Float64Array,
): { count: number; rank: number } | undefined {
  const { length } = values
  const sample = Float64Array.from(
    { length: SAMPLE },
    (_, i) => values[Math.floor(((i * GOLDEN) % 1) * length)] as number,
  ).sort()
  const middle = Math.floor((rank / length) * SAMPLE)
  const lower = sample[middle - MARGIN] ?? Number.NEGATIVE_INFINITY
  const upper = sample[middle + MARGIN] ?? Number.POSITIVE_INFINITY
  let [below, count, zero] = [0, 0, 0]
  for (let i = 0; i < length; i++) {
    const value = values[i] as number
    scratch[count] = value
    const isBelow = value < lower ? 1 : 0
    below += isBelow
    count += (value <= upper ? 1 : 0) - isBelow
    zero += value - value
  }
  if (Number.isNaN(zero)) throw new RangeError(NOT_FINITE)
  return rank < below || rank >= below + count ? undefined : { count, rank: rank - below }
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
