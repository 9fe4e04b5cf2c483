import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, connect, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ImportedMask, MaskEntry } from '@copal/shared/wire/admin.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { gatewayPart } from '../../../infra/local/service/gateway-process.ts'
import { openHome } from '../../../infra/local/service/home.ts'
import { freePort } from '../../../infra/local/processes/ports.ts'
import { readSettings } from '../../../infra/local/service/service-settings.ts'
import { activateUnproven } from './activate-mask.ts'
import { gatewayBundle } from '../../../infra/local/service/gateway-bundle.ts'
import { copyMigratedState } from './migrated-state.ts'
import { startNodeProcess, type NodeProcess } from './node-process.ts'
import { until } from './service.ts'
import { createTinyLlama } from '../models/tiny-llama.ts'

/** Long timeouts of the gateway: on a busy machine starts, queues and lookups take their time, and a node may stop for a while. */
const POLICY = {
  COPAL_NODE_SILENT_MS: '300000',
  COPAL_NODE_DEAD_MS: '300000',
  COPAL_LEASE_MS: '300000',
  COPAL_CONNECT_TIMEOUT_MS: '300000',
  COPAL_IDLE_TIMEOUT_MS: '300000',
  COPAL_NODE_WAIT_MS: '120000',
  COPAL_QUEUE_TIMEOUT_MS: '120000',
  COPAL_CACHE_LOOKUP_MS: '30000',
  COPAL_KEY_TRUST_MS: '300',
}

/** A node of a {@link TestFleet}, with a relay between it and the gateway. */
export interface FleetNode {
  id: string
  process: NodeProcess
  /** Breaks its connection to the gateway (heartbeats, receipts). Calls of the gateway still reach it. */
  disconnect(): void
  reconnect(): void
}

/** The real gateway in workerd with several real nodes, each a process with the tiny model. */
export interface TestFleet {
  readonly url: string
  /** The secret that the nodes' secrets are derived from. */
  readonly gatewaySecret: string
  /** Returns the secret of a node. */
  nodeSecret(id: string): Promise<string>
  readonly adminKey: string
  admin<T>(method: string, path: string, body?: unknown, timeoutMs?: number): Promise<T>
  /** Creates an API key. */
  key(limits?: object, tenant?: string): Promise<{ id: string; key: string }>
  /** Returns the metrics that a key of a tenant with the scope `read-metrics` sees. */
  tenantMetrics(tenant: string): Promise<string>
  /** The model that its nodes serve. */
  readonly model: DenseModel
  /** Registers a mask file. Activates it if asked to, whatever the gate says; then a node must be alive. */
  importMask(file: Uint8Array<ArrayBuffer>, activate: boolean): Promise<MaskEntry>
  /** Returns the environment of a node of this fleet. */
  environment(id: string): Promise<Record<string, string>>
  /** Starts a node, or a new process of a node that ended, and waits until it takes requests. */
  start(id: string): Promise<FleetNode>
  /** Returns the ids of the nodes that take requests. */
  alive(): Promise<string[]>
  /** Resolves when no request runs and every lease is settled. */
  settled(): Promise<void>
  /** The folder of the gateway's database files. */
  readonly stateDir: string
  /** Returns everything that the gateway logged. */
  gatewayLog(): string
  killGateway(): Promise<void>
  startGateway(): Promise<void>
  stop(): Promise<void>
}

/**
 * Starts a gateway without nodes.
 *
 * @param backend of its nodes
 * @param variables of the gateway, such as other timeouts
 * @param nodeVariables of every node
 */
