/** Lists of the admin API that come in pages: `next_after` of a page is `after` of the next one. */
import { z } from 'zod'

/** Largest number of entries of a page. */
const MAX_ENTRIES = 1_000

/** The query parameter `limit` of a list. */
export const pageLimit = z.coerce
  .number()
  .int()
  .min(1)
  .max(MAX_ENTRIES)
  .default(MAX_ENTRIES)
  .describe('Largest number of entries of the page.')

/** The query parameter `after` of a list. */
export const pageAfter = z
  .string()
  .max(200)
  .optional()
  .describe('Only the entries after those of a page: its `next_after`.')

/** A page of a list. */
export const pageOf = <T>(entry: z.ZodType<T>) =>
  z.object({
    data: z.array(entry),
    next_after: z.string().nullable().optional().describe('`after` of the next page; null on the last.'),
  })
/** A page of a list. */
export interface Page<T> {
  data: T[]
  next_after?: string | null | undefined
}
