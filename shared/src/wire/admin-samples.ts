/** Responses of the admin API about kept samples and their deletion. Public, so snake_case. */
import { z } from 'zod'
import { count } from './identifiers.ts'

/** Response of `DELETE /admin/samples?request=&key=&tenant=`: what was deleted in each domain that had such texts. */
export const deletedSamples = z.object({
  domains: z.array(
    z.object({
      domain: z.string(),
      deleted: count.describe('Samples that were deleted.'),
      deleted_frozen: count.describe(
        'Texts that were deleted from datasets and holdouts; once for each of them.',
      ),
      updates: z
        .array(z.string())
        .describe('Updates whose statistics contained such texts. The next update calibrates without them.'),
      masks: z
        .array(z.string())
        .describe('Masks, as `model@mask-version`, that were chosen with such statistics. They stay.'),
    }),
  ),
  pending: z
    .array(
      z.object({
        domain: z.string(),
        update: z
          .string()
          .nullable()
          .describe('The update that still reads frozen texts of it; null: none does.'),
      }),
    )
    .describe(
      'Domains that may still have such texts: an update reads frozen ones, or domains and frozen texts are more than one call can look through. They are deleted when it has ended, or by the cron task within the next minutes.',
    ),
  kept: z
    .array(z.object({ domain: z.string(), datasets: count }))
    .describe(
      'Domains whose statistics count datasets the texts of which have expired, and how many. Whose texts these were is not known any more; they stay until the domain is rebuilt or deleted.',
    ),
})
/** A response of `DELETE /admin/samples`. */
export type DeletedSamples = z.output<typeof deletedSamples>

/** One entry of `GET /admin/domains/:domain/samples`. */
export const sampleEntry = z.object({
  id: z.string().describe('SHA-256 of the text.'),
  key: z.string().describe('The key that it counts for.'),
  tenant: z.string(),
  side: z
    .enum(['pool', 'holdout'])
    .describe('Whether updates may calibrate on it, or masks are judged on it.'),
  taken: z.boolean().describe('An update has calibrated on it.'),
  characters: count,
  preview: z
    .string()
    .describe('Its beginning, redacted; empty where the service shows none (`COPAL_PREVIEW_CHARACTERS`).'),
  last_seen_at: z.iso.datetime().nullable().describe('When a request brought it last.'),
})
/** One entry of `GET /admin/domains/:domain/samples`. */
export type SampleEntry = z.output<typeof sampleEntry>
