import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../../infra/local/processes/ports.ts'
import { randomSecret, startBuiltGateway } from './built-gateway.ts'
import { end, startServer, IpcChild } from './child.ts'
import type { Installed } from './installed.ts'
import type { Request } from './load.ts'
import { childrenOf } from './processes.ts'
import { MODEL, requestBody } from './texts.ts'
import type { Attach, UpstreamMessage } from './upstream.ts'
import type { RunWorker, WorkerMessage } from './worker.ts'

/** A server of chat completions that is measured. */
export interface Contender {
  readonly name: string
  /** Processes of the server. */
  readonly pids: readonly number[]
  /** @param prompt length of the prompt in characters; by default a few sentences */
  request(stream: boolean, prompt?: number): Request
  stop(): Promise<void>
}

/** A gateway of ours. */
export interface GatewayContender extends Contender {
  /** Returns the same gateway, called with a key that has these fields besides the usual ones. */
  withKey(name: string, fields: { tenant?: string; [field: string]: unknown }): Promise<GatewayContender>
  /** Returns how many queued samples it has decided about since it started. */
  decidedSamples(): Promise<number>
}

/** The upstream of all gateways. */
export interface Upstream extends Contender {
  readonly url: string
  /** Registers the upstream as a node of a gateway. */
  attach(gateway: Attach): Promise<void>
}

/** Starts the upstream, which is also a contender itself. */
export async function startUpstream(): Promise<Upstream> {
  const child = new IpcChild<UpstreamMessage>('upstream.ts')
  const { port } = await child.ask()
  const url = `http://127.0.0.1:${port}`
  return {
    name: 'upstream directly',
    url,
    pids: child.process.pid === undefined ? [] : [child.process.pid],
    request: (stream, prompt) => chat(url, stream, prompt),
    attach: async (gateway) => void (await child.ask(gateway)),
    stop: () => child.stop(),
  }
}

/** More than any benchmark uses, so that every request is counted and none is rejected. */
const LIMITS = {
  requests_per_minute: 1e9,
  tokens_per_minute: 1e12,
  tokens_per_month: 1e12,
  concurrent_requests: 1e6,
}

/**
 * Builds and starts the Worker of a checkout as it would be deployed, with everything enabled: a key and a tenant with
 * all limits, receipts, and spans to a collector.
 *
 * @param dir folder for its bundle and databases
 */
