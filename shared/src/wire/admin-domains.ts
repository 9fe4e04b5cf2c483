/** Changes of a domain by the admin API. Public, so snake_case. */
import { z } from 'zod'
import { count } from './identifiers.ts'
import { tenantName } from './admin-keys.ts'

/** Body of `PUT /admin/domains/:domain`. */
export const setDomain = z.strictObject({
  owner: tenantName
    .nullable()
    .describe('The tenant whose texts alone are stored in the domain; null: those of every tenant.'),
})

/** Response of `PUT /admin/domains/:domain`. */
export const changedDomain = z.object({ domain: z.string(), owner: z.string().nullable() })
/** A response of `PUT /admin/domains/:domain`. */
export type ChangedDomain = z.output<typeof changedDomain>

/** Response of `POST /admin/domains/:domain/rebuild`. */
export const rebuiltDomain = z.object({
  domain: z.string(),
  datasets: count.describe('Frozen datasets that do not count any more.'),
  samples: count.describe('Texts that are retained in the reservoir.'),
  characters: count.describe('Their characters.'),
  models: z
    .array(z.object({ model: z.string(), starts: z.enum(['by_trigger', 'by_operator']) }))
    .describe(
      'Models that have no statistics of the domain until its next update: one starts when a trigger is due, or when an operator starts it.',
    ),
})
/** A response of `POST /admin/domains/:domain/rebuild`. */
export type RebuiltDomain = z.output<typeof rebuiltDomain>
