import type { Grammar } from '../../../native/addon.d.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import { tooCostly } from './grammar-errors.ts'

/** The constraint of one answer. */
export function createConstraint(grammar: Grammar): TokenConstraint {
  let matcher = grammar.matcher()
  /** What the matcher was told. */
  let told: number[] = []
  let last: Promise<unknown> = Promise.resolve()

  const startOver = () => {
    matcher.free()
    matcher = grammar.matcher()
    told = []
  }
  const advance = async (generated: readonly number[]) => {
    if (!told.every((token, index) => token === generated[index])) startOver()
    const news = generated.slice(told.length)
    told = [...generated]
    try {
      return await matcher.advance(Int32Array.from(news))
    } catch (thrown) {
      throw tooCostly(thrown)
    }
  }

  return {
    allowedAfter(generated) {
      const turn = last.then(() => advance(generated))
      last = turn.catch(() => undefined)
      return turn
    },
    release: () => void (last = last.then(startOver)),
  }
}
