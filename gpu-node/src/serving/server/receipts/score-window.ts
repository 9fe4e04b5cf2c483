import { hash } from 'node:crypto'
import type { ClientText } from '../prompts/client-text.ts'

/** The part of a prompt that is scored. */
export interface ScoreWindow {
  /** The scored tokens and those between and before them, which are context. */
  tokens: readonly number[]
  /** Positions in `tokens` that are scored, ascending. */
  scored: readonly number[]
}

/**
 * Draws the window of a client's new text. The text is divided into equal windows of at most `windowTokens`, and the
 * request's id decides which one is taken, so all tokens are equally likely, and the same request gives the same
 * window on every node. The context of a window is the tokens before it in the prompt, as many as it may have itself.
 *
 * @param options `windowTokens` is at most half of `maxTokens`, which bounds window and context; `bos` precedes a context
 *   that is cut off, if the prompt starts with it
 * @returns null when fewer than `minTokens` tokens could be scored
 */
export function drawWindow(
  { tokens, own }: ClientText,
  {
    requestId,
    windowTokens,
    minTokens,
    maxTokens,
    bos,
  }: {
    requestId: string
    windowTokens: number
    minTokens: number
    maxTokens: number
    bos: readonly number[]
  },
): ScoreWindow | null {
  // The first token of the prompt has no context, so it cannot be scored.
  const scorable = own.filter((position) => position > 0)
  if (scorable.length < minTokens) return null
  const windows = Math.ceil(scorable.length / windowTokens)
  const drawn = Math.floor(uniform(requestId) * windows)
  const bound = (window: number) => Math.floor((window * scorable.length) / windows)
  const chosen = scorable.slice(bound(drawn), bound(drawn + 1))
  const start = Math.max(0, chosen[0]! - Math.min(windowTokens, maxTokens - windowTokens))
  const prefix = start > 0 && bos.every((token, i) => tokens[i] === token) ? bos : []
  const from = start + prefix.length
  const scored = chosen.filter((position) => position < start + maxTokens)
  return {
    tokens: [...prefix, ...tokens.slice(from, scored.at(-1)! + 1)],
    scored: scored.map((position) => position - start),
  }
}

/** Maps an id to a number in [0, 1). */
function uniform(id: string): number {
  return Number.parseInt(hash('sha256', id, 'hex').slice(0, 8), 16) / 2 ** 32
}
