import { TRAFFIC, type GatewayMetric } from './gateway-metric.ts'

const NODE = ['node', 'model'] as const

/** Metrics of nodes, of the masks that they serve, and of trials. */
export const FLEET_METRICS = {
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
} as const satisfies Record<string, GatewayMetric>
