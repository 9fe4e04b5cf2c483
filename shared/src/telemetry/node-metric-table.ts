import type { Metric } from './metric.ts'

/** Attributes of the metrics of the GenAI semantic conventions. */
const GEN_AI = ['gen_ai.operation.name', 'gen_ai.provider.name', 'gen_ai.request.model'] as const

/** Every metric of a node. Its instruments are created from here, and `docs/telemetry.md` is generated from here. */
export const NODE_METRICS = {
  requestDuration: {
    name: 'gen_ai.server.request.duration',
    type: 'histogram',
    unit: 's',
    labels: [...GEN_AI, 'error.type'],
    meaning:
      'From the arrival of a request to its last token. `error.type` is the error code of one that failed.',
  },
  timeToFirstToken: {
    name: 'gen_ai.server.time_to_first_token',
    type: 'histogram',
    unit: 's',
    labels: GEN_AI,
    meaning: 'From the arrival of a request to its first token; of requests that did not fail.',
  },
  timePerOutputToken: {
    name: 'gen_ai.server.time_per_output_token',
    type: 'histogram',
    unit: 's',
    labels: GEN_AI,
    meaning: 'Mean time of a request between two tokens, after the first; of requests that did not fail.',
  },
  interTokenLatency: {
    name: 'copal.node.inter_token_latency',
    type: 'histogram',
    unit: 's',
    labels: [],
    meaning:
      'Between the tokens of a request of one step and those of its next; a step with drafts counts once, whatever it samples, as in vLLM. Its tail shows stalls that a mean hides.',
  },
  queueDuration: {
    name: 'copal.node.queue.duration',
    type: 'histogram',
    unit: 's',
    labels: [],
    meaning: 'From the arrival of a request to its first step.',
  },
  requests: {
    name: 'copal.node.requests',
    type: 'counter',
    unit: '{request}',
    labels: ['outcome', 'code'],
    meaning:
      'Requests that ended: `stop`, `length`, `cancelled`, `refused` (never ran) or `error`, with the `code` of an error.',
  },
  tokens: {
    name: 'copal.node.tokens',
    type: 'counter',
    unit: '{token}',
    labels: ['kind'],
    meaning: 'Tokens of requests that ended: `prompt`, `completion`.',
  },
  promptTokensCached: {
    name: 'copal.node.prompt_tokens_cached',
    type: 'counter',
    unit: '{token}',
    labels: [],
    meaning: 'Prompt tokens that the prefix cache gave.',
  },
  prefixLookups: {
    name: 'copal.node.prefix.lookups',
    type: 'counter',
    unit: '{request}',
    labels: ['outcome'],
    meaning:
      'Requests that found (`hit`) or did not find (`miss`) the start of their prompt in the prefix cache.',
  },
  requestsRunning: {
    name: 'copal.node.requests_running',
    type: 'gauge',
    unit: '{request}',
    labels: [],
    meaning: 'Requests in prefill or decode.',
  },
  requestsWaiting: {
    name: 'copal.node.requests_waiting',
    type: 'gauge',
    unit: '{request}',
    labels: [],
    meaning: 'Requests in the queue of the node.',
  },
  stepDuration: {
    name: 'copal.node.step.duration',
    type: 'histogram',
    unit: 's',
    labels: ['mask_version'],
    meaning: 'One step of a weight set.',
  },
  stepBatchSize: {
    name: 'copal.node.step.batch_size',
    type: 'histogram',
    unit: '{sequence}',
    labels: ['mask_version'],
    meaning: 'Sequences that one step computed.',
  },
  stepTokens: {
    name: 'copal.node.step.tokens',
    type: 'counter',
    unit: '{token}',
    labels: ['mask_version', 'phase'],
    meaning: 'Tokens computed: `prefill`, `decode`, `draft`, `score`.',
  },
  acceptedDrafts: {
    name: 'copal.node.drafts_accepted',
    type: 'counter',
    unit: '{token}',
    labels: ['mask_version'],
    meaning: 'Drafts that were what the model sampled, of the `draft` tokens computed.',
  },
  kvTokensUsed: {
    name: 'copal.node.kv_tokens_used',
    type: 'gauge',
    unit: '{token}',
    labels: [],
    meaning: 'Key/value cache in use, in tokens; a page has 16.',
  },
  kvTokensCached: {
    name: 'copal.node.kv_tokens_cached',
    type: 'gauge',
    unit: '{token}',
    labels: [],
    meaning: 'Key/value cache that no request uses and that later prompts can share.',
  },
  kvTokens: {
    name: 'copal.node.kv_tokens',
    type: 'gauge',
    unit: '{token}',
    labels: [],
    meaning: 'Capacity of the key/value cache.',
  },
  activeMaskVersion: {
    name: 'copal.node.active_mask_version',
    type: 'gauge',
    unit: '{version}',
    labels: [],
    meaning: 'Mask that new requests start on; 0 is dense, −1 before the first.',
  },
  weightSets: {
    name: 'copal.node.weight_sets',
    type: 'gauge',
    unit: '{set}',
    labels: ['state'],
    meaning: 'Weight sets that are `loading`, `ready`, `draining`, `failed`.',
  },
  weightsSize: {
    name: 'copal.node.weights.size',
    type: 'gauge',
    unit: 'By',
    labels: ['mask_version'],
    meaning: 'Memory of a loaded weight set, with what it shares with others.',
  },
  weightLoads: {
    name: 'copal.node.weight_loads',
    type: 'counter',
    unit: '{set}',
    labels: ['outcome'],
    meaning:
      'Weight sets that were loaded (`ready`), could not be (`failed`), or were not wanted any more (`abandoned`).',
  },
  swaps: {
    name: 'copal.node.swaps',
    type: 'counter',
    unit: '{swap}',
    labels: [],
    meaning: 'Times that new requests began to start on another mask.',
  },
  swapDuration: {
    name: 'copal.node.swap.duration',
    type: 'histogram',
    unit: 's',
    labels: ['phase'],
    meaning:
      'Parts of a swap: `fetch` the mask file, `pack` and verify the weights, `flip` to them, `drain` the set that leaves.',
  },
  scoringOutcomes: {
    name: 'copal.node.scoring.outcomes',
    type: 'counter',
    unit: '{request}',
    labels: ['outcome'],
    meaning:
      'Whether requests were scored for drift: `scored`, `not_sampled`, `too_short`, `budget`, `evicted`, `failed`.',
  },
  textsScoring: {
    name: 'copal.node.texts_scoring',
    type: 'gauge',
    unit: '{text}',
    labels: [],
    meaning: 'Texts that are scored or wait for it.',
  },
  grammarCompiles: {
    name: 'copal.node.grammar.compiles',
    type: 'counter',
    unit: '{grammar}',
    labels: ['outcome'],
    meaning: 'Grammars of structured output that were `compiled` or `failed`; cached ones are not counted.',
  },
  grammarCompileDuration: {
    name: 'copal.node.grammar.compile.duration',
    type: 'histogram',
    unit: 's',
    labels: [],
    meaning: 'Compiling a grammar, with the wait for the sandbox.',
  },
  jobs: {
    name: 'copal.node.jobs',
    type: 'counter',
    unit: '{job}',
    labels: ['kind', 'outcome'],
    meaning: 'Jobs of updates (`calibrate`, `evaluate`) that ended: `done`, `failed`, `cancelled`.',
  },
  jobDuration: {
    name: 'copal.node.job.duration',
    type: 'histogram',
    unit: 's',
    labels: ['kind'],
    meaning: 'Jobs that ended.',
  },
  jobProgress: {
    name: 'copal.node.job.progress',
    type: 'gauge',
    unit: '1',
    labels: ['kind'],
    meaning: 'Progress of the running job; absent while none runs.',
  },
  receiptsWaiting: {
    name: 'copal.node.receipts_waiting',
    type: 'gauge',
    unit: '{receipt}',
    labels: [],
    meaning: 'Receipts that the gateway has not accepted yet.',
  },
  heartbeats: {
    name: 'copal.node.heartbeats',
    type: 'counter',
    unit: '{heartbeat}',
    labels: ['outcome'],
    meaning: 'Heartbeats that the gateway `answered`, or that `failed`.',
  },
  cpuTime: {
    name: 'process.cpu.time',
    type: 'counter',
    unit: 's',
    labels: ['cpu.mode'],
    meaning: 'Processor time of the process: `user`, `system`.',
  },
  memoryUsage: {
    name: 'process.memory.usage',
    type: 'gauge',
    unit: 'By',
    labels: [],
    meaning: 'Resident memory of the process; children (ONNX, jobs) are not in it.',
  },
  eventLoopUtilization: {
    name: 'nodejs.eventloop.utilization',
    type: 'gauge',
    unit: '1',
    labels: [],
    meaning: 'Share of the time since the last collection that the event loop was busy.',
  },
} as const satisfies Record<string, Metric>

/** The name in code of a metric of a node. */
export type NodeMetricName = keyof typeof NODE_METRICS
