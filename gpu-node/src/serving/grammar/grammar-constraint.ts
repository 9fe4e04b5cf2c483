import type { Grammar } from '../../../native/addon.d.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import { grammarTooCostly } from './grammar-errors.ts'

/** Creates the constraint of one output. `vocabSize` is that of the grammar's vocabulary. */
export function createGrammarConstraint(
  grammar: Grammar,
  codec: Pick<TextCodec, 'encode'>,
  vocabSize: number,
): TokenConstraint {
  const words = Math.ceil(vocabSize / 32)
  let matcher = grammar.matcher()
  /** Tokens that the matcher has consumed. */
  let consumed: readonly number[] = []
  let last: Promise<unknown> = Promise.resolve()

  const restart = () => {
    matcher.free()
    matcher = grammar.matcher()
    consumed = []
  }
  /** Runs something on the matcher once it is after `generated`, which takes `added`. */
  const after = <T>(generated: readonly number[], run: (added: Int32Array) => Promise<T>): Promise<T> => {
    const turn = last.then(async () => {
      if (!beginsWith(generated, consumed)) restart()
      const added = generated.slice(consumed.length)
      consumed = generated.slice()
      try {
        return await run(Int32Array.from(added))
      } catch (thrown) {
        throw grammarTooCostly(thrown)
      }
    })
    last = turn.catch(() => undefined)
    return turn
  }

  return {
    allowedAfter: (generated, drafts = []) =>
      after(generated, async (added) => {
        const masks = await matcher.advance(added, Int32Array.from(drafts))
        return Array.from({ length: masks.length / words }, (_, row) =>
          masks.subarray(row * words, (row + 1) * words),
        )
      }),
    forcedAfter: (generated) =>
      after(generated, async (added) => {
        const bytes = await matcher.forced(added)
        if (!bytes) return null
        // The rest of a character has no text of its own.
        if (((bytes[0] ?? 0) & 0xc0) === 0x80) return []
        // A character that is cut off at the end is left out.
        return encodeNext(codec, new TextDecoder().decode(bytes, { stream: true }))
      }),
    release: () => void (last = last.then(restart)),
  }
}

/** A loop, because it runs for each token of an output over all tokens before it. */
function beginsWith(tokens: readonly number[], start: readonly number[]): boolean {
  for (let index = 0; index < start.length; index++) if (tokens[index] !== start[index]) return false
  return true
}

/** Encodes a text that follows another one: SentencePiece puts a space before the first word. */
function encodeNext({ encode }: Pick<TextCodec, 'encode'>, text: string): number[] {
  const before = encode('\n')
  const tokens = encode(`\n${text}`)
  // Blanks may be one token with those before.
  return beginsWith(tokens, before) ? tokens.slice(before.length) : encode(text)
}
