/** Automatic triggers of updates, as the admin API shows them. Public, so snake_case. */
import { z } from 'zod'
import { count, time } from './identifiers.ts'
import { updateEntry, updateTrigger } from './admin.ts'

/** One domain of `GET /admin/triggers`. */
export const triggerDomain = z.object({
  domain: z.string(),
  new_segments: count.describe('Segments of 512 tokens, estimated, that no update has counted.'),
  gap: z
    .number()
    .nullable()
    .describe(
      'Scored loss above the dense model under the active mask, nats a token; null: too little was scored.',
    ),
  traffic_share: z
    .number()
    .min(0)
    .max(1)
    .describe('Share of the tokens that were settled under the active and the previous mask.'),
  gain: z
    .number()
    .describe('Expected gain, by which due domains are ordered: gap × traffic share × new segments.'),
  due: updateTrigger.nullable().describe('What makes the domain due; null: it is not.'),
  reason: z.string().describe('Why it is due, or why not, with what is missing.'),
  missing_holdout_tokens: count.describe('Tokens of held-out text that are missing to judge a mask.'),
  failures: count.describe('Updates of the domain in a row that ended without a mask in use.'),
  not_before: time.nullable().describe('When the domain may be tried again after failed updates.'),
})
/** One domain of `GET /admin/triggers`. */
export type TriggerDomain = z.output<typeof triggerDomain>

/** Response of `GET /admin/triggers?model=`. */
export const triggersReport = z.object({
  model: z.string(),
  enabled: z.boolean(),
  dry_run: z.boolean(),
  running: updateEntry
    .pick({
      id: true,
      domains: true,
      state: true,
      progress: true,
      message: true,
      trigger: true,
      trigger_reason: true,
      job: true,
    })
    .nullable()
    .describe('The update that runs; a model has one at a time.'),
  waits_for: z.string().nullable().describe('Why no update may start now; null: one may.'),
  next_start_at: time.nullable().describe('When an update may start again; null: not known, or never.'),
  next_schedule_at: time.nullable().describe('The next time of the schedule; null: there is none.'),
  started_today: count.describe('Updates that triggers started in the last 24 hours.'),
  next_domains: z.array(z.string()).describe('The due domains that the next update takes.'),
  node_share: z.number().describe("Share of a node's time that a job takes while requests run."),
  domains: z.array(triggerDomain).describe('Most expected gain first, due domains before others.'),
})
/** A response of `GET /admin/triggers`. */
export type TriggersReport = z.output<typeof triggersReport>