export async function startFleet({
  backend = 'onnx',
  variables = {},
  nodeVariables = {},
}: {
  backend?: 'onnx' | 'sparse' | 'gpu'
  variables?: Record<string, string>
  nodeVariables?: Record<string, string>
} = {}): Promise<TestFleet> {
  const dir = await mkdtemp(join(tmpdir(), 'copal-fleet-'))
  const tiny = await createTinyLlama(join(dir, 'tiny'), { contextLength: 16_384 })
  const cacheDir = join(dir, 'cache')
  const model = await openModel(tiny.dir, { cacheDir })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const settings = readSettings({
    ...POLICY,
    ...variables,
    COPAL_HOME: join(dir, 'home'),
    COPAL_PORT: String(port),
  })
  const bundle = await gatewayBundle(settings.root)
  mkdirSync(settings.home)
  const home = openHome(settings.home)
  const nodes = new Map<string, FleetNode & { relay: Relay }>()
  let gateway: ChildProcess | undefined

  const admin = async <T>(method: string, path: string, body?: unknown, timeoutMs = 60_000): Promise<T> => {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${home.secrets.adminKey}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(timeoutMs),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    const isJson = response.headers.get('content-type')?.includes('application/json')
    return (isJson ? JSON.parse(text) : text) as T
  }
  const fleet: TestFleet = {
    url,
    gatewaySecret: home.secrets.nodeSecret,
    adminKey: home.secrets.adminKey,
    nodeSecret: (id) => nodeSecret(home.secrets.nodeSecret, id),
    stateDir: home.stateDir,
    admin,
    model,
    async importMask(file, activate) {
      const sha256 = createHash('sha256').update(file).digest('hex')
      const response = await fetch(`${url}/admin/masks/${sha256}?activate=${activate}`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${home.secrets.adminKey}` },
        body: file,
      })
      if (!response.ok) throw new Error(`the mask was rejected: ${await response.text()}`)
      const entry = (await response.json()) as ImportedMask
      await activateUnproven(admin, entry.update)
      return entry
    },
    key: async (limits = {}, tenant) => {
      if (tenant !== undefined) await admin('PUT', `/admin/tenants/${tenant}`)
      const of = tenant === undefined ? {} : { tenant }
      const wanted = { name: 'test', limits, ...of }
      const made = await admin<{ id: string; key: string }>('POST', '/admin/keys', wanted)
      return { id: made.id, key: made.key }
    },
    async tenantMetrics(tenant) {
      const wanted = { name: 'metrics', tenant, scopes: ['read-metrics'] }
      const { key } = await admin<{ key: string }>('POST', '/admin/keys', wanted)
      const response = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${key}` } })
      if (!response.ok) throw new Error(`GET /metrics: ${response.status} ${await response.text()}`)
      return response.text()
    },
    environment: async (id) => ({
      ...nodeVariables,
      COPAL_MODEL: tiny.dir,
      COPAL_HOME: join(dir, id),
      COPAL_CACHE: cacheDir,
      COPAL_NODE_ID: id,
      COPAL_NODE_PORT: '0',
      COPAL_GATEWAY_URL: url,
      COPAL_NODE_SECRET: await nodeSecret(home.secrets.nodeSecret, id),
      COPAL_THREADS: '1',
      COPAL_BACKEND: backend,
      COPAL_HEARTBEAT_MS: '200',
    }),
    async start(id) {
      const known = nodes.get(id)
      const relay = known?.relay ?? (await openRelay(port))
      const process = startNodeProcess({
        ...(await fleet.environment(id)),
        COPAL_GATEWAY_URL: `http://127.0.0.1:${relay.port}`,
      })
      const node = { id, process, relay, disconnect: relay.disconnect, reconnect: relay.reconnect }
      nodes.set(id, node)
      await process.ready()
      // The gateway knows it, and its model, from its first heartbeat on.
      await until(`node ${id}`, async () => (await fleet.alive()).includes(id) || undefined)
      return node
    },
    async alive() {
      const { nodes: seen } = await admin<{ nodes: { id: string; alive: boolean }[] }>('GET', '/admin/status')
      return seen.filter(({ alive }) => alive).map(({ id }) => id)
    },
    async settled() {
      await until('every lease to be settled', async () => {
        const metrics = await admin<string>('GET', '/metrics')
        const busy = metrics
          .split('\n')
          .filter((line) => /^copal_node_(leases|requests_running|requests_waiting)\{/.test(line))
          .filter((line) => !line.endsWith(' 0'))
        return busy.length === 0 ? true : undefined
      })
    },
    gatewayLog: () => readFileSync(home.gatewayLogPath, 'utf8'),
    async killGateway() {
      if (gateway?.pid === undefined) return
      const exit = once(gateway, 'exit')
      process.kill(-gateway.pid, 'SIGKILL')
      await exit
    },
    async startGateway() {
      gateway = gatewayPart(settings, home, bundle).spawn()
      await until(
        'the gateway',
        async () => (await fetch(`${url}/health`, { signal: AbortSignal.timeout(5_000) })).ok || undefined,
        300_000,
      ).catch((error: unknown) => {
        throw new Error(fleet.gatewayLog(), { cause: error })
      })
    },
    async stop() {
      for (const { process, relay } of nodes.values()) {
        process.child.kill('SIGCONT')
        await process.end('SIGKILL')
        relay.close()
      }
      await fleet.killGateway()
      await rm(dir, { recursive: true, force: true, maxRetries: 5 })
    },
  }
  await copyMigratedState(settings, home)
  await fleet.startGateway()
  return fleet
}

interface Relay {
  port: number
  disconnect: () => void
  reconnect: () => void
  close: () => void
}

/** Opens a TCP relay to the gateway that can be disconnected. */
async function openRelay(gatewayPort: number): Promise<Relay> {
  const sockets = new Set<Socket>()
  let isDisconnected = false
  const server: Server = createServer((near) => {
    if (isDisconnected) return near.destroy()
    const far = connect(gatewayPort, '127.0.0.1')
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
    return undefined
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no address')
  const breakAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    port: address.port,
    disconnect() {
      isDisconnected = true
      breakAll()
    },
    reconnect() {
      isDisconnected = false
    },
    close() {
      server.close()
      breakAll()
    },
  }
}
