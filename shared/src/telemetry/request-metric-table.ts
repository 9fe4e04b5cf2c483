import { TRAFFIC, type GatewayMetric } from './gateway-metric.ts'

/** Metrics of requests, and of how they get their nodes. */
export const REQUEST_METRICS = {
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
      'Corrections of `copal_requests_total`, which never falls: requests whose domain was found afterwards, negative under the old one and positive under the one found; and, negative, attempts that a retry superseded after they were counted, or whose client got no output.',
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
      'Requests that got no node (429, 503): over a limit (`requests`, `tokens`, `month`, `concurrent`), or `full`, `absent`, `retries`, `unknown`. A request of which a node failed and no other took the retry also counts in `copal_requests_total`. From zero when the Fleet object restarts.',
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
} as const satisfies Record<string, GatewayMetric>
