/** The surprise of tokens, for their tint and for the figures below a column. */

/** The steps of the tint, from expected to very surprising. */
export const TINTS = 5
/** Surprise at which each step above the first begins, nats: a probability below 50 %, 20 %, 5 %, 1 %. */
const STEPS = [Math.LN2, Math.log(5), Math.log(20), Math.log(100)] as const

/** The step of a token's tint, 0 to {@link TINTS} − 1. */
export function tintOf(surprise: number | undefined): number {
  if (surprise === undefined) return 0
  return STEPS.filter((begin) => surprise >= begin).length
}

/** Describes a token's surprise: `probability 12 %, 2.12 nats`. */
export function describeSurprise(surprise: number | undefined): string {
  if (surprise === undefined) return 'no log-probability'
  const percent = Math.exp(-surprise) * 100
  const shown = percent >= 99.95 ? '100' : percent >= 0.1 ? percent.toPrecision(3) : '< 0.1'
  return `probability ${Number.isNaN(Number(shown)) ? shown : Number(shown)} %, ${surprise.toFixed(2)} nats`
}

/** Figures of one answer. */
export interface AnswerFigures {
  tokens: number
  /** Mean surprise, nats a token; null without log-probabilities. */
  meanSurprise: number | null
  /** Time to the first token and in all, milliseconds; null before. */
  firstTokenMs: number | null
  totalMs: number | null
  /** Tokens after the first, a second; null for fewer than two. */
  tokensPerSecond: number | null
}

/** Sums up an answer. Times are in milliseconds of one clock. */
export function figuresOf(
  tokens: readonly { surprise: number | undefined }[],
  { sentMs, firstMs, lastMs }: { sentMs: number; firstMs: number | undefined; lastMs: number | undefined },
): AnswerFigures {
  const scored = tokens.flatMap(({ surprise }) => (surprise === undefined ? [] : [surprise]))
  const spanMs = firstMs === undefined || lastMs === undefined ? 0 : lastMs - firstMs
  return {
    tokens: tokens.length,
    meanSurprise: scored.length === 0 ? null : scored.reduce((sum, value) => sum + value, 0) / scored.length,
    firstTokenMs: firstMs === undefined ? null : firstMs - sentMs,
    totalMs: lastMs === undefined ? null : lastMs - sentMs,
    tokensPerSecond: tokens.length > 1 && spanMs > 0 ? ((tokens.length - 1) * 1000) / spanMs : null,
  }
}
