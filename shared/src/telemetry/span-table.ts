/** A span that the gateway or the node records. */
export interface SpanDefinition {
  /** The name; words in braces vary: a model, an HTTP method and route, the state of an update. */
  readonly name: string
  readonly half: 'gateway' | 'node'
  readonly kind: 'server' | 'client' | 'internal'
  readonly parent: string
  readonly attributes: readonly string[]
  /** The meaning for operators: one line of Markdown. */
  readonly meaning: string
}

const HTTP_SERVER = [
  'http.request.method',
  'http.route',
  'url.path',
  'http.response.status_code',
  'error.type',
] as const

const GEN_AI_REQUEST = [
  'gen_ai.operation.name',
  'gen_ai.provider.name',
  'gen_ai.request.model',
  'gen_ai.usage.input_tokens',
  'gen_ai.usage.output_tokens',
  'gen_ai.response.finish_reasons',
] as const

/** Every span of both halves, from the client's request to its settlement, and of an update. */
export const SPANS = [
  {
    name: '{method} {route}',
    half: 'gateway',
    kind: 'server',
    parent: "the caller's span",
    attributes: [...HTTP_SERVER, 'copal.request_id', 'copal.cache'],
    meaning: 'A call of the gateway, until its response begins.',
  },
  {
    name: '{operation} {model}',
    half: 'gateway',
    kind: 'client',
    parent: '{method} {route}',
    attributes: [
      'gen_ai.operation.name',
      'gen_ai.provider.name',
      'gen_ai.request.model',
      'gen_ai.request.stream',
      'error.type',
      'copal.domain',
      'copal.sampled',
      'copal.node',
      'copal.lease',
      'copal.mask',
      'copal.stream_end',
    ],
    meaning:
      'The generation, until the last byte was relayed: `chat`, `text_completion` or `embeddings`, and the model.',
  },
  {
    name: 'lease',
    half: 'gateway',
    kind: 'internal',
    parent: '{operation} {model}',
    attributes: ['copal.attempt', 'copal.node', 'copal.mask', 'copal.lease.outcome'],
    meaning: 'An attempt asks the Fleet object for a node, and waits for one in its queue.',
  },
  {
    name: '{method} {route}',
    half: 'node',
    kind: 'server',
    parent: '{operation} {model}',
    attributes: [...HTTP_SERVER, ...GEN_AI_REQUEST, 'copal.request', 'copal.domain', 'copal.mask'],
    meaning: 'The call of the node, until the last token.',
  },
  {
    name: 'queue',
    half: 'node',
    kind: 'internal',
    parent: '{method} {route}',
    attributes: [],
    meaning: 'From the arrival to the first step.',
  },
  {
    name: 'prefill',
    half: 'node',
    kind: 'internal',
    parent: '{method} {route}',
    attributes: ['copal.prompt_tokens', 'copal.prompt_tokens_cached'],
    meaning: 'From the first step to the first token.',
  },
  {
    name: 'decode',
    half: 'node',
    kind: 'internal',
    parent: '{method} {route}',
    attributes: ['copal.completion_tokens'],
    meaning: 'From the first token to the last.',
  },
  {
    name: 'settle',
    half: 'gateway',
    kind: 'internal',
    parent: '{method} {route}',
    attributes: ['copal.request', 'copal.node', 'copal.finish_reason', 'copal.scoring'],
    meaning: "The gateway stores the receipt of the request; its parent is the node's span.",
  },
  {
    name: 'update',
    half: 'gateway',
    kind: 'internal',
    parent: 'none',
    attributes: [
      'copal.update',
      'copal.model',
      'copal.update.state',
      'copal.update.trigger',
      'copal.mask',
      'error.type',
    ],
    meaning: 'An update from its start to its end. Its trace id is the start of the SHA-256 of its id.',
  },
  {
    name: '{state}',
    half: 'gateway',
    kind: 'internal',
    parent: 'update',
    attributes: ['copal.update', 'copal.model', 'copal.update.event'],
    meaning:
      'A step of an update: `collecting`, `calibrating`, `evaluating`, `confirming`, `canary`, `promoting`.',
  },
  {
    name: 'job {kind}',
    half: 'node',
    kind: 'internal',
    parent: '{state}',
    attributes: ['copal.job', 'copal.job.outcome', 'error.type'],
    meaning: 'A node calibrates or evaluates for the step.',
  },
] as const satisfies readonly SpanDefinition[]
