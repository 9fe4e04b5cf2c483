/**
 * What users notice of faults: real nodes with the tiny model, as processes that are killed, stopped and cut off, and the
 * real gateway. After each test nothing runs, no lease is left, and the budgets have lost what the receipts say and no
 * token more. The tests share one fleet of two nodes.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { breakDatabase } from '../support/break-database.ts'
import { startFleet, type FleetNode, type TestFleet } from '../support/fleet.ts'
import { startGarbageNode } from '../support/garbage-node.ts'
import { sumOf } from '../support/metrics.ts'
import { startNodeProcess } from '../support/node-process.ts'
import { until } from '../support/service.ts'
import { endOf, readEnd } from '../support/stream-end.ts'

/** As many requests at once as its key may have: one that is counted for ever would soon refuse another. */
const CONCURRENT = 24

/** Tokens a month, of the key and of its tenant: more than all that the tests reserve, and as a prompt no larger than a body may be. */
const BUDGET = 500_000
const TENANT = 'faults'

/** Of the tiny model. */
const END_TOKEN = 2

let fleet: TestFleet
let key: string
/** Of the same tenant, and without limits of its own. */
let sibling: string
const nodes = new Map<string, FleetNode>()

beforeAll(async () => {
  fleet = await startFleet()
  key = (await fleet.key({ concurrent_requests: CONCURRENT, tokens_per_month: BUDGET }, TENANT)).key
  sibling = (await fleet.key({}, TENANT)).key
  await fleet.admin('PUT', `/admin/tenants/${TENANT}`, { limits: { tokens_per_month: BUDGET } })
  for (const id of ['node-a', 'node-b']) nodes.set(id, await fleet.start(id))
  await bothAlive()
})
afterEach(async () => {
  for (const [id, node] of nodes) {
    node.mend()
    if (node.process.child.exitCode === null && node.process.child.signalCode === null)
      node.process.child.kill('SIGCONT')
    else nodes.set(id, await fleet.start(id))
  }
  await bothAlive()
  await fleet.settled()
  await budgetsMatchReceipts()
})
afterAll(() => fleet?.stop())

test('a node that is killed before its first token costs nobody an answer', async () => {
  const { running, other } = await oneBusy()
  other.process.child.kill('SIGSTOP')
  const { pending } = await askOf(other.id, { max_tokens: 5 })
  await other.process.end('SIGKILL')
  const answer = await pending
  expect(answer.headers.get('x-copal-node')).toBe(running.node.id)
  expect(await endOf(answer)).toBe('done')
  expect(await running.end()).toBe('done')
})

test('a node that is killed after its first token ends the stream with an error event', async () => {
  const stream = await open()
  await stream.node.process.end('SIGKILL')
  expect(await stream.end()).toBe('node_failed')
})

test('a node that hangs before its first token is given up, and another answers', async () => {
  const { running, other } = await oneBusy()
  other.process.child.kill('SIGSTOP')
  const answer = await ask({ max_tokens: 5, stream: false })
  expect(answer.headers.get('x-copal-node')).toBe(running.node.id)
  expect(await answer.json()).toMatchObject({ usage: { completion_tokens: 5 } })
  expect(await running.end()).toBe('done')
})

test('a node that hangs after its first token ends the stream with an error event', async () => {
  const stream = await open()
  stream.node.process.child.kill('SIGSTOP')
  expect(await stream.end()).toBe('node_failed')
})

test('a slow node is waited for', async () => {
  const stream = await open({ max_tokens: 2_000 })
  const { child } = stream.node.process
  const slow = setInterval(() => {
    child.kill('SIGSTOP')
    setTimeout(() => child.kill('SIGCONT'), 120)
  }, 180)
  onTestFinished(() => clearInterval(slow))
  expect(await stream.end()).toBe('done')
  clearInterval(slow)
})

