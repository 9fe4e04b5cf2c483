/** Two answers beside each other, in words. */
import { capitalize } from '@copal/shared/phrases.ts'
import { formatNumber, plural } from '../../format/numbers.ts'
import type { AnswerFigures } from './surprise.ts'

/** The part of an answer that is compared. */
export interface ComparedAnswer {
  name: string
  tokens: readonly { text: string }[]
  figures: Pick<AnswerFigures, 'tokensPerSecond'>
}

/** The number of tokens with which both answers begin alike. */
export function commonTokens(left: readonly { text: string }[], right: readonly { text: string }[]): number {
  const shorter = Math.min(left.length, right.length)
  for (let index = 0; index < shorter; index += 1) if (left[index]?.text !== right[index]?.text) return index
  return shorter
}

/** Ratio of speeds below which they count as equal: two runs of one mask differ as much. */
const SAME_SPEED = 1.05

/** Compares two answers that have ended. */
export function comparisonSentence(left: ComparedAnswer, right: ComparedAnswer): string {
  const common = commonTokens(left.tokens, right.tokens)
  const alike =
    common === left.tokens.length && common === right.tokens.length
      ? `Both answers are the same ${plural(common, 'token')}.`
      : common === 0
        ? 'The answers differ from the first token on.'
        : `The answers are alike for ${plural(common, 'token')}, then they part.`
  const [fast, slow] = order(left, right)
  const [fastest, slowest] = [fast.figures.tokensPerSecond, slow.figures.tokensPerSecond]
  if (fastest === null || slowest === null) return alike
  return fastest / slowest < SAME_SPEED
    ? `${alike} They came at the same speed.`
    : `${alike} ${capitalize(fast.name)} answered ${formatNumber(fastest / slowest)} × as fast.`
}

function order(left: ComparedAnswer, right: ComparedAnswer): readonly [ComparedAnswer, ComparedAnswer] {
  return (left.figures.tokensPerSecond ?? 0) >= (right.figures.tokensPerSecond ?? 0)
    ? [left, right]
    : [right, left]
}
