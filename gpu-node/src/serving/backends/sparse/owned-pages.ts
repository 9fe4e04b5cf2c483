import { AppError } from '@copal/shared/errors.ts'
import { PAGE_TOKENS, type SequenceWork } from '../../contract/backend.ts'

/** Pages of sequences whose caller has none: benchmarks, the trial of a new weight set. */
export interface OwnPages {
  /**
   * The pages of each work, and takes those that it needs.
   *
   * @throws AppError `overloaded` when there are not enough; then none is taken
   */
  take(set: object, work: readonly SequenceWork[]): readonly (readonly number[])[]
  /** Gives back those of a sequence; of all sequences of the set without one. */
  give(set: object, sequence?: number): void
  usage(): { sequences: number; pages: number }
}

/** Pages `first … first + count - 1`, which no scheduler gives out. */
export function createOwnPages(first: number, count: number): OwnPages {
  const free = Array.from({ length: count }, (_, index) => first + count - 1 - index)
  const tables = new Map<object, Map<number, number[]>>()
  const all = () => [...tables.values()].flatMap((table) => [...table.values()])

  return {
    take(set, work) {
      let table = tables.get(set)
      if (!table) tables.set(set, (table = new Map()))
      const wanted = work.map(({ sequence, position, tokens, pages }) =>
        pages ? 0 : Math.ceil((position + tokens.length) / PAGE_TOKENS) - (table.get(sequence)?.length ?? 0),
      )
      const needed = wanted.reduce((sum, pages) => sum + Math.max(0, pages), 0)
      if (needed > free.length) {
        throw new AppError(
          'overloaded',
          `The step needs ${needed} more pages of ${PAGE_TOKENS} tokens, and ${free.length} of ${count} are free. ` +
            'Run fewer or shorter requests at once, or give the cache more tokens.',
          { retryAfterS: 1 },
        )
      }
      return work.map(({ sequence, pages }, index) => {
        if (pages) return pages
        const own = table.get(sequence) ?? []
        table.set(sequence, own)
        const surplus = own.splice(own.length + Math.min(0, wanted[index] as number))
        free.push(...surplus)
        for (let more = wanted[index] as number; more > 0; more--) own.push(free.pop() as number)
        return own
      })
    },

    give(set, sequence) {
      const table = tables.get(set)
      for (const [id, pages] of table ?? []) {
        if (sequence !== undefined && id !== sequence) continue
        free.push(...pages)
        table?.delete(id)
      }
      if (table?.size === 0) tables.delete(set)
    },

    usage: () => ({ sequences: all().length, pages: all().flat().length }),
  }
}
