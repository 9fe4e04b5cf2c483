/** Usage by key and day. Public, so snake_case. */
import { z } from 'zod'
import { count } from './identifiers.ts'
import { tenantName } from './admin-keys.ts'

/** Days of usage that there are at most. */
const MAX_USAGE_DAYS = 62

/** Query of `GET /admin/usage`. */
export const usageQuery = z.object({
  tenant: tenantName.optional().describe('Default: all that the caller may see.'),
  days: z.coerce.number().int().min(1).max(MAX_USAGE_DAYS).default(30),
})

/** Response of `GET /admin/usage`. */
export const usageReport = z.object({
  from: z.iso.date().describe('The first day, UTC.'),
  days: count.describe('Days from there on; the last one is today.'),
  data: z
    .array(
      z.object({
        key: z.string(),
        name: z.string(),
        tenant: z.string(),
        prefix: z.string(),
        revoked: z.boolean(),
        tokens: z.array(z.int()).describe('Tokens charged on each day, oldest first.'),
        total: z.int().describe('Their sum.'),
      }),
    )
    .describe('Keys that were charged in these days, by `total`, most first; at most 1,000.'),
})
/** A response of `GET /admin/usage`. */
export type UsageReport = z.output<typeof usageReport>