test('a node that answers garbage costs nobody an answer, and soon gets no more requests', async () => {
  const garbage = await startGarbageNode(fleet)
  for (let turn = 0; turn < 12; turn += 1) {
    await garbage.beat()
    const answer = await ask({ max_tokens: 2, stream: turn % 2 === 0 })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('x-copal-node')).not.toBe('garbage')
    await answer.text()
  }
  expect(garbage.calls()).toBeGreaterThan(0)
  expect(garbage.calls()).toBeLessThan(8)
  await garbage.leave()
})

test('a node whose heartbeats are lost goes on with its streams, and gets no new ones', async () => {
  const stream = await open()
  stream.node.cut()
  await until('the gateway to miss it', async () =>
    (await fleet.alive()).includes(stream.node.id) ? undefined : true,
  )
  const answer = await ask({ max_tokens: 2 })
  expect(answer.headers.get('x-copal-node')).not.toBe(stream.node.id)
  expect(await endOf(answer)).toBe('done')
  expect(await stream.end()).toBe('done')
})

test('a node whose clock is wrong takes no requests and says why', async () => {
  const skewed = startNodeProcess({
    ...(await fleet.environment('skewed')),
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent('const now = Date.now; Date.now = () => now() + 600_000')}`,
  })
  onTestFinished(async () => void (await skewed.end('SIGKILL')))
  await skewed.ready()
  await until(
    'its log',
    () => (/signed \d{3} s in the future/.test(skewed.output()) ? true : undefined),
    20_000,
  )
  expect(await fleet.alive()).not.toContain('skewed')
})

test('with the secret of one node nobody speaks for another, nor calls it', async () => {
  const stream = await open({ max_tokens: 2_000 })
  const { node, requestId } = stream
  const other = [...nodes.keys()].find((id) => id !== node.id) ?? ''
  const secret = await fleet.nodeSecret(other)
  const call = async (url: string, path: string, to: 'node' | 'gateway', as: string, told: object) => {
    const body = new TextEncoder().encode(JSON.stringify(told))
    const signed = { nodeId: as, to, method: 'POST', path, body } as const
    const headers = await signedHeaders(secret, signed, Date.now())
    return fetch(url + path, { method: 'POST', headers, body })
  }
  const receipt = { requestId, model: 'tiny', domain: 'default', maskVersion: 0, finishReason: 'stop' }
  const sums = { promptTokens: 1, completionTokens: 1_000_000, queueMs: 0, totalMs: 0 }
  const forged = { ...receipt, ...sums, timeToFirstTokenMs: null, drift: null }
  const settle = (as: string, nodeId: string) =>
    call(fleet.url, '/internal/nodes/receipts', 'gateway', as, { nodeId, receipts: [forged] })
  expect(await (await settle(other, other)).json()).toEqual({ settled: 0 })
  expect((await settle(other, node.id)).status).toBe(401)
  expect((await settle(node.id, node.id)).status).toBe(401)
  const { url } = await node.process.ready()
  const refused = await call(url, '/rpc/evaluate', 'node', node.id, {
    model: 'tiny',
    maskVersion: 0,
    text: 'x',
  })
  expect([refused.status, ((await refused.json()) as ErrorBody).error.code]).toEqual([
    401,
    'invalid_signature',
  ])
  expect(await stream.end()).toBe('done')
  await fleet.settled()
  expect(await fleet.admin<string>('GET', '/metrics')).not.toMatch(
    /copal_completion_tokens_total\{.*\} \d{7}/,
  )
})

test('a node that is given the secret of another, or of the gateway, does not start and says what to do', async () => {
  const environment = await fleet.environment('node-c')
  for (const [secret, message] of [
    [await fleet.nodeSecret('node-a'), "COPAL_NODE_SECRET is the secret of node 'node-a'"],
    [fleet.gatewaySecret, "COPAL_NODE_SECRET: a node's own secret is expected"],
  ] as const) {
    const node = startNodeProcess({ ...environment, COPAL_NODE_SECRET: secret })
    await expect(node.ready()).rejects.toThrow(message)
  }
})

test('a gateway that dies mid-stream breaks the stream, and nothing of it is left when it is back', async () => {
  const before = await receipts('cancelled')
  const stream = await open()
  // What a budget lost in the last 100 ms is not stored yet.
  await sleep(500)
  await fleet.killGateway()
  expect(await stream.end()).toBe('broken off')
  await fleet.startGateway()
  await bothAlive()
  expect(await endOf(await ask({ max_tokens: 2 }))).toBe('done')
  // Its node tells the gateway that is back, and no later test may count it.
  await until('its receipt', async () => (await receipts('cancelled')) > before || undefined, 30_000)
})

test('a database that fails stops no node, and what was used meanwhile is settled afterwards', async () => {
  // Not of what asked for the budget after the test before, which its nodes refused: that may be told later.
  const before = await receipts('length')
  const broken = breakDatabase(fleet.stateDir, ['models', 'receipts'])
  onTestFinished(broken.mend)
  // Longer than a node may be silent.
  await sleep(2_500)
  for (let turn = 0; turn < 4; turn += 1) expect(await endOf(await ask({ max_tokens: 2 }))).toBe('done')
  broken.mend()
  await fleet.settled()
  expect(await receipts('length')).toBe(before + 4)
})

test('a client that leaves ends its request on the node', async () => {
  const before = await receipts('cancelled')
  const stream = await open()
  await stream.leave()
  const cancelled = () => receipts('cancelled')
  await until('its receipt', async () => ((await cancelled()) > before ? true : undefined), 20_000)
  expect(await cancelled()).toBe(before + 1)
})

test('a client that reads slowly gets everything', async () => {
  // 18 MB, of which the sockets on the way to it take 13: the node has to keep the rest.
  const stream = await open(
    {
      prompt: undefined,
      messages: [{ role: 'user', content: 'x' }],
      n: 4,
      max_tokens: 3_000,
      logprobs: true,
      top_logprobs: 20,
    },
    key,
    '/v1/chat/completions',
  )
  // Made, and for the most part not read.
  await fleet.settled()
  expect(await stream.end()).toBe('done')
})

test('a thundering herd on one prefix is answered, by all nodes', async () => {
  const prompt = 'the same long prefix of everybody, '.repeat(12)
  const answers = await Promise.all(
    Array.from({ length: CONCURRENT }, () => ask({ prompt, max_tokens: 8, stream: false })),
  )
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  const texts = await Promise.all(answers.map((answer) => answer.json()))
  expect(new Set(texts.map(textOf)).size).toBe(1)
  expect(new Set(answers.map(({ headers }) => headers.get('x-copal-node'))).size).toBe(2)
})

test('when all nodes are down a request waits for one to return', async () => {
  for (const { process } of nodes.values()) await process.end('SIGKILL')
  const pending = ask({ max_tokens: 2 })
  nodes.set('node-a', await fleet.start('node-a'))
  expect(await endOf(await pending)).toBe('done')
})

test('a key that is revoked mid-stream ends the stream with an error event', async () => {
  const revoked = await fleet.key()
  const stream = await open({}, revoked.key)
  await fleet.admin('DELETE', `/admin/keys/${revoked.id}`)
  expect(await stream.end()).toBe('invalid_api_key')
})

test('a node that is asked to end answers what runs, leaves, and is forgotten', async () => {
  // It grants what runs thirty seconds.
  const stream = await open({ max_tokens: 20 })
  const ended = stream.node.process.end('SIGTERM')
  expect(await stream.end()).toBe('done')
  expect(await ended).toBe(0)
  await until('it to be forgotten', async () => {
    const { nodes: seen } = await fleet.admin<{ nodes: { id: string }[] }>('GET', '/admin/status')
    return seen.some(({ id }) => id === stream.node.id) ? undefined : true
  })
})

test('after all of it every request that the key may have at once is let in', async () => {
  const answers = await Promise.all(Array.from({ length: CONCURRENT }, () => ask({ max_tokens: 2 })))
  expect(await Promise.all(answers.map(endOf))).toEqual(answers.map(() => 'done'))
})

/** A completion that goes on for long enough to break it, unless `changes` say otherwise. */
function ask(
  changes: object = {},
  withKey = key,
  signal: AbortSignal | null = null,
  path = '/v1/completions',
): Promise<Response> {
  return fetch(fleet.url + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${withKey}`, 'content-type': 'application/json' },
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
    signal,
  })
}

