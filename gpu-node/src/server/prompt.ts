import { contextExceeded } from '../engine/refusals.ts'

/** Characters a token stands for at most in all but the oddest text. */
const CHARACTERS_PER_TOKEN = 8

/** Cutting a text may change how its last few characters are tokenised. */
const CUT_SLACK_TOKENS = 16

/**
 * Tokenises a prompt. One that is certainly too long is refused by its beginning: tokenising a
 * megabyte takes about a second, in which nothing else on this thread would move.
 *
 * @throws AppError `context_length_exceeded`
 */
export function encodePrompt(
  encode: (text: string) => number[],
  text: string,
  contextLength: number,
): number[] {
  const most = CHARACTERS_PER_TOKEN * contextLength
  if (text.length > most) {
    const beginning = encode(text.slice(0, most)).length
    if (beginning - CUT_SLACK_TOKENS > contextLength)
      throw contextExceeded(beginning - CUT_SLACK_TOKENS, contextLength, 'at least')
  }
  return encode(text)
}
