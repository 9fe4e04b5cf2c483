/** The adaptation policy of a model, as the admin API reads and sets it. Public, so snake_case. */
import { z } from 'zod'
import { MAX_CANARY_SHARE } from './admin-trials.ts'
import { count, modelId } from './identifiers.ts'
import { pruneMethod } from './prune-method.ts'
import { calibrationLength, calibrationSamples, domainWeights, sparsityPattern } from './selection.ts'

const RATIO = 'expected a ratio of at least 1: 1.05 allows 5 % more'
const ratio = (max: number) => z.number(RATIO).min(1, RATIO).max(max)
const minutes = z
  .number()
  .min(0)
  .max(7 * 24 * 60)

const gate = z.strictObject({
  confidence: z
    .number()
    .min(0.5)
    .max(0.9999)
    .describe(
      'Confidence of the one-sided bounds, over all candidates that are tested beside one active mask: the first one gets about two thirds of the error.',
    ),
  max_regression: ratio(10).describe(
    'Maximum of the perplexity relative to the active mask, as an upper bound, on every known domain and the general holdout.',
  ),
  max_regression_from_best: ratio(10).describe(
    'Maximum of the perplexity relative to the best promoted mask, as an upper bound, on the same holdout version.',
  ),
  max_refresh_regression: ratio(10).describe(
    'Maximum of the perplexity over all domains relative to the active mask, as an upper bound, for an update without a new domain. An update with a new domain must be better than the active mask.',
  ),
  max_dense_ratio: ratio(1000).describe(
    'Maximum of the perplexity relative to the dense model: on the general holdout for every mask, on every holdout for the first mask of a model.',
  ),
  max_candidates: z
    .int()
    .min(1)
    .max(3)
    .describe('How many masks an update may select from the same statistics before it fails.'),
})

const canary = z.strictObject({
  enabled: z.boolean().describe('False: a mask that passed the gate is promoted at once.'),
  share: z
    .number()
    .gt(0)
    .max(MAX_CANARY_SHARE)
    .describe(
      'Share of the conversations that the new mask answers; those that are left are what it is compared with.',
    ),
  shadow_share: z
    .number()
    .gt(0)
    .max(1)
    .describe('Share of sampled requests that are scored under both masks.'),
  min_minutes: minutes.describe('No mask is promoted earlier.'),
  max_minutes: minutes.describe('After this time without harm the mask is promoted.'),
  min_scored_tokens: z
    .int()
    .min(0)
    .describe('Tokens to score under both masks before a mask that is proven not worse is promoted.'),
  false_alarm: z
    .number()
    .gt(0)
    .max(0.5)
    .describe('Probability of a roll-back, over any time, of a mask that does no harm.'),
})

const watch = z.strictObject({
  soak_minutes: minutes.describe('How long a promoted mask is watched; 0: not at all.'),
})

const statistics = z.strictObject({
  half_life_days: z
    .number()
    .gt(0)
    .max(3650)
    .nullable()
    .describe('A batch counts half after this time; null: always fully.'),
  weights: z
    .enum(['balanced', 'equal', 'traffic'])
    .or(domainWeights)
    .describe(
      'Weights of the domains in a selection. `balanced`: those that the active mask knows have together at least 60 % of the weight.',
    ),
})

const triggers = z.strictObject({
  enabled: z.boolean().describe('False: only an operator starts updates.'),
  dry_run: z.boolean().describe('True: nothing starts; decisions tell what would have started and why.'),
  schedule: z
    .string()
    .max(128)
    .nullable()
    .describe('Cron expression, UTC: when due, every domain with new text is updated. null: no schedule.'),
  new_segments: z
    .int()
    .min(1)
    .max(100_000)
    .describe('A domain is due when it has this many segments, of 512 tokens each, that were never counted.'),
  max_gap: z
    .number()
    .gt(0)
    .max(100)
    .nullable()
    .describe(
      'A domain is due when its scored loss above the dense model, nats a token, exceeds this. null: never.',
    ),
  drift: z
    .enum(['any', 'gap', 'off'])
    .describe(
      'A domain is due while a drift alert of it holds. `any`: also if only its traffic changed; `gap`: if pruning costs it more than it did; `off`: never.',
    ),
  cooldown_minutes: minutes.describe('Time between the end of an update and the start of the next one.'),
  max_per_day: z.int().min(1).max(1_000).describe('Maximum number of updates that start in 24 hours.'),
  quiet_hours: z
    .string()
    .regex(/^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$/, "expected hours like '22:00-06:00'")
    .nullable()
    .describe(
      'Hours of the day, UTC, in which no update starts, like 22:00-06:00; null: updates start at any hour.',
    ),
  max_domains: z.int().min(1).max(64).describe('Maximum number of due domains that one update takes.'),
})

