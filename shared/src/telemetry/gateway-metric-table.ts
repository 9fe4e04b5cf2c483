import type { Metric } from './metric.ts'

/** A metric of the gateway. */
interface GatewayMetric extends Metric {
  /** A key with the scope `read-metrics` sees the part of its own tenant, with the label `tenant`. */
  readonly perTenant?: true
}

/** Labels of traffic; see `docs/telemetry.md` for the bounds of domains and mask versions. */
const TRAFFIC = ['model', 'domain', 'mask_version'] as const
const NODE = ['node', 'model'] as const

/** Every metric of the gateway. `GET /metrics` and `docs/telemetry.md` are generated from here. */
export const GATEWAY_METRICS = {
  requests: {
    name: 'copal.requests',
    type: 'counter',
    unit: '{request}',
    labels: [...TRAFFIC, 'outcome'],
    perTenant: true,
    meaning:
      'Settled requests: `stop`, `length`, `cancelled`, `refused` (it cannot be served as it is, which is no failure), `error`.',
  },
  requestErrors: {
    name: 'copal.request.errors',
    type: 'counter',
    unit: '{request}',
    labels: ['model', 'code'],
    meaning:
      'Settled requests with the outcome `error`, by the code of the error; `unknown` from older nodes, whose receipts name none.',
  },
  promptTokens: {
    name: 'copal.prompt_tokens',
    type: 'counter',
    unit: '{token}',
    labels: [...TRAFFIC, 'outcome'],
    perTenant: true,
    meaning: 'Prompt tokens of settled requests.',
  },
  completionTokens: {
    name: 'copal.completion_tokens',
    type: 'counter',
    unit: '{token}',
    labels: [...TRAFFIC, 'outcome'],
    perTenant: true,
    meaning: 'Generated tokens of settled requests.',
  },
  requestDuration: {
    name: 'copal.request.duration',
    type: 'histogram',
    unit: 's',
    labels: ['model'],
    meaning: 'Settled requests, from their arrival on the node to their end, as receipts report it.',
  },
  timeToFirstToken: {
    name: 'copal.request.time_to_first_token',
    type: 'histogram',
    unit: 's',
    labels: ['model'],
    meaning: 'Settled requests with a token, from their arrival on the node to the first one.',
  },
  requestsEstimated: {
    name: 'copal.requests_estimated',
    type: 'gauge',
    unit: '{request}',
    labels: TRAFFIC,
    perTenant: true,
    meaning:
      'Requests whose lease expired without a receipt: their node died or cannot reach the gateway. Falls when a receipt comes after all.',
  },
  tokensEstimated: {
    name: 'copal.tokens_estimated',
    type: 'gauge',
    unit: '{token}',
    labels: TRAFFIC,
    perTenant: true,
    meaning: 'Tokens of prompts and outputs that requests without a receipt are charged.',
  },
  requestsMoved: {
    name: 'copal.requests_moved',
    type: 'gauge',
    unit: '{request}',
    labels: TRAFFIC,
    perTenant: true,
    meaning:
      'Corrections of `copal_requests_total`, which never falls: requests whose domain was found afterwards, negative under the old one and positive under the one found; and, negative, attempts that a retry superseded after they were counted.',
  },
  tokensMoved: {
    name: 'copal.tokens_moved',
    type: 'gauge',
    unit: '{token}',
    labels: TRAFFIC,
    perTenant: true,
    meaning: 'Tokens of `copal_requests_moved`, with its signs.',
  },
  requestsRefused: {
    name: 'copal.requests_refused',
    type: 'counter',
    unit: '{request}',
    labels: ['model', 'reason'],
    perTenant: true,
    meaning:
      'Requests that got no node (429, 503): over a limit (`requests`, `tokens`, `month`, `concurrent`), or `full`, `absent`, `retries`, `unknown`. From zero when the Fleet object restarts.',
  },
  dispatchLeases: {
    name: 'copal.dispatch.leases',
    type: 'counter',
    unit: '{attempt}',
    labels: ['model'],
    meaning:
      'Attempts that were given a node. From zero when the Fleet object restarts, as all `copal_dispatch_…`.',
  },
  dispatchFailures: {
    name: 'copal.dispatch.failures',
    type: 'counter',
    unit: '{attempt}',
    labels: ['model', 'how'],
    meaning:
      'Attempts that failed on their node: `broke` (connection lost), `cut` (during the output), `failed` (an internal error), `full`, `refused`.',
  },
  dispatchRetries: {
    name: 'copal.dispatch.retries',
    type: 'counter',
    unit: '{attempt}',
    labels: ['model'],
    meaning: 'Attempts that follow a failed one of the same request.',
  },
  dispatchQueueLength: {
    name: 'copal.dispatch.queue_length',
    type: 'gauge',
    unit: '{request}',
    labels: [],
    meaning: 'Requests that wait in the gateway because the fleet is full or away.',
  },
  dispatchQueueDuration: {
    name: 'copal.dispatch.queue.duration',
    type: 'histogram',
    unit: 's',
    labels: [],
    meaning: 'Wait of attempts for a node in the gateway; those served at once count as 0.',
  },
  nodesAlive: {
    name: 'copal.nodes_alive',
    type: 'gauge',
    unit: '{node}',
    labels: ['model'],
    meaning: 'Nodes whose heartbeats arrive.',
  },
  nodeBreakerState: {
    name: 'copal.node.breaker_state',
    type: 'gauge',
    unit: '{state}',
    labels: NODE,
    meaning: "A node's circuit breaker for all tenants: 0 closed, 1 half open (probing), 2 open.",
  },
  nodeLeases: {
    name: 'copal.node.leases',
    type: 'gauge',
    unit: '{request}',
    labels: NODE,
    meaning: 'Requests dispatched to a node and not settled yet.',
  },
  nodeRequestsRunning: {
    name: 'copal.node.requests_running',
    type: 'gauge',
    unit: '{request}',
    labels: NODE,
    meaning: 'Requests that run on a node.',
  },
  nodeRequestsWaiting: {
    name: 'copal.node.requests_waiting',
    type: 'gauge',
    unit: '{request}',
    labels: NODE,
    meaning: 'Requests that wait on a node.',
  },
  nodeKvTokensUsed: {
    name: 'copal.node.kv_tokens_used',
    type: 'gauge',
    unit: '{token}',
    labels: NODE,
    meaning: 'Tokens of key/value cache in use.',
  },
  nodeKvTokens: {
    name: 'copal.node.kv_tokens',
    type: 'gauge',
    unit: '{token}',
    labels: NODE,
    meaning: 'Capacity of the key/value cache in tokens.',
  },
  nodeActiveVersion: {
    name: 'copal.node.active_version',
    type: 'gauge',
    unit: '{version}',
    labels: NODE,
    meaning: 'Mask that new requests start on.',
  },
  nodeWeightsSize: {
    name: 'copal.node.weights.size',
    type: 'gauge',
    unit: 'By',
    labels: [...NODE, 'mask_version'],
    meaning: 'Memory of a weight set on a node, as its heartbeats report it.',
  },
  modelActiveVersion: {
    name: 'copal.model.active_version',
    type: 'gauge',
    unit: '{version}',
    labels: ['model'],
    meaning: 'Mask that nodes should serve; 0 is dense.',
  },
  modelConverged: {
    name: 'copal.model.converged',
    type: 'gauge',
    unit: '{bool}',
    labels: ['model'],
    meaning: '1 while at least one node serves the model and all that do serve its active mask, else 0.',
  },
  maskSparsity: {
    name: 'copal.mask.sparsity',
    type: 'gauge',
    unit: '1',
    labels: ['model', 'mask_version'],
    meaning: 'Share of weights that a mask in force prunes.',
  },
  modelCanaryShare: {
    name: 'copal.model.canary_share',
    type: 'gauge',
    unit: '{share}',
    labels: ['model', 'mask_version'],
    meaning: 'Share of the conversations on which a mask is tested beside the active one.',
  },
  modelShadowShare: {
    name: 'copal.model.shadow_share',
    type: 'gauge',
    unit: '{share}',
    labels: ['model', 'mask_version'],
    meaning: 'Share of the requests whose output is also scored under a shadow.',
  },
  trialGap: {
    name: 'copal.trial.gap_nats',
    type: 'gauge',
    unit: '{nat}',
    labels: ['model', 'mask_version', 'trial', 'bound'],
    meaning:
      'Loss by the mask that an update tests (`canary`) or that is watched (`watch`) beside the other mask, nats a prompt token: `mean`, `lower` and `upper` bound ([canary](architecture/gate.md#canary)).',
  },
  trialScoredRequests: {
    name: 'copal.trial.scored_requests',
    type: 'gauge',
    unit: '{request}',
    labels: ['model', 'mask_version', 'trial'],
    meaning: 'Scored requests behind `copal_trial_gap_nats`.',
  },
  shadowGap: {
    name: 'copal.shadow.gap_nats',
    type: 'gauge',
    unit: '{nat}',
    labels: [...TRAFFIC, 'text'],
    meaning: 'What a shadow would cost, on the `prompt` and on the `answer`, nats a token.',
  },
  shadowTokens: {
    name: 'copal.shadow.tokens',
    type: 'gauge',
    unit: '{token}',
    labels: [...TRAFFIC, 'text'],
    meaning:
      'Scored tokens behind `copal_shadow_gap_nats`. Falls when scores are older than 30 days, and when their domain is found or registered afterwards.',
  },
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
      'Figures of the newest gate decision of a model: perplexity of the candidate over that of `parent`, `best`, `dense`, as `value` and `upper` bound, and the `limit` ([gate](architecture/gate.md#the-gate)).',
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
      'What the [retention](operations.md#history) deleted: `receipt`, `score` (of shadows), `job`, `decision`, `usage_total`, `mask`, `evaluation`, `update`, `key`, and `file` (masks, datasets and classifiers in R2).',
  },
  databaseSize: {
    name: 'copal.database.size',
    type: 'gauge',
    unit: 'By',
    labels: [],
    meaning: 'Size of the D1 database, which has at most 10 GB.',
  },
  cacheLookups: {
    name: 'copal.cache.lookups',
    type: 'counter',
    unit: '{request}',
    labels: ['outcome'],
    perTenant: true,
    meaning:
      'Requests that asked for a cached response, and whether there was one (`hit`, `miss`). No other metric counts hits.',
  },
  cacheAnswers: {
    name: 'copal.cache.answers',
    type: 'gauge',
    unit: '{response}',
    labels: [],
    perTenant: true,
    meaning: 'Cached responses.',
  },
  cacheBytes: {
    name: 'copal.cache.bytes',
    type: 'gauge',
    unit: 'By',
    labels: [],
    perTenant: true,
    meaning: 'Bytes of the cached responses.',
  },
  buildInfo: {
    name: 'copal.build_info',
    type: 'gauge',
    unit: '{bool}',
    labels: ['version'],
    meaning: 'Always 1, with the version of the gateway.',
  },
} as const satisfies Record<string, GatewayMetric>

/** The name in code of a metric of the gateway. */
export type GatewayMetricName = keyof typeof GATEWAY_METRICS
