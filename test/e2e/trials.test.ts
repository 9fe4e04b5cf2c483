/** Canary, shadow and roll-out end to end: the real gateway, real nodes with the tiny model, and masks of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Completion } from '@copal/shared/wire/completions.ts'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import type { CanaryReport, ShadowReport } from '@copal/shared/wire/admin-trials.ts'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { conversationKey } from '../../gateway/src/fleet/client/conversation-key.ts'
import { isAssigned } from '../../gateway/src/fleet/object/trial-assignment.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { sumMetric } from '../support/processes/metrics.ts'
import { until } from '../support/processes/service.ts'

const KEYS = 16
/** Sampled requests that a node scores later; when more wait, it leaves one out. */
const MOST_UNSCORED = 8
/** Pause between the requests of a roll-out. Without one they take the processor from the nodes that load its mask. */
const PAUSE_MS = 50
const PROMPT = 'the cat sat on the mat and it is there, on the other side of the ocean and in the house'

let fleet: TestFleet
const masks: Uint8Array<ArrayBuffer>[] = []

async function newKey(): Promise<{ id: string; key: string }> {
  return fleet.key()
}

beforeAll(async () => {
  fleet = await startFleet()
  await fleet.start('node-a')
  for (const seed of [1, 2]) masks.push(randomHalfMask(fleet.model, seed).bytes)
  await until('the model to be known', async () => {
    const { models } = await fleet.admin<StatusReport>('GET', '/admin/status')
    return models[0]
  })
  // The canary must have been active before, so m2 is served first.
  await fleet.importMask(masks[0]!, false)
  for (const version of [2, 1] as const) await serve(version)
})
afterAll(() => fleet?.stop())

test('a canary serves the conversations that the hash selects with its own mask, and its report compares both masks', async () => {
  const share = { version: 2, share: 0.5 }
  const isIn = ({ id }: { id: string }) => isAssigned('canary', share, 'tiny', conversationKey(id, PROMPT))
  const keys = await Promise.all(Array.from({ length: KEYS }, newKey))
  while (new Set(keys.map(isIn)).size < 2) keys.push(await newKey())
  onTestFinished(async () => void (await fleet.admin('DELETE', '/admin/canary')))
  // Only requests settled from now on are counted.
  await fleet.settled()
  const canary = { mask_version: 2, share: 0.5 }
  await fleet.admin('PUT', '/admin/canary', canary)
  // The report counts from the beginning of the minute, so what was served in it before.
  const { versions: earlier } = await canaryReport()
  await until('the node to hold it', async () => (await canaryReport()).nodes?.ready || undefined)
  // The node has kept m2 loaded, but the fleet learns of the canary with a heartbeat.
  await heard()
  const [reader] = keys
  const alone = new Map<string, string>()
  for (const version of ['1', '2'])
    alone.set(version, (await ask(reader!.key, { model: `tiny@mask-${version}` })).text)
  expect(alone.get('2')).not.toBe(alone.get('1'))

  for (const [index, key] of keys.entries()) {
    if (index % (MOST_UNSCORED / 2) === 0) await fleet.settled()
    const answer = await ask(key.key)
    const version = isIn(key) ? '2' : '1'
    expect(answer).toMatchObject({ mask: version, fingerprint: `copal-tiny-m${version}` })
    expect(answer.text).toBe(alone.get(version))
  }
  const chosen = keys.filter(isIn).length

  await fleet.settled()
  const report = await canaryReport()
  expect(report).toMatchObject({
    active_version: 1,
    canary,
    nodes: { ready: 1, alive: 1, errors: [] },
  })
  // Without the two that named their mask.
  const requests = [keys.length - chosen, chosen]
  for (const [index, traffic] of report.versions.entries()) {
    expect(traffic).toMatchObject({ mask_version: index + 1, failed: 0 })
    const since = (value: (each: typeof traffic) => number) => value(traffic) - value(earlier[index]!)
    expect(since((each) => each.requests)).toBe(requests[index])
    expect(since((each) => each.completion_tokens)).toBe(20 * (requests[index] ?? 0))
    expect(since((each) => each.scored_tokens)).toBeGreaterThan(10 * (requests[index] ?? 0))
    // Both masks are compared with the dense model on the same text.
    expect(traffic.nll_dense).toBeCloseTo(report.versions[0]?.nll_dense ?? 0, 5)
    expect(Math.abs((traffic.nll_masked ?? 0) - (traffic.nll_dense ?? 0))).toBeGreaterThan(1e-3)
  }
  expect(report.versions[0]?.nll_masked).not.toBeCloseTo(report.versions[1]?.nll_masked ?? 0, 3)

  await fleet.admin('DELETE', '/admin/canary')
  const inside = keys.find(isIn)
  await until('the active mask to answer', async () =>
    (await ask(inside!.key)).mask === '1' ? true : undefined,
  )
})

test('a shadow scores responses under both masks, and no client gets its output', async () => {
  const { key } = await newKey()
  const before = await ask(key)
  const { domain } = await shadowed(key, 2, before)
  expect(domain.answer.nll_active).toBeCloseTo(before.nll, 4)
  expect(domain.answer.nll_shadow).toBeGreaterThan(domain.answer.nll_active ?? Infinity)

  // When the masks change places, the figures of the same prompt do too.
  await serve(2)
  const exchanged = await shadowed(key, 1, await ask(key))
  expect(exchanged.domain.prompt.tokens).toBe(domain.prompt.tokens)
  expect(exchanged.domain.prompt.nll_active).toBeCloseTo(domain.prompt.nll_shadow ?? 0, 5)
  expect(exchanged.domain.prompt.nll_shadow).toBeCloseTo(domain.prompt.nll_active ?? 0, 5)
})