const selection = z.strictObject({
  method: pruneMethod
    .nullable()
    .describe(
      'Pruning method, with an n:m pattern used without `+allocated` and `+rows`; null: the best one that the nodes offer and the pattern allows.',
    ),
  pattern: sparsityPattern
    .nullable()
    .describe(
      'Sparsity pattern, like 0.5 or 2:4; null: that of the mask that serves, with its patterns of single linears, and 0.5 for the first mask.',
    ),
})

const calibration = z.strictObject({
  samples: calibrationSamples.describe('Sequences of each domain that an update calibrates on.'),
  length: calibrationLength.describe(
    'Tokens of a sequence. Where the context of the model is shorter, sequences are shorter and more.',
  ),
})

const effort = z.strictObject({
  node_share: z
    .number()
    .min(0.01)
    .max(1)
    .describe("Share of a node's time that a job of an update takes; while requests run it yields to them."),
  max_holdouts: z
    .int()
    .min(1)
    .max(256)
    .describe('Maximum number of holdouts that an update evaluates: most traffic first, the others in turn.'),
})

const influence = z.strictObject({
  max_key_share: z
    .number()
    .gt(0)
    .max(1)
    .describe(
      "Maximum share of one key in an update's text of a domain; the fair share where fewer keys send text. Below 1, a key gives at most twice its part of the requests too.",
    ),
  outlier_deviations: z
    .number()
    .min(1)
    .max(100)
    .nullable()
    .describe(
      'A text whose dense loss is this many deviations from the median of its domain waits for review; null: no text does.',
    ),
})

const probes = z.strictObject({
  on_mismatch: z
    .enum(['alert', 'drain'])
    .describe(
      'What happens to a node whose score of the probe texts does not match. `drain`: if its own score changed, or two others agree against it, it also gets no new requests, while another node whose score matches serves; an operator ends that.',
    ),
})

const discovery = z.strictObject({
  enabled: z.boolean().describe('False: text without an explicit domain goes to the default of its key.'),
  accept_texts: z
    .int()
    .min(1)
    .max(100_000)
    .nullable()
    .describe('A proposed domain of this many texts is accepted by itself; null: an operator accepts it.'),
  own_masks: z.boolean().describe('True: a domain may be served by a mask of its own beside the shared one.'),
  own_mask_gain: ratio(10).describe(
    "Minimum of the domain's perplexity under the shared mask relative to that under its own.",
  ),
})

/** The complete policy of a model. */
export const adaptationPolicy = z.strictObject({
  preset: z
    .enum(['production', 'local'])
    .describe('`production`: gate, canary, watch. `local`: gate, promote, watch.'),
  gate: gate.describe('Rules that a mask must meet before it serves. Ratios are of perplexities.'),
  canary: canary.describe('A passed mask serves a share of the conversations beside the active one.'),
  watch: watch.describe('After promotion the mask is watched, and rolled back if it does harm.'),
  statistics: statistics.describe('How statistics of domains and batches are weighted.'),
  triggers: triggers.describe('Updates that start by themselves. Times of day are UTC.'),
  selection: selection.describe('How an update selects a mask, unless it says so itself.'),
  calibration: calibration.describe('How much text an update takes, unless it says so itself.'),
  effort: effort.describe('Bounds of the cost of an update.'),
  influence: influence.describe('How much one key may shape what a domain learns.'),
  probes: probes.describe('The fixed texts by which the weights of nodes are compared.'),
  discovery: discovery.describe('Domains that are found in traffic without a name.'),
  confirm: z
    .union([z.literal(1), z.literal(2), z.literal('auto')])
    .describe(
      'How many nodes must select a mask before it serves; `auto`: 2 where two or more nodes are alive.',
    ),
})
/** The complete policy of a model. */
export type AdaptationPolicy = z.output<typeof adaptationPolicy>

/** Changes to the policy of a preset: every part and field may be left out. */
export const policyOverrides = z.strictObject({
  preset: adaptationPolicy.shape.preset.optional(),
  gate: gate.partial().optional(),
  canary: canary.partial().optional(),
  watch: watch.partial().optional(),
  statistics: statistics.partial().optional(),
  triggers: triggers.partial().optional(),
  selection: selection.partial().optional(),
  calibration: calibration.partial().optional(),
  effort: effort.partial().optional(),
  influence: influence.partial().optional(),
  probes: probes.partial().optional(),
  discovery: discovery.partial().optional(),
  confirm: adaptationPolicy.shape.confirm.optional(),
})
/** Changes to the policy of a preset. */
export type PolicyOverrides = z.output<typeof policyOverrides>