export async function startWorker(options: {
  name: string
  root: string
  dir: string
  upstream: Upstream
  /** How long its node takes for a response. */
  responseMs?: number
  /** False: no spans, metrics and log lines are made for a collector. */
  telemetry?: boolean
  /** Further variables of the Worker. */
  variables?: Record<string, string>
}): Promise<GatewayContender> {
  const { name, root, dir, upstream, responseMs = 0, telemetry = true } = options
  const nodeId = 'bench'
  const variables = {
    ...(telemetry ? { OTEL_EXPORTER_OTLP_ENDPOINT: upstream.url } : {}),
    ...options.variables,
  }
  const gateway = await startBuiltGateway({ root, dir, variables })
  const { url, pids, adminKey } = gateway
  const stop = () => gateway.stop()
  try {
    const withKey = async (as: string, fields: { tenant?: string }): Promise<GatewayContender> => {
      const headers = { authorization: `Bearer ${await makeKey(url, adminKey, fields)}` }
      return {
        name: as,
        pids,
        request: (stream, prompt) => chat(url, stream, prompt, headers),
        stop,
        withKey,
        decidedSamples: () => decidedSamples(url, adminKey),
      }
    }
    await upstream.attach({ gatewayUrl: url, secret: await gateway.nodeSecret(nodeId), nodeId, responseMs })
    return await withKey(name, {})
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * Starts a Worker that only forwards requests, to measure workerd itself.
 *
 * @param options.ask whether it calls a Durable Object before each request
 */
export async function startBareWorker(options: {
  ask: boolean
  dir: string
  upstream: Upstream
}): Promise<Contender> {
  const { ask, dir, upstream } = options
  const child = new IpcChild<WorkerMessage>('worker.ts')
  try {
    const { url, pids } = await child.ask({
      stateDir: dir,
      variables: { UPSTREAM: upstream.url, ...(ask ? { ASK: 'true' } : {}) },
    } satisfies RunWorker)
    return {
      name: ask ? 'bare Worker with a Durable Object' : 'bare Worker',
      pids,
      request: (stream, prompt) => chat(url, stream, prompt),
      stop: () => child.stop(),
    }
  } catch (error) {
    await child.stop()
    throw error
  }
}

/** Starts Portkey's gateway. Headers of each request name its upstream. */
export async function startPortkey(
  { script }: Installed['portkey'],
  dir: string,
  upstream: Upstream,
): Promise<Contender> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const child = await startServer({
    command: process.execPath,
    args: [script, `--port=${port}`, '--headless'],
    env: { NODE_ENV: 'production' },
    logPath: join(dir, 'portkey.log'),
    readyUrl: url,
  })
  const headers = {
    authorization: 'Bearer sk-bench',
    'x-portkey-provider': 'openai',
    'x-portkey-custom-host': `${upstream.url}/v1`,
  }
  return {
    name: 'Portkey',
    pids: child.pid === undefined ? [] : [child.pid],
    request: (stream, prompt) => chat(url, stream, prompt, headers),
    stop: () => end(child),
  }
}

/** Starts LiteLLM's proxy with one process, its default. */
export async function startLitellm(
  { command }: Installed['litellm'],
  dir: string,
  upstream: Upstream,
): Promise<Contender> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const configPath = join(dir, 'litellm.json')
  const parameters = { model: `openai/${MODEL}`, api_base: `${upstream.url}/v1`, api_key: 'sk-bench' }
  // JSON is also valid YAML.
  const config = { model_list: [{ model_name: MODEL, litellm_params: parameters }] }
  writeFileSync(configPath, JSON.stringify(config))
  const key = `sk-${randomSecret()}`
  const child = await startServer({
    command,
    args: ['--config', configPath, '--host', '127.0.0.1', '--port', String(port), '--telemetry', 'False'],
    env: { LITELLM_MASTER_KEY: key, LITELLM_LOCAL_MODEL_COST_MAP: 'True', LITELLM_LOG: 'ERROR' },
    logPath: join(dir, 'litellm.log'),
    readyUrl: `${url}/health/liveliness`,
  })
  return {
    name: 'LiteLLM',
    get pids() {
      return child.pid === undefined ? [] : [child.pid, ...childrenOf(child.pid)]
    },
    request: (stream, prompt) => chat(url, stream, prompt, { authorization: `Bearer ${key}` }),
    stop: () => end(child),
  }
}

function chat(
  origin: string,
  stream: boolean,
  prompt: number | undefined,
  headers: Record<string, string> = {},
): Request {
  return {
    origin,
    path: '/v1/chat/completions',
    headers: { 'content-type': 'application/json', ...headers },
    body: requestBody(stream, prompt),
    ending: stream ? 'data: [DONE]' : '}',
  }
}

/** Sums a counter of `/metrics` over the outcomes of samples. */
async function decidedSamples(url: string, adminKey: string): Promise<number> {
  const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${adminKey}` } })
  const lines = (await response.text()).matchAll(/^copal_sampler_decisions_total\{.*\} (\d+)/gmu)
  return [...lines].reduce((sum, [, value]) => sum + Number(value), 0)
}

async function makeKey(
  url: string,
  adminKey: string,
  { tenant = 'bench', ...fields }: { tenant?: string; [field: string]: unknown },
): Promise<string> {
  const admin = async (method: string, path: string, body: object): Promise<unknown> => {
    const headers = { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' }
    const response = await fetch(url + path, { method, headers, body: JSON.stringify(body) })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return JSON.parse(text)
  }
  await admin('PUT', `/admin/tenants/${tenant}`, { limits: LIMITS })
  const made = await admin('POST', '/admin/keys', {
    name: 'bench',
    tenant,
    limits: LIMITS,
    ...fields,
  })
  return (made as { key: string }).key
}
