import type { ErrorBody } from '@copal/shared/errors.ts'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { startFleet, type FleetNode, type TestFleet } from '../processes/fleet.ts'
import { sumOf } from '../processes/metrics.ts'
import { until } from '../processes/service.ts'
import { endOf, readEnd } from '../processes/stream-end.ts'

/** As many requests at once as its key may have: one that is counted for ever would soon refuse another. */
export const CONCURRENT = 24

/** Tokens a month, of the key and of its tenant: more than all that the tests reserve, and as a prompt no larger than a body may be. */
const BUDGET = 500_000
const TENANT = 'faults'

/** Of the tiny model. */
const END_TOKEN = 2

/** A stream that has given its first token. */
export interface OpenStream {
  node: FleetNode
  requestId: string
  /** Reads on to the end. */
  end(): Promise<string>
  leave(): Promise<void>
}

/** One fleet of two nodes, to break; there from the first test of the file on. */
export interface Faults {
  readonly fleet: TestFleet
  readonly nodes: ReadonlyMap<string, FleetNode>
  /** May have {@link CONCURRENT} requests at once, and has a budget, as its tenant has. */
  readonly key: string
  /** Of the same tenant, and without limits of its own. */
  readonly sibling: string
  /** Starts a node, or a new process of one that ended. */
  readonly start: (id: string) => Promise<void>
  readonly bothAlive: () => Promise<true>
  /** A completion that goes on for long enough to break it, unless `changes` say otherwise. */
  readonly ask: (changes?: object, options?: AskOptions) => Promise<Response>
  /** Waits for the first token of a stream. */
  readonly open: (changes?: object, options?: AskOptions) => Promise<OpenStream>
  /** A stream on one node, so that the next request goes to the other. */
  readonly oneBusy: () => Promise<{ running: OpenStream; other: FleetNode }>
  /** Asks until a request is placed on a node that does not answer: one that ran on the other may have ended there. */
  readonly askOf: (id: string, changes: object) => Promise<{ pending: Promise<Response> }>
  /** Settled requests of an outcome. */
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
 * Starts the fleet of a test file's rows. After each row nothing runs, no lease is left, and the budgets have lost what
 * the receipts say and no token more; after all of them every request that the key may have at once is let in.
 */
export function prepareFaults(of: Parameters<typeof startFleet>[0] = {}): Faults {
  let fleet: TestFleet
  let key: string
  let sibling: string
  const nodes = new Map<string, FleetNode>()

  beforeAll(async () => {
    fleet = await startFleet(of)
    key = (await fleet.key({ concurrent_requests: CONCURRENT, tokens_per_month: BUDGET }, TENANT)).key
    sibling = (await fleet.key({}, TENANT)).key
    await fleet.admin('PUT', `/admin/tenants/${TENANT}`, { limits: { tokens_per_month: BUDGET } })
    for (const id of ['node-a', 'node-b']) await faults.start(id)
    await faults.bothAlive()
  })
  afterEach(async () => {
    for (const [id, node] of nodes) {
      node.mend()
      if (node.process.child.exitCode === null && node.process.child.signalCode === null)
        node.process.child.kill('SIGCONT')
      else await faults.start(id)
    }
    await faults.bothAlive()
    await fleet.settled()
    await budgetsMatchReceipts(faults)
  })
  afterAll(() => fleet?.stop())

  const faults: Faults = {
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
    bothAlive: () =>
      until('both nodes', async () => ((await fleet.alive()).length === 2 ? true : undefined), 60_000),
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
      if (!node) throw new Error('the answer names no node of this fleet')
      return {
        node,
        requestId: response.headers.get('x-request-id') ?? '',
        end: () => readEnd(reader, first.value ?? new Uint8Array()),
        async leave() {
          controller.abort()
          await reader.cancel().catch(() => undefined)
        },
      }
    },
    async oneBusy() {
      const running = await faults.open({ max_tokens: 6_000 })
      const other = [...nodes.values()].find(({ id }) => id !== running.node.id)
      if (!other) throw new Error('there is no other node')
      return { running, other }
    },
    async askOf(id, changes) {
      const hasLease = async () => {
        const metrics = await fleet.admin<string>('GET', '/metrics')
        return metrics.includes(`copal_node_leases{node="${id}",model="tiny"} 1`)
      }
      for (;;) {
        let answered = false
        const pending = faults.ask(changes)
        void pending.finally(() => (answered = true)).catch(() => undefined)
        await until('a place', async () => (answered || (await hasLease()) ? true : undefined), 30_000)
        if (!answered) return { pending }
        expect(await endOf(await pending)).toBe('done')
      }
    },
    async receipts(outcome) {
      await fleet.settled()
      const metrics = await fleet.admin<string>('GET', '/metrics')
      return sumOf(metrics, 'copal_requests_total', `outcome="${outcome}"`)
    },
  }
  return faults
}

/** The last row of a file: no request of its rows is still counted as running. */
export function testNothingIsLeft({ ask }: Faults): void {
  test('after all of it every request that the key may have at once is let in', async () => {
    const answers = await Promise.all(Array.from({ length: CONCURRENT }, () => ask({ max_tokens: 2 })))
    expect(await Promise.all(answers.map(endOf))).toEqual(answers.map(() => 'done'))
  })
}

/** Of what the receipts leave of a month the key, and its tenant, may use all and not one token more. */
async function budgetsMatchReceipts({ key, sibling, ...faults }: Faults): Promise<void> {
  for (const [who, withKey] of [
    ['this key', key],
    ["this key's tenant", sibling],
  ] as const) {
    // Receipts, and reservations that are given back, are on their way.
    await vi.waitFor(
      async () => {
        const left = BUDGET - (await charged(faults.fleet, TENANT))
        const needs = `of ${BUDGET} tokens a month, ${who} has ${left} left, and this request may use ${left + 1}`
        expect(await refusalOf(faults, left + 1, withKey)).toContain(
          `insufficient_quota: The budget is used up: ${needs}.`,
        )
        // It is let in, and longer than what any node can read.
        expect(await refusalOf(faults, left, withKey)).toContain('context_length_exceeded')
      },
      { timeout: 20_000, interval: 300 },
    )
  }
}

/** Why a prompt of so many tokens has no answer. */
async function refusalOf({ ask }: Pick<Faults, 'ask'>, tokens: number, key: string): Promise<string> {
  const response = await ask({ prompt: Array.from({ length: tokens }, () => 1), stream: false }, { key })
  const { code, message } = ((await response.json()) as ErrorBody).error
  return `${code}: ${message}`
}

/** Tokens of all receipts of a tenant, also of those that the gateway could only estimate. */
async function charged(fleet: TestFleet, tenant: string): Promise<number> {
  const metrics = await fleet.admin<string>('GET', '/metrics')
  const names = ['copal_prompt_tokens_total', 'copal_completion_tokens_total', 'copal_tokens_estimated']
  return names.reduce((sum, name) => sum + sumOf(metrics, name, `tenant="${tenant}"`), 0)
}