test('a mask is rolled out one node first, and a roll-back reaches all nodes', async () => {
  const { models } = await fleet.admin<StatusReport>('GET', '/admin/status')
  const before = models[0]!.active_version
  for (const id of ['node-b', 'node-c']) await fleet.start(id)
  await until('all nodes to serve the same mask', async () => (await serving(before)) === 3 || undefined)
  const { key } = await newKey()
  const answered = new Set<string | null>()
  let isDone = false
  const traffic = (async () => {
    while (!isDone) {
      answered.add((await ask(key)).mask)
      await sleep(PAUSE_MS)
    }
  })()
  const importing = fleet.importMask(randomHalfMask(fleet.model, 3).bytes, true)
  const begun: number[] = []
  await until(
    'all nodes to serve m3',
    async () => {
      const { nodes } = await fleet.admin<StatusReport>('GET', '/admin/status')
      const [served, held] = [
        nodes.filter((node) => node.active_version === 3).length,
        nodes.filter((node) => node.weight_sets.some(({ version }) => version === 3)).length,
      ]
      if (served === 0) begun.push(held)
      return served === 3 || undefined
    },
    600_000,
    // Often, to see what the nodes hold meanwhile.
    100,
  )
  expect((await importing).version).toBe(3)
  // Before one node served it, no other held it.
  expect(Math.max(...begun)).toBeLessThanOrEqual(1)
  await until('an answer by m3', () => answered.has('3') || undefined)

  await fleet.admin('POST', '/admin/rollback', { model: 'tiny' })
  await until('all nodes to serve it again', async () => (await serving(before)) === 3 || undefined)
  isDone = true
  await traffic
  expect(answered).toEqual(new Set([String(before), '3']))
})

/** Returns the number of nodes that serve a version. */
async function serving(version: number): Promise<number> {
  const { nodes } = await fleet.admin<StatusReport>('GET', '/admin/status')
  return nodes.filter((node) => node.alive && node.active_version === version).length
}

/** Sends requests under a shadow and returns its report. The responses equal `before`, and nothing else is charged. */
async function shadowed(key: string, version: number, before: Awaited<ReturnType<typeof ask>>) {
  await fleet.admin('PUT', '/admin/shadow', { mask_version: version, share: 1 })
  await until('the node to hold it', async () => (await shadowReport()).nodes?.ready || undefined)
  await heard()
  await fleet.settled()
  const charged = await requestsBy(version)
  const others = await requestsBy(Number(before.mask))
  for (let turn = 0; turn < 3; turn += 1) expect(await ask(key)).toEqual(before)
  // A request without consent is not scored.
  expect(await ask(key, {}, false)).toEqual(before)
  const report = await until('three scores', async () => {
    const told = await shadowReport()
    return told.domains[0]?.requests === 3 ? told : undefined
  })
  await fleet.settled()
  expect([await requestsBy(version), await requestsBy(Number(before.mask))]).toEqual([charged, others + 4])
  const [domain] = report.domains
  if (!domain) throw new Error('the report has no domain')
  expect(domain).toMatchObject({ domain: 'default', requests: 3, answer: { tokens: 3 * 20 } })
  await fleet.admin('DELETE', '/admin/shadow')
  return { domain }
}

/** Activates the mask that was imported as this version, and waits until it serves. */
async function serve(version: 1 | 2): Promise<void> {
  const { key } = await newKey()
  expect((await fleet.importMask(masks[version - 1]!, true)).version).toBe(version)
  await until('the mask to answer', async () =>
    (await ask(key)).mask === String(version) ? true : undefined,
  )
}

/** Resolves after a heartbeat that began later than now: then the fleet knows the trial. */
async function heard(): Promise<void> {
  const seenAtMs = async () => {
    const { nodes } = await fleet.admin<StatusReport>('GET', '/admin/status')
    return Date.now() - (nodes[0]?.seen_ms_ago ?? Infinity)
  }
  for (let beats = 0; beats < 2; beats += 1) {
    const sinceMs = Date.now()
    await until('a heartbeat', async () => ((await seenAtMs()) > sinceMs ? true : undefined))
  }
}

const canaryReport = () => fleet.admin<CanaryReport>('GET', '/admin/canary')
const shadowReport = () => fleet.admin<ShadowReport>('GET', '/admin/shadow')

/** Returns the settled requests of a mask version. */
async function requestsBy(version: number): Promise<number> {
  const metrics = await fleet.admin<string>('GET', '/metrics')
  return sumMetric(metrics, 'copal_requests_total', `mask_version="${version}"`)
}

/** Sends a greedy completion of twenty tokens. Returns its mask, and its mean negative log-likelihood in nats. */
async function ask(key: string, changes: object = {}, consents = true) {
  const response = await fetch(`${fleet.url}/v1/completions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'x-copal-sample': String(consents),
    },
    body: JSON.stringify({
      model: 'tiny',
      prompt: PROMPT,
      max_tokens: 20,
      temperature: 0,
      logprobs: 0,
      logit_bias: { 2: -100 },
      ...changes,
    }),
  })
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`)
  const { choices, system_fingerprint: fingerprint } = (await response.json()) as Completion
  const logprobs = (choices[0]?.logprobs?.token_logprobs ?? []).map((logprob) => logprob ?? NaN)
  return {
    mask: response.headers.get('x-copal-mask'),
    fingerprint,
    text: `${choices[0]?.text} ${logprobs.map((value) => value.toFixed(4)).join()}`,
    nll: -logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length,
  }
}