interface OpenStream {
  node: FleetNode
  requestId: string
  /** Reads on to the end. */
  end(): Promise<string>
  leave(): Promise<void>
}

/** A stream that has given its first token. */
async function open(changes: object = {}, withKey = key, path = '/v1/completions'): Promise<OpenStream> {
  const controller = new AbortController()
  const response = await ask(changes, withKey, controller.signal, path)
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
}

/** A stream on one node, so that the next request goes to the other. */
async function oneBusy(): Promise<{ running: OpenStream; other: FleetNode }> {
  const running = await open({ max_tokens: 6_000 })
  const other = [...nodes.values()].find(({ id }) => id !== running.node.id)
  if (!other) throw new Error('there is no other node')
  return { running, other }
}

/** Asks until a request is placed on a node that does not answer: one that ran on the other may have ended there. */
async function askOf(id: string, changes: object): Promise<{ pending: Promise<Response> }> {
  const hasLease = async () => {
    const metrics = await fleet.admin<string>('GET', '/metrics')
    return metrics.includes(`copal_node_leases{node="${id}",model="tiny"} 1`)
  }
  for (;;) {
    let answered = false
    const pending = ask(changes)
    void pending.finally(() => (answered = true)).catch(() => undefined)
    await until('a place', async () => (answered || (await hasLease()) ? true : undefined), 30_000)
    if (!answered) return { pending }
    expect(await endOf(await pending)).toBe('done')
  }
}

