import type { Grammar } from '../../../native/addon.d.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import { grammarTooCostly } from './grammar-errors.ts'

/** Creates the constraint of one output. */
export function createGrammarConstraint(grammar: Grammar): TokenConstraint {
  let matcher = grammar.matcher()
  /** Tokens that the matcher has consumed. */
  let consumed: number[] = []
  let last: Promise<unknown> = Promise.resolve()

  const restart = () => {
    matcher.free()
    matcher = grammar.matcher()
    consumed = []
  }
  const advance = async (generated: readonly number[]) => {
    if (!consumed.every((token, index) => token === generated[index])) restart()
    const added = generated.slice(consumed.length)
    consumed = [...generated]
    try {
      return await matcher.advance(Int32Array.from(added))
    } catch (thrown) {
      throw grammarTooCostly(thrown)
    }
  }

  return {
    allowedAfter(generated) {
      const turn = last.then(() => advance(generated))
      last = turn.catch(() => undefined)
      return turn
    },
    release: () => void (last = last.then(restart)),
  }
}