/** Body of `PUT /admin/policy`. It replaces the changes that were set before. Strict: a misspelt field would do nothing. */
export const setPolicy = policyOverrides.extend({
  /** May be left out while the fleet serves one model. */
  model: modelId.optional(),
  revision: count
    .optional()
    .describe(
      'The revision of the policy that the changes were made from. If it has another one by now, nothing is changed (`conflict`). Without it the changes replace whatever was set.',
    ),
})

/** Response of `GET` and `PUT /admin/policy`. */
export const policyReport = z.object({
  model: z.string(),
  revision: count.describe('Grows with each change; 0 before the first one.'),
  policy: adaptationPolicy.describe('The policy in force.'),
  overrides: policyOverrides.describe('What was set.'),
  preset_policy: adaptationPolicy.describe('The policy of the preset in force, without the other changes.'),
  deployment_preset: adaptationPolicy.shape.preset.describe(
    'The preset of the deployment, in force unless another one was set.',
  ),
})
/** A response of `GET /admin/policy`. */
export type PolicyReport = z.output<typeof policyReport>

/** The name of a preset. */
export type AdaptationPreset = AdaptationPolicy['preset']

const PRODUCTION: AdaptationPolicy = {
  preset: 'production',
  gate: {
    confidence: 0.95,
    max_regression: 1.05,
    max_regression_from_best: 1.1,
    max_refresh_regression: 1.01,
    max_dense_ratio: 1.5,
    max_candidates: 3,
  },
  canary: {
    enabled: true,
    share: 0.1,
    shadow_share: 0.5,
    min_minutes: 10,
    max_minutes: 120,
    min_scored_tokens: 20_000,
    false_alarm: 0.01,
  },
  watch: { soak_minutes: 60 },
  statistics: { half_life_days: null, weights: 'balanced' },
  triggers: {
    enabled: true,
    dry_run: false,
    schedule: null,
    new_segments: 16,
    max_gap: 0.5,
    drift: 'any',
    cooldown_minutes: 60,
    max_per_day: 6,
    quiet_hours: null,
    max_domains: 8,
  },
  selection: { method: null, pattern: null },
  calibration: { samples: 16, length: 512 },
  effort: { node_share: 0.3, max_holdouts: 16 },
  influence: { max_key_share: 0.1, outlier_deviations: 6 },
  probes: { on_mismatch: 'alert' },
  discovery: { enabled: true, accept_texts: null, own_masks: false, own_mask_gain: 1.03 },
  confirm: 'auto',
}

/** The policies that a deployment chooses from. */
export const PRESETS: Readonly<Record<AdaptationPreset, AdaptationPolicy>> = {
  production: PRODUCTION,
  local: {
    ...PRODUCTION,
    preset: 'local',
    canary: { ...PRODUCTION.canary, enabled: false },
    triggers: { ...PRODUCTION.triggers, cooldown_minutes: 1, max_per_day: 100 },
    discovery: { ...PRODUCTION.discovery, accept_texts: 48 },
  },
}

/** Returns the policy of the preset in force, without the other changes. */
export function presetPolicy(preset: AdaptationPreset, overrides: PolicyOverrides): AdaptationPolicy {
  return PRESETS[overrides.preset ?? preset]
}

/** Returns the policy of a preset with an operator's changes. */
export function effectivePolicy(preset: AdaptationPreset, overrides: PolicyOverrides = {}): AdaptationPolicy {
  const base = presetPolicy(preset, overrides)
  return {
    preset: base.preset,
    gate: withChanges(base.gate, overrides.gate),
    canary: withChanges(base.canary, overrides.canary),
    watch: withChanges(base.watch, overrides.watch),
    statistics: withChanges(base.statistics, overrides.statistics),
    triggers: withChanges(base.triggers, overrides.triggers),
    selection: withChanges(base.selection, overrides.selection),
    calibration: withChanges(base.calibration, overrides.calibration),
    effort: withChanges(base.effort, overrides.effort),
    influence: withChanges(base.influence, overrides.influence),
    probes: withChanges(base.probes, overrides.probes),
    discovery: withChanges(base.discovery, overrides.discovery),
    confirm: overrides.confirm ?? base.confirm,
  }
}

function withChanges<T extends object>(part: T, changes: { [K in keyof T]?: T[K] | undefined } = {}): T {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined)
  return { ...part, ...(Object.fromEntries(given) as Partial<T>) }
}
