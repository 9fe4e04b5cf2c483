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
  let consumed: number[] = []
  let last: Promise<unknown> = Promise.resolve()

  const restart = () => {
    matcher.free()
    matcher = grammar.matcher()
    consumed = []
  }
  /** Runs something on the matcher once it is after `generated`, which takes `added`. */
  const after = <T>(generated: readonly number[], run: (added: Int32Array) => Promise<T>): Promise<T> => {
    const turn = last.then(async () => {
      if (!consumed.every((token, index) => token === generated[index])) restart()
      const added = generated.slice(consumed.length)
      consumed = [...generated]
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
        // A character that is cut off at the end is left out.
        const text = new TextDecoder().decode(await matcher.forced(added), { stream: true })
        return text === '' ? [] : codec.encode(text)
      }),
    release: () => void (last = last.then(restart)),
  }
}
