/** The audit log, as the admin API shows it. Public, so snake_case. */
import { z } from 'zod'

const hash = z.string().regex(/^[0-9a-f]{64}$/)

/** One row of the audit log. */
export const auditEntry = z.object({
  id: z.int().min(1).describe('1, 2, 3, … without gaps.'),
  actor: z
    .string()
    .describe(
      "The id of an admin key, `node:<id>`, `key:<id>` of a key without the scope 'admin', or `copal`.",
    ),
  action: z.string().describe('Like `PATCH /admin/keys/:id` or `decision.promote`.'),
  target: z.string().describe('What it was done to, like the id of a key, or a model and a mask version.'),
  before: z.unknown(),
  after: z.unknown(),
  reason: z.string(),
  request_id: z.string().nullable(),
  created_at: z.int().min(0).describe('Unix milliseconds.'),
  previous_hash: hash.describe('Hash of the row before; 64 zeros in the first.'),
  hash: hash.describe('SHA-256 of the JSON array of the fields above, in this order.'),
  sealed: z
    .boolean()
    .describe("Whether the row's seal is the gateway's, which the database alone cannot make."),
})
/** One row of the audit log. */
export type AuditEntry = z.output<typeof auditEntry>

/** A page of the audit log. */
export const auditPage = z.object({
  data: z.array(auditEntry),
  checkpoint: z
    .object({ id: z.int(), hash, sealed: z.boolean() })
    .nullable()
    .describe('The last row that retention deleted; the first remaining one continues from it.'),
  next_after: z
    .int()
    .nullable()
    .describe('`after` of the next page; null on the last, and where the newest come first.'),
  next_before: z
    .int()
    .nullable()
    .optional()
    .describe('Where the newest come first, `before` of the next page; null on the last.'),
})
/** A page of the audit log. */
export type AuditPage = z.output<typeof auditPage>

/** Filters of `GET /admin/audit`. */
export const auditQuery = z.object({
  after: z.coerce.number().int().min(0).default(0),
  order: z.enum(['oldest', 'newest']).default('oldest').describe('Which rows come first.'),
  before: z.coerce
    .number()
    .int()
    .min(1)
    .optional()
    .describe('Only rows before this one, such as `next_before` of a page with `order=newest`.'),
  limit: z.coerce.number().int().min(1).max(500).default(100),
  since: z.iso.datetime({ offset: true, error: 'expected a time such as 2026-05-01T00:00:00Z' }).optional(),
  actor: z.string().max(200).optional(),
  target: z.string().max(200).optional(),
})
