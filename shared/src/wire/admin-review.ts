/** Texts that are set aside for review, as the admin API shows and settles them. Public, so snake_case. */
import { z } from 'zod'

/** One entry of `GET /admin/domains/:domain/review`. */
export const reviewEntry = z.object({
  id: z.string().describe('SHA-256 of the text.'),
  key: z.string().describe('The key that it counts for.'),
  tenant: z.string(),
  side: z.enum(['pool', 'holdout']),
  nll: z.number().describe('Dense loss, nats a token.'),
  characters: z.int(),
  preview: z.string().describe('Its beginning, redacted.'),
})
/** One entry of `GET /admin/domains/:domain/review`. */
export type ReviewEntry = z.output<typeof reviewEntry>

/** Response of the calls that settle a review. */
export const settledReview = z.object({
  domain: z.string(),
  id: z.string(),
  decision: z.enum(['keep', 'drop']),
})
/** A response of a call that settles a review. */
export type SettledReview = z.output<typeof settledReview>
