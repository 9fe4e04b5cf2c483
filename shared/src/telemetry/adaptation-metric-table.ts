import { TRAFFIC, type GatewayMetric } from './gateway-metric.ts'

const NODE = ['node', 'model'] as const

/** Metrics of drift, samples, updates and records. */
export const ADAPTATION_METRICS = {
  driftGap: {
    name: 'copal.drift.gap_nats',
    type: 'gauge',
    unit: '{nat}',
    labels: TRAFFIC,
    perTenant: true,
    meaning:
      'What pruning costs: loss of sampled text under the mask minus under dense weights, nats a token, mean over all that the mask answered.',
  },
  driftNll: {
    name: 'copal.drift.nll_nats',
    type: 'counter',
    unit: '{nat}',
    labels: [...TRAFFIC, 'weights'],
    perTenant: true,
    meaning:
      'Summed loss of sampled text under the mask (`pruned`) and `dense`: its rate over that of `copal_drift_tokens_total` is a mean of any time.',
  },
  driftTokens: {
    name: 'copal.drift.tokens',
    type: 'counter',
    unit: '{token}',
    labels: TRAFFIC,
    perTenant: true,
    meaning: 'Scored tokens behind `copal_drift_gap_nats` and `copal_drift_nll_nats_total`.',
  },
  driftRequests: {
    name: 'copal.drift.requests',
    type: 'counter',
    unit: '{request}',
    labels: TRAFFIC,
    perTenant: true,
    meaning: 'Scored requests behind `copal_drift_gap_nats` and `copal_drift_nll_nats_total`.',
  },
  scoringOutcomes: {
    name: 'copal.scoring.outcomes',
    type: 'counter',
    unit: '{request}',
    labels: ['model', 'outcome'],
    meaning:
      'Settled requests by whether they were scored for drift: `scored`, `not_sampled`, `too_short`, `budget`, `evicted`, `failed`.',
  },
  detectorStatistic: {
    name: 'copal.detector.statistic',
    type: 'gauge',
    unit: '{statistic}',
    labels: ['model', 'domain', 'signal', 'detector'],
    meaning:
      'Test statistic of a drift detector (`page_hinkley`, `adwin`) on a signal (`dense`: the traffic, `gap`: what pruning costs).',
  },
  detectorThreshold: {
    name: 'copal.detector.threshold',
    type: 'gauge',
    unit: '{statistic}',
    labels: ['model', 'domain', 'signal', 'detector'],
    meaning: 'Threshold of a drift detector: it alarms when its statistic is above.',
  },
  alerts: {
    name: 'copal.alerts',
    type: 'gauge',
    unit: '{alert}',
    labels: ['model', 'kind'],
    meaning: 'Alerts that hold: `input_drift`, `gap_drift`, `probe_mismatch`.',
  },
  probeNll: {
    name: 'copal.probe.nll_nats',
    type: 'gauge',
    unit: '{nat}',
    labels: [...NODE, 'mask_version'],
    meaning: "A node's loss on the probe texts, nats a token; nodes with the same mask should agree.",
  },
  probeMatches: {
    name: 'copal.probe.matches',
    type: 'gauge',
    unit: '{bool}',
    labels: [...NODE, 'mask_version'],
    meaning: '1 while a node agrees with the others on the probe texts; 0: its weights may be damaged.',
  },
  samplerDecisions: {
    name: 'copal.sampler.decisions',
    type: 'counter',
    unit: '{sample}',
    labels: ['domain', 'decision'],
    meaning:
      'Queued samples by what became of them: `offered` to the reservoir, `deleted`, `withdrawn` (consent), `foreign` (domain of another tenant), `no_domain` (too many domains), `retried`, `dead`.',
  },
  redactions: {
    name: 'copal.redactions',
    type: 'counter',
    unit: '{replacement}',
    labels: ['class'],
    meaning:
      'Parts of samples that were replaced before they were stored, by the [class](consent.md) of personal data.',
  },
  updatesEnded: {
    name: 'copal.updates',
    type: 'gauge',
    unit: '{update}',
    labels: ['model', 'state'],
    meaning:
      'Updates by state: `collecting` … `promoting` run, `promoted`, `rolled_back`, `failed`, `cancelled` have ended.',
  },
  updatesFailedInARow: {
    name: 'copal.updates.failed_in_a_row',
    type: 'gauge',
    unit: '{update}',
    labels: ['model'],
    meaning:
      'Updates of a model that failed or were rolled back since the last one that was promoted; without cancelled ones and those for the mask of one domain.',
  },
  updatesDue: {
    name: 'copal.updates.due',
    type: 'gauge',
    unit: '{domain}',
    labels: ['model'],
    meaning:
      'Domains whose update could start by the policy, but did not at the last run of the triggers: no node is alive, an operator runs a trial, or the start failed.',
  },
  updateAge: {
    name: 'copal.update.age',
    type: 'gauge',
    unit: 's',
    labels: ['model', 'state'],
    meaning: 'Time since the running update started; absent while none runs.',
  },
  updateProgress: {
    name: 'copal.update.progress',
    type: 'gauge',
    unit: '1',
    labels: ['model', 'kind'],
    meaning: 'Progress of the running jobs of an update (`calibrate`, `evaluate`), mean.',
  },
  gateRatio: {
    name: 'copal.gate.perplexity_ratio',
    type: 'gauge',
    unit: '{ratio}',
    labels: ['model', 'mask_version', 'domain', 'figure', 'bound'],
    meaning:
      'Figures of the newest gate decision of a model: perplexity of the candidate over that of `parent`, `best`, `dense` or, for an own mask, `shared`, as `value` and `upper` bound, and the `limit`. `parent_weighted` is over all domains, `(all)`. Small holdouts bounded as one are `(together)`, the general holdout is `(general)` ([gate](architecture/gate.md#the-gate)).',
  },
  decisions: {
    name: 'copal.decisions',
    type: 'counter',
    unit: '{decision}',
    labels: ['model', 'kind', 'verdict'],
    meaning: 'Decisions about masks, such as `gate` with `passed`, `failed`, `retried`.',
  },
  recordsDeleted: {
    name: 'copal.records.deleted',
    type: 'counter',
    unit: '{record}',
    labels: ['kind'],
    meaning:
      'What the [retention](retention.md#history) deleted: `receipt`, `score` (of shadows), `job`, `decision`, `usage_total`, `mask`, `evaluation`, `update`, `key`, and `file` (masks, datasets and classifiers in R2).',
  },
  databaseSize: {
    name: 'copal.database.size',
    type: 'gauge',
    unit: 'By',
    labels: [],
    meaning: 'Size of the D1 database, which has at most 10 GB.',
  },
} as const satisfies Record<string, GatewayMetric>
