import { AppError } from '@copal/shared/errors.ts'
import { PAGE_TOKENS, type SequenceWork } from '../../contract/backend.ts'

/** Allocates pages for callers that pass none: benchmarks, and the self-test of a new weight set. */
export interface OwnPages {
  /**
   * Returns the pages of each work, and allocates those that are missing.
   *
   * @throws AppError `overloaded` when there are not enough; then none is allocated
   */
  allocate(set: object, work: readonly SequenceWork[]): readonly (readonly number[])[]
  /** Releases the pages of a sequence; without `sequence`, those of all sequences of the set. */
  release(set: object, sequence?: number): void
  usage(): { sequences: number; pages: number }
}

/** Creates the allocator of pages `first … first + count - 1`, which no scheduler allocates. */
export function createOwnPages(first: number, count: number): OwnPages {
  const free = Array.from({ length: count }, (_, index) => first + count - 1 - index)
  const tables = new Map<object, Map<number, number[]>>()
  const all = () => [...tables.values()].flatMap((table) => [...table.values()])

  return {
    allocate(set, work) {
      let table = tables.get(set)
      if (!table) tables.set(set, (table = new Map()))
      const wanted = work.map(({ sequence, position, tokens, pages }) =>
        pages ? 0 : Math.ceil((position + tokens.length) / PAGE_TOKENS) - (table.get(sequence)?.length ?? 0),
      )
      const needed = wanted.reduce((sum, pages) => sum + Math.max(0, pages), 0)
      if (needed > free.length) {
        throw new AppError(
          'overloaded',
          `The step needs ${needed} more pages of ${PAGE_TOKENS} tokens, but only ${free.length} of ${count} are free. ` +
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

    release(set, sequence) {
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
