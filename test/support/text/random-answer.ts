import type { TokenConstraint } from '../../../gpu-node/src/serving/contract/token-constraint.ts'
import type { TextCodec } from '../../../gpu-node/src/model/tokenizer/text-codec.ts'
import { tokensOf } from '../engine/token-masks.ts'

/** Answers longer than this many tokens prefer tokens that end them. */
const LONG = 60

/**
 * Generates an answer of random tokens that a constraint allows, up to its end token.
 *
 * @param prefer returns the character to take next, where it is allowed, for the text so far
 */
export async function randomAnswer(
  codec: Pick<TextCodec, 'tokenBytes'>,
  endTokens: readonly number[],
  constraint: TokenConstraint,
  random: () => number,
  prefer: (text: string) => string | undefined = () => undefined,
): Promise<{ text: string; tokens: number[] }> {
  const tokens: number[] = []
  const bytes: Uint8Array[] = []
  const isCharacter = (token: number, character: string) =>
    Buffer.from(codec.tokenBytes(token)).toString('latin1') === character
  for (;;) {
    const allowed = tokensOf((await constraint.allowedAfter(tokens))[0]!)
    const others = allowed.filter((token) => !endTokens.includes(token))
    const text = Buffer.concat(bytes).toString('utf8')
    const preferred = prefer(text)
    if (others.length === 0 || (others.length < allowed.length && !preferred && random() < 0.5))
      return { text, tokens }
    if (tokens.length === 2000) throw new Error(`no end after ${tokens.length} tokens: ${text.slice(0, 500)}`)
    const hurries = random() < (tokens.length > LONG ? 1 : 0.25)
    const wanted = preferred ? [preferred] : hurries ? nearerToTheEnd(text) : []
    const best = wanted
      .map((character) => others.find((token) => isCharacter(token, character)))
      .find((token) => token !== undefined)
    const token = best ?? others[Math.floor(random() * others.length)]!
    tokens.push(token)
    bytes.push(codec.tokenBytes(token))
  }
}

/** Returns the characters that bring JSON nearer to its end, best first: a quote within a string, otherwise a closing bracket. */
function nearerToTheEnd(text: string): string[] {
  const quotes = text.replaceAll(/\\./gs, '').split('"').length - 1
  return quotes % 2 === 1 ? ['"'] : ['}', ']', '"']
}
