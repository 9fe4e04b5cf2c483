/** Numbers as the dashboard shows them: three significant digits, with their unit. A missing number is a dash. */

/** Shown instead of a number that is not known. */
export const NONE = '–'
const MINUS = '−'
/** Keeps a number and its unit on one line. */
const THIN = '\u202F'
/** From here on numbers have a letter. */
const LETTERS_FROM = 9_999.5

const threeDigits = digits(1)
const exactlyThreeDigits = digits(3)
const allDigits = new Intl.NumberFormat('en', { maximumSignificantDigits: 12 })
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** A number that may be missing. */
export type Maybe = number | null | undefined

function isKnown(value: Maybe): value is number {
  return value !== null && value !== undefined && Number.isFinite(value)
}

/** The smallest per cent that is shown with its digits. */
const MIN_PERCENT = 0.001

/** Formats with three significant digits, from ten thousand on with a letter, so that labels of axes and columns stay short. */
function digits(minimumSignificantDigits: number): (value: number) => string {
  const options = { minimumSignificantDigits, maximumSignificantDigits: 3 }
  const plain = new Intl.NumberFormat('en', options)
  const compact = new Intl.NumberFormat('en', { ...options, notation: 'compact' })
  return (value) =>
    (Math.abs(value) < LETTERS_FROM ? plain.format(value === 0 ? 0 : value) : compact.format(value))
      .replace('K', 'k')
      .replace('-', MINUS)
}

/** Formats with three significant digits: `0.212`, `1,230`, `−0.05`, `12.3k`, `4.56M`. */
export function formatNumber(value: Maybe): string {
  return isKnown(value) ? threeDigits(value) : NONE
}

/** Formats with exactly three significant digits, for columns of alike numbers: `7.20`. */
export function formatExact(value: Maybe): string {
  return isKnown(value) ? exactlyThreeDigits(value) : NONE
}

/** Formats a count: `1,234`, from ten thousand on `12.3k`, `4.56M`, `7.89B`. */
export function formatCount(value: Maybe): string {
  if (!isKnown(value)) return NONE
  return Math.abs(value) < LETTERS_FROM ? whole.format(value).replace('-', MINUS) : threeDigits(value)
}

/** Formats a count for an axis: between two small whole numbers there is nothing to count, and no label. */
export function formatCountTick(value: number): string {
  return Math.abs(value) < 10 && !Number.isInteger(value) ? '' : formatCount(value)
}

/** Formats with all of its digits, for values that people set: `20,000`, `99.99 %`. */
export function formatPrecise(value: number, unit?: string): string {
  const number = allDigits.format(value).replace('-', MINUS)
  return unit === undefined ? number : `${number}${THIN}${unit}`
}

/** Formats a number with a unit: `210 ms`. */
function formatUnit(value: Maybe, unit: string): string {
  const number = formatNumber(value)
  return number === NONE ? NONE : `${number}${THIN}${unit}`
}

/** Formats a fraction as per cent: `0.4123` as `41.2 %`, and less than a thousandth of a per cent as `<0.001 %`. */
export function formatShare(fraction: Maybe): string {
  if (isKnown(fraction) && fraction > 0 && fraction < MIN_PERCENT / 100) return `<${MIN_PERCENT}${THIN}%`
  return formatUnit(fraction === null || fraction === undefined ? fraction : fraction * 100, '%')
}

/** Formats progress, 0 to 1, in whole per cent: `43 %`. */
export function formatProgress(progress: number): string {
  return formatShare(Math.round(progress * 100) / 100)
}

const BYTE_SCALES: readonly Scale[] = [
  [1e12, 'TB'],
  [1e9, 'GB'],
  [1e6, 'MB'],
  [1e3, 'kB'],
  [1, 'B'],
]

/** Formats bytes: `12.3 MB`, in powers of a thousand. */
export function formatBytes(bytes: Maybe): string {
  if (!isKnown(bytes)) return NONE
  const [scale, unit] = scaleOf(Math.abs(bytes), BYTE_SCALES)
  return formatUnit(bytes / scale, unit)
}

/** Formats milliseconds: `210 ms`, `1.23 s`, `3 min 20 s`. */
export function formatMs(ms: Maybe): string {
  if (!isKnown(ms)) return NONE
  if (Math.abs(ms) < 999.5) return formatUnit(ms, 'ms')
  return Math.abs(ms) < 59_950 ? formatUnit(ms / 1000, 's') : formatDuration(ms / 1000)
}

/** Formats a duration by its two largest units: `40 s`, `3 min`, `2 h 10 min`, `3 d`. */
export function formatDuration(seconds: Maybe): string {
  if (!isKnown(seconds)) return NONE
  const total = Math.max(0, Math.round(seconds))
  if (total < 60) return `${total}${THIN}s`
  const minutes = Math.round(total / 60)
  if (total < 600) return joinUnits(Math.floor(total / 60), 'min', total % 60, 's')
  if (minutes < 60) return `${minutes}${THIN}min`
  if (minutes < 24 * 60) return joinUnits(Math.floor(minutes / 60), 'h', minutes % 60, 'min')
  const hours = Math.round(minutes / 60)
  return joinUnits(Math.floor(hours / 24), 'd', hours % 24, 'h')
}

function joinUnits(large: number, largeUnit: string, small: number, smallUnit: string): string {
  const first = `${large}${THIN}${largeUnit}`
  return small === 0 ? first : `${first} ${small}${THIN}${smallUnit}`
}

/** The relative change of perplexity that a difference of losses means; nats a token. */
export function perplexityChange(nats: number): number {
  return Math.expm1(nats)
}

/** Formats a difference of losses as a signed change of perplexity: `0.21` nats as `+23.4 %`. */
export function formatLossDifference(nats: Maybe): string {
  if (!isKnown(nats)) return NONE
  return formatSignedPercent(perplexityChange(nats) * 100)
}

/** Formats a signed change in per cent with exactly three digits, so that columns align: `+2.10 %`. */
export function formatSignedPercent(percent: number): string {
  return signed(percent, '%', exactlyThreeDigits)
}

/** Formats a signed change in per cent for an axis: `+2 %`. */
export function formatPercentTick(percent: number): string {
  return signed(percent, '%', threeDigits)
}

/** Formats a signed number of nats: `+0.21 nats`. */
export function formatNats(nats: Maybe): string {
  return isKnown(nats) ? signed(nats, 'nats', threeDigits) : NONE
}

function signed(value: number, unit: string, format: (value: number) => string): string {
  const rounded = Math.abs(value) < MIN_PERCENT / 2 ? 0 : Number(value.toPrecision(3))
  const number = format(Math.abs(rounded))
  return `${rounded > 0 ? '+' : rounded < 0 ? MINUS : ''}${rounded === 0 ? '0' : number}${THIN}${unit}`
}

/** Counts a noun: `1 node`, `3 nodes`. */
export function plural(count: number, noun: string, nouns = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : nouns}`
}

type Scale = readonly [scale: number, unit: string]

/** The largest scale whose numbers do not round to less than 1; the smallest if there is none. */
function scaleOf(value: number, scales: readonly Scale[]): Scale {
  const found = scales.find(([scale]) => Number((value / scale).toPrecision(3)) >= 1)
  return found ?? scales.at(-1) ?? [1, '']
}
