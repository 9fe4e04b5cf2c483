/** The overview of the dashboard, in one response. Public, so snake_case. */
import { z } from 'zod'
import { count, time } from './identifiers.ts'
import { alertEntry } from './admin-alerts.ts'
import { decisionKind, decisionVerdict } from './admin-decisions.ts'
import { maskEntry, nodeEntry, updateEntry } from './admin.ts'
import { canaryReport } from './admin-trials.ts'
import { scoringOutcome } from './receipts.ts'

/** A mean with the bounds of its 95 % interval, nats a token. */
const estimate = z.object({ mean: z.number(), lower: z.number(), upper: z.number() })

/** A decision in the list of the newest. */
export const recentDecision = z.object({
  kind: decisionKind,
  verdict: decisionVerdict,
  reason: z.string(),
  mask_version: count.nullable(),
  update: z.string().nullable(),
  domains: z.array(z.string()),
  actor: z.string(),
  created_at: time,
})
/** A decision in the list of the newest. */
export type RecentDecision = z.output<typeof recentDecision>

/** The last 24 hours of one domain. */
export const domainSummary = z.object({
  name: z.string(),
  traffic_share: z.number().min(0).max(1),
  requests: count,
  scored_requests: count.describe('Those of them that were scored, under any mask.'),
  mask_version: count.describe(
    'The mask that serves it, its own or that of the model; 0 for the dense weights.',
  ),
  gap: estimate.nullable().describe('Under the mask that serves it; null while too little is scored.'),
  gap_trend: z
    .array(z.number().nullable())
    .describe('Means of `gap` over eight equal parts of the 24 hours.'),
  drifting: z.boolean().describe('An alert of the domain holds.'),
  missing_observations: count
    .nullable()
    .describe(
      'Observations (scored requests, or means over some of them) that its drift detectors lack before they judge its traffic and the cost of the mask that serves it; 0 where they do. Null where they get none: none of its requests in the 24 hours was scored, or it is not registered.',
    ),
  not_scored: scoringOutcome
    .exclude(['scored'])
    .nullable()
    .optional()
    .describe(
      'The most frequent reason why its requests in the 24 hours were not scored, where none was; null where one was, or no reason is known.',
    ),
})
/** The last 24 hours of one domain. */
export type DomainSummary = z.output<typeof domainSummary>

/** Response of `GET /admin/overview?model=`, and data of the event `overview` of `GET /admin/events`. */
export const overviewReport = z.object({
  at: time,
  version: z.string(),
  model: z.object({
    id: z.string(),
    parameters: count,
    active_version: count,
    previous_version: count.nullable(),
    active_since: time.nullable(),
    mask: maskEntry.nullable().describe('Null where the dense weights serve.'),
    weight_bytes: count
      .nullable()
      .describe(
        'Bytes that the weights of the active mask take on a node, in all forms that it holds; null if no node reports them.',
      ),
    dense_bytes: count.nullable().describe('Bytes of the dense weights in the same precision.'),
    converged: z.boolean(),
  }),
  health: z
    .object({
      problems: z.array(z.string()).describe('Empty where no problem is known.'),
      text: z
        .string()
        .describe(
          'The problems; or that none is known, and what is not known yet or that nothing was scored; or that all is well. Sentences for people.',
        ),
    })
    .describe(
      'By nodes, the masks that single domains have for themselves, failed requests, alerts, and what pruning costs each domain, for which `gate.max_dense_ratio` of the policy is the limit: a cost counts where the lower bound of its interval exceeds it. All domains count, also those that `domains` does not list.',
    ),
  models: z.array(z.string()).describe('All models of the fleet.'),
  nodes: z.array(nodeEntry),
  traffic: z.object({
    requests_per_second: z.number().min(0),
    tokens_per_second: z.number().min(0),
    running: count,
    waiting: count,
    first_token_ms_p95: z.number().nullable(),
    failed_share: z.number().min(0).max(1).nullable(),
    tokens_trend: z.array(count).describe('Tokens of each of the last 60 minutes.'),
  }),
  domains: z.array(domainSummary).describe('By traffic, most first; at most 50.'),
  domain_count: count.describe(
    'Domains with traffic in the last 24 hours, also those that `domains` does not list.',
  ),
  unlisted_domains: count
    .optional()
    .describe(
      'Those of them that neither `domains` nor `GET /admin/domains` lists, because they are not registered.',
    ),
  updates: z.array(updateEntry).describe('Running ones, then the newest ended one.'),
  canary: canaryReport.nullable(),
  decisions: z.array(recentDecision).describe('The newest 20.'),
  alerts: z.array(alertEntry).describe('Those that hold.'),
})
/** A response of `GET /admin/overview`. */
export type OverviewReport = z.output<typeof overviewReport>
