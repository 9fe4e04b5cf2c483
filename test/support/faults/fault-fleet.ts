import type { ErrorBody } from '@copal/shared/errors.ts'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { startFleet, type FleetNode, type TestFleet } from '../processes/fleet.ts'
import { sumMetric } from '../processes/metrics.ts'
import { until } from '../processes/service.ts'
import { responseEnd, readStreamEnd } from '../processes/stream-end.ts'

/** How long a lease lives while its request makes no progress, ms. */
export const LEASE_MS = 10_000
/** The silence after which a node gets no requests, ms. */
export const SILENT_MS = 5_000

/** Timeouts of the gateway so short that a fault is over soon, and longer than a busy machine lets a process wait. */
const POLICY = {
  COPAL_NODE_SILENT_MS: String(SILENT_MS),
  COPAL_NODE_DEAD_MS: '12000',
  COPAL_LEASE_MS: String(LEASE_MS),
  COPAL_CONNECT_TIMEOUT_MS: '5000',
  COPAL_IDLE_TIMEOUT_MS: '9000',
}

/** The concurrent requests that the key may have. A request that is never settled soon makes others fail. */
export const MAX_CONCURRENT = 24

/** Monthly token limit of the key and of its tenant: more than the tests reserve, and small enough for one request to use it up. */
const BUDGET = 250_000
/** The choices that one request may have. */
const CHOICES = 16
/** A token that the tiny model does not have. */
const UNKNOWN_TOKEN = 9_999_999
const TENANT = 'faults'

/** The end token of the tiny model. */
const END_TOKEN = 2

/** A stream whose first token has arrived. */
export interface OpenStream {
  node: FleetNode
  requestId: string
  /** Reads the rest and returns how the stream ended. */
  end(): Promise<string>
  leave(): Promise<void>
}

/** A fleet of two nodes to inject faults into. It exists from the first test of the file on. */
export interface FaultFleet {
  readonly fleet: TestFleet
  readonly nodes: ReadonlyMap<string, FleetNode>
  /** A key with {@link MAX_CONCURRENT} concurrent requests and a token budget. Its tenant has a budget too. */
  readonly key: string
  /** A key of the same tenant without limits of its own. */
  readonly sibling: string
  /** Starts a node, or a new process of a node that ended. */
  readonly start: (id: string) => Promise<void>
  readonly bothAlive: () => Promise<true>
  /** Sends a completion, which runs long enough to be interrupted unless `changes` shorten it. */
  readonly ask: (changes?: object, options?: AskOptions) => Promise<Response>
  /** Opens a stream and waits for its first token. */
  readonly open: (changes?: object, options?: AskOptions) => Promise<OpenStream>
  /** Opens a stream on one node, so that the next request goes to the other. */
  readonly oneBusy: () => Promise<{ running: OpenStream; other: FleetNode }>
  /** Stops a node and sends requests until one is dispatched to it. The running stream may have ended before. */
  readonly sendToStopped: (node: FleetNode, changes: object) => Promise<{ pending: Promise<Response> }>
  /** Returns the number of settled requests with an outcome. */
  readonly receipts: (outcome: string) => Promise<number>
}

/** How a request is sent. */
export interface AskOptions {
  key?: string
  signal?: AbortSignal
  path?: string
  headers?: Record<string, string>
}

/**
 * Starts the fleet of a test file. After each test it checks that nothing runs, that no lease is left, and that budgets were
 * charged exactly what the receipts say.
 */
