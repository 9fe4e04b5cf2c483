import type { TokenConstraint } from '../../../gpu-node/src/serving/contract/token-constraint.ts'
import type { TextCodec } from '../../../gpu-node/src/model/tokenizer/text-codec.ts'
import { tokensOf } from '../engine/token-masks.ts'

/** Tokens after which an answer makes for its end. */
const LONG = 60

/**
 * An answer of random tokens that a constraint allows, to its end token.
 *
 * @param prefer the character that is taken next where it is allowed, by the text so far
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
    const allowed = tokensOf(await constraint.allowedAfter(tokens))
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

/** What brings JSON nearer to its end, best first: within a string its end, elsewhere that of an object or a list. */
function nearerToTheEnd(text: string): string[] {
  const quotes = text.replaceAll(/\\./gs, '').split('"').length - 1
  return quotes % 2 === 1 ? ['"'] : ['}', ']', '"']
}
