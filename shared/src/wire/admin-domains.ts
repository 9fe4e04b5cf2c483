/** Domains and their texts, as the admin API shows and changes them. Public, so snake_case. */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { count, time } from './identifiers.ts'
import { tenantName } from './admin-keys.ts'
import { pageAfter, pageLimit, pageOf } from './paging.ts'

/** Body of `PUT /admin/domains/:domain`. */
export const setDomain = z.strictObject({
  owner: tenantName
    .nullable()
    .describe(
      'The tenant that alone may use the domain: only its requests are counted there, and only its texts are stored. Null: all may. `default` has no owner.',
    ),
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

/** Body of `POST /admin/domains/:domain/texts`: an operator's texts for a domain, redacted and sampled like traffic. */
export const importTexts = z.object({
  texts: boundedArray(
    z
      .string()
      .min(1)
      .max(64 * 1024),
  )
    .min(1)
    .max(2_000),
})

/** Response of `POST /admin/domains/:domain/texts`. */
export const importedTexts = z.object({
  domain: z.string(),
  texts: count,
  pieces: count.describe(
    'Pieces that long texts were cut into, so that they spread over the samples like traffic.',
  ),
})

/** One entry of `GET /admin/domains`. */
export const domainEntry = z.object({
  name: z.string(),
  samples: count.describe('Texts in the reservoir now.'),
  characters: count.describe('Characters of these texts.'),
  new_samples: count
    .optional()
    .describe(
      'Texts that no update of the model has taken yet. The model is `model`, or the only one; without either, all texts count.',
    ),
  seen: count.describe(
    'Texts ever offered to the domain. A text that is sent again in its conversation counts once.',
  ),
  holdout_samples: count.describe(
    'Held-out texts, which are never calibrated on: of the latest version, if there is one.',
  ),
  holdout_tokens: count.optional().describe('Their tokens, estimated.'),
  holdout_frozen: z.boolean().describe('True from the first evaluation on: the holdout has a version.'),
  holdout_version: count
    .nullable()
    .optional()
    .describe('The latest version of the holdout. Versions never change; a small holdout grows by new ones.'),
  owner: z.string().nullable().describe('The tenant that alone may use it; null: it is shared.'),
  review_samples: count.optional().describe('Texts set aside as outliers, for review.'),
  own_mask: count
    .nullable()
    .optional()
    .describe(
      'The mask that serves it instead of the shared one, for `model`, or the only model; null: none.',
    ),
  calibrated_datasets: count.describe('Datasets that count in a promoted mask.'),
  last_sample_at: time.nullable(),
  counted_at: time
    .nullable()
    .optional()
    .describe(
      'When its texts were counted, in a page of more than 64 domains: within a minute of the last change. Null: not yet, so its counts are 0. Left out: just now.',
    ),
})
/** One entry of `GET /admin/domains`. */
export type DomainEntry = z.output<typeof domainEntry>

/** Query of `GET /admin/domains`. */
export const domainsQuery = z.object({
  model: z
    .string()
    .optional()
    .describe('Id of the model for which new samples are counted. Default: the only model.'),
  limit: pageLimit,
  after: pageAfter,
})

/** Response of `GET /admin/domains`: the domains in the order of their names. */
export const domainPage = pageOf(domainEntry)
/** A response of `GET /admin/domains`. */
export type DomainPage = z.output<typeof domainPage>

/** Response of `DELETE /admin/domains/:domain/samples`. */
export const deletedSamples = z.object({
  domain: z.string(),
  deleted: count.describe(
    'Texts of the reservoir. One that another request sent too stays for that one, and no longer names the deleted one.',
  ),
  deleted_frozen: count.describe(
    'Likewise, texts of datasets and holdouts that updates have frozen; a text in several of them counts in each.',
  ),
  pending: z
    .boolean()
    .optional()
    .describe(
      'Whether there are more datasets than one call can look through. Such texts in the others are deleted within the next minutes.',
    ),
})
/** A response of `DELETE /admin/domains/:domain/samples`. */
export type DeletedSamples = z.output<typeof deletedSamples>

/** Response of `DELETE /admin/domains/:domain/mask`. */
export const removedOwnMask = z.object({
  domain: z.string(),
  mask_version: count.describe('The mask that served the domain.'),
})

/** Response of `DELETE /admin/domains/:domain`. */
export const deletedDomain = z.object({
  domain: z.string(),
  deleted: z
    .boolean()
    .describe(
      'False where a part is left: it is deleted within the next minutes, or when an update has ended that reads it.',
    ),
})
/** A response of `DELETE /admin/domains/:domain`. */
export type DeletedDomain = z.output<typeof deletedDomain>