export function prepareFaultFleet(of: { backend?: 'sparse' } = {}): FaultFleet {
  let fleet: TestFleet
  let key: string
  let sibling: string
  const nodes = new Map<string, FleetNode>()

  beforeAll(async () => {
    fleet = await startFleet({ ...of, variables: POLICY })
    key = (await fleet.key({ concurrent_requests: MAX_CONCURRENT, tokens_per_month: BUDGET }, TENANT)).key
    sibling = (await fleet.key({}, TENANT)).key
    await fleet.admin('PUT', `/admin/tenants/${TENANT}`, { limits: { tokens_per_month: BUDGET } })
    for (const id of ['node-a', 'node-b']) await faults.start(id)
    await faults.bothAlive()
  })
  afterEach(async () => {
    for (const [id, node] of nodes) {
      node.reconnect()
      if (node.process.child.exitCode === null && node.process.child.signalCode === null)
        node.process.child.kill('SIGCONT')
      else await faults.start(id)
    }
    await faults.bothAlive()
    await fleet.settled()
    await budgetsMatchReceipts(faults)
  })
  afterAll(() => fleet?.stop())

  const faults: FaultFleet = {
    nodes,
    get fleet() {
      return fleet
    },
    get key() {
      return key
    },
    get sibling() {
      return sibling
    },
    start: async (id) => void nodes.set(id, await fleet.start(id)),
    bothAlive: () => until('both nodes', async () => ((await fleet.alive()).length === 2 ? true : undefined)),
    ask: (changes = {}, { key: withKey = key, path = '/v1/completions', headers = {}, ...rest } = {}) =>
      fetch(fleet.url + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${withKey}`, 'content-type': 'application/json', ...headers },
        body: JSON.stringify({
          model: 'tiny',
          prompt: 'Once upon a time',
          max_tokens: 12_000,
          temperature: 0,
          // It never ends by itself.
          logit_bias: { [END_TOKEN]: -100 },
          stream: true,
          ...changes,
        }),
        ...rest,
      }),
    async open(changes = {}, options = {}) {
      const controller = new AbortController()
      const response = await faults.ask(changes, { ...options, signal: controller.signal })
      if (!response.ok || !response.body)
        throw new Error(`no stream: ${response.status} ${await response.text()}`)
      const reader = response.body.getReader()
      const first = await reader.read()
      const node = nodes.get(response.headers.get('x-copal-node') ?? '')
      if (!node) throw new Error('the response names no node of this fleet')
      return {
        node,
        requestId: response.headers.get('x-request-id') ?? '',
        end: () => readStreamEnd(reader, first.value ?? new Uint8Array()),
        async leave() {
          controller.abort()
          await reader.cancel().catch(() => undefined)
        },
      }
    },
    async oneBusy() {
      const running = await faults.open({ max_tokens: of.backend === 'sparse' ? 3_000 : 1_500 })
      const other = [...nodes.values()].find(({ id }) => id !== running.node.id)
      if (!other) throw new Error('there is no other node')
      return { running, other }
    },
    async sendToStopped({ id, process }, changes) {
      const hasLease = async () => {
        const metrics = await fleet.admin<string>('GET', '/metrics')
        return metrics.includes(`copal_node_leases{node="${id}",model="tiny"} 1`)
      }
      for (;;) {
        process.child.kill('SIGSTOP')
        let answered = false
        const pending = faults.ask(changes)
        void pending.finally(() => (answered = true)).catch(() => undefined)
        await until('a lease', async () => (answered || (await hasLease()) ? true : undefined))
        if (!answered) return { pending }
        expect(await responseEnd(await pending)).toBe('done')
        // It may have been silent for too long to get one.
        process.child.kill('SIGCONT')
        await faults.bothAlive()
      }
    },
    async receipts(outcome) {
      await fleet.settled()
      const metrics = await fleet.admin<string>('GET', '/metrics')
      return sumMetric(metrics, 'copal_requests_total', `outcome="${outcome}"`)
    },
  }
  return faults
}

/** Adds the last test of a file: no request of the tests before is still counted as running. */
export function testNoRequestIsLeft({ ask }: FaultFleet): void {
  test('after all tests the key can use all of its concurrent requests', async () => {
    const answers = await Promise.all(Array.from({ length: MAX_CONCURRENT }, () => ask({ max_tokens: 2 })))
    expect(await Promise.all(answers.map(responseEnd))).toEqual(answers.map(() => 'done'))
  })
}

/** Checks that the key and its tenant may use exactly the tokens that the receipts leave of the budget. */
async function budgetsMatchReceipts({ key, sibling, ...faults }: FaultFleet): Promise<void> {
  for (const [who, withKey] of [
    ['this key', key],
    ["this key's tenant", sibling],
  ] as const) {
    // Receipts and released reservations may still be on their way.
    await vi.waitFor(
      async () => {
        const left = BUDGET - (await charged(faults.fleet, TENANT))
        const needs = `of ${BUDGET} tokens a month, ${who} has ${left} left, and this request may use ${left + 1}`
        expect(await refusalOf(faults, left + 1, withKey)).toContain(
          `insufficient_quota: The budget is used up: ${needs}.`,
        )
        // The request is admitted, and then fails because of its unknown token.
        expect(await refusalOf(faults, left, withKey)).toContain(
          `invalid_request: Invalid 'logit_bias': token ${UNKNOWN_TOKEN} does not exist.`,
        )
      },
      // Short, because after one wrong charge it fails after every test of the file.
      { timeout: 60_000, interval: 300 },
    )
  }
}

/** Sends a request that may use this many tokens and that no node runs. Returns the error code and message. */
async function refusalOf({ ask }: Pick<FaultFleet, 'ask'>, tokens: number, key: string): Promise<string> {
  const maxTokens = Math.floor((tokens - 1) / CHOICES)
  const prompt = Array.from({ length: tokens - CHOICES * maxTokens }, () => 1)
  const unserved = { n: CHOICES, max_tokens: maxTokens, logit_bias: { [UNKNOWN_TOKEN]: 1 }, stream: false }
  const response = await ask({ prompt, ...unserved }, { key })
  const { code, message } = ((await response.json()) as ErrorBody).error
  return `${code}: ${message}`
}

/** Returns the tokens of all receipts of a tenant: estimated ones too, and without those of attempts whose clients got no output. */
async function charged(fleet: TestFleet, tenant: string): Promise<number> {
  const metrics = await fleet.tenantMetrics(tenant)
  const names = [
    'copal_prompt_tokens_total',
    'copal_completion_tokens_total',
    'copal_tokens_estimated',
    'copal_tokens_moved',
  ]
  return names.reduce((sum, name) => sum + sumMetric(metrics, name), 0)
}