function bothAlive(): Promise<true> {
  return until('both nodes', async () => ((await fleet.alive()).length === 2 ? true : undefined), 60_000)
}

/** Of what the receipts leave of a month the key, and its tenant, may use all and not one token more. */
async function budgetsMatchReceipts(): Promise<void> {
  for (const [who, withKey] of [
    ['this key', key],
    ["this key's tenant", sibling],
  ] as const) {
    // Receipts, and reservations that are given back, are on their way.
    await vi.waitFor(
      async () => {
        const left = BUDGET - (await charged())
        const needs = `of ${BUDGET} tokens a month, ${who} has ${left} left, and this request may use ${left + 1}`
        expect(await refusalOf(left + 1, withKey)).toContain(
          `insufficient_quota: The budget is used up: ${needs}.`,
        )
        // It is let in, and longer than what any node can read.
        expect(await refusalOf(left, withKey)).toContain('context_length_exceeded')
      },
      { timeout: 20_000, interval: 300 },
    )
  }
}

/** Why a prompt of so many tokens has no answer. */
async function refusalOf(tokens: number, withKey: string): Promise<string> {
  const response = await ask({ prompt: Array.from({ length: tokens }, () => 1), stream: false }, withKey)
  const { code, message } = ((await response.json()) as ErrorBody).error
  return `${code}: ${message}`
}

/** Tokens of all receipts of the tenant, also of those that the gateway could only estimate. */
async function charged(): Promise<number> {
  const metrics = await fleet.admin<string>('GET', '/metrics')
  const names = ['copal_prompt_tokens_total', 'copal_completion_tokens_total', 'copal_tokens_estimated']
  return names.reduce((sum, name) => sum + sumOf(metrics, name, `tenant="${TENANT}"`), 0)
}

function textOf(answer: unknown): string | undefined {
  return (answer as { choices: { text: string }[] }).choices[0]?.text
}

/** Settled requests of an outcome. */
async function receipts(outcome: string): Promise<number> {
  await fleet.settled()
  return sumOf(await fleet.admin<string>('GET', '/metrics'), 'copal_requests_total', `outcome="${outcome}"`)
}
