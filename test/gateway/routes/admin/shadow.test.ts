import { env } from 'cloudflare:workers'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import type { ShadowReport } from '@copal/shared/wire/admin-trials.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { conversationKey } from '../../../../gateway/src/fleet/client/conversation-key.ts'
import { isAssigned } from '../../../../gateway/src/fleet/object/trial-assignment.ts'
import { shadowScores } from '../../../../gateway/src/storage/db/schema/usage.ts'
import { deleteOldScores } from '../../../../gateway/src/storage/retention.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  get,
  post,
  signedPost,
} from '../../support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { activate, seedMask } from '../../support/state/seed-masks.ts'

const ready = (version: number) => ({ version, state: 'ready', requests: 0 }) as const
const DAY_MS = 24 * 60 * 60 * 1000

let node: NodeDouble
let consenting: string
let held = [ready(0), ready(4)]
const heartbeat = (shadows?: ShadowScore[]) =>
  sendHeartbeat(node, 'tiny', { activeVersion: 4, weightSets: held, ...(shadows ? { shadows } : {}) })

beforeAll(async () => {
  node = await startNode('shadow-1', [{ kind: 'answer', body: '{"ok":1}' }])
  await heartbeat()
  for (const version of [4, 5]) await seedMask('tiny', version, { sha256: String(version).repeat(64) })
  await activate('tiny', 4)
  // A canary of the dense weights gets its conversation.
  let key = await createKey({ sampling: 'always' })
  while (!isAssigned('canary', { version: 0, share: 0.9 }, 'tiny', conversationKey(key.id, 'x')))
    key = await createKey({ sampling: 'always' })
  consenting = key.key
})
// A node without a heartbeat for long gets no requests.
beforeEach(() => heartbeat())

/** Returns the version under which the node was asked to score a request as well. */
async function shadowOf(
  key: string,
  { model = 'tiny', path = '/v1/completions', headers = {} }: AskOptions = {},
): Promise<number | undefined> {
  const body = path === '/v1/embeddings' ? { input: 'x' } : { prompt: 'x', max_tokens: 3 }
  const response = await post(key, path, { model, ...body }, { headers })
  expect(response.status).toBe(200)
  return (JSON.parse((await node.calls()).at(-1)?.body ?? '') as ChatCall).shadowVersion
}
interface AskOptions {
  model?: string
  path?: string
  headers?: Record<string, string>
}

const start = (share: number, mask_version = 5) =>
  adminJson<ShadowReport>('PUT', '/shadow', { mask_version, share })
const scoreOf = (requestId: string, changes: Partial<ShadowScore> = {}): ShadowScore => ({
  requestId,
  model: 'tiny',
  domain: 'legal',
  maskVersion: 4,
  shadowVersion: 5,
  prompt: { tokens: 10, nll: 30, nllShadow: 32 },
  answer: { tokens: 4, nll: 4, nllShadow: 6 },
  ...changes,
})

describe('a shadow', () => {
  test('is off until an operator starts it', async () => {
    expect(await adminJson<ShadowReport>('GET', '/shadow')).toMatchObject({ shadow: null, domains: [] })
    expect(await shadowOf(consenting)).toBeUndefined()
    expect((await heartbeat()).desired).not.toHaveProperty('trials')
    const refused = await admin('PUT', '/shadow', { mask_version: 4, share: 0.5 })
    expect([refused.status, (await errorOf(refused)).param]).toEqual([409, 'mask_version'])
  })

  test('scores nothing before nodes hold its mask', async () => {
    expect(await start(1)).toMatchObject({
      shadow: { mask_version: 5, share: 1 },
      nodes: { ready: 0, alive: 1 },
    })
    expect((await heartbeat()).desired.trials).toEqual([{ version: 5, sha256: '5'.repeat(64) }])
    expect(await shadowOf(consenting)).toBeUndefined()
    held = [ready(0), ready(4), ready(5)]
    await heartbeat()
    expect(await shadowOf(consenting)).toBe(5)
  })

  test('scores only requests that may be sampled according to key and request', async () => {
    const optIn = (await createKey({ sampling: 'opt_in' })).key
    const never = (await createKey({ sampling: 'never' })).key
    const sample = (value: string) => ({ headers: { 'x-copal-sample': value } })
    expect(await shadowOf(consenting, sample('false'))).toBeUndefined()
    expect(await shadowOf(optIn)).toBeUndefined()
    expect(await shadowOf(optIn, sample('true'))).toBe(5)
    expect(await shadowOf(never, sample('true'))).toBeUndefined()
  })

  test('scores no embeddings, and no requests that name a mask version or are served by another than the active mask', async () => {
    expect(await shadowOf(consenting, { path: '/v1/embeddings' })).toBeUndefined()
    for (const model of ['tiny@dense', 'tiny@mask-4'])
      expect(await shadowOf(consenting, { model })).toBeUndefined()
    await adminJson('PUT', '/canary', { mask_version: 0, share: 0.9 })
    await heartbeat()
    expect(await shadowOf(consenting)).toBeUndefined()
    await adminJson('DELETE', '/canary')
    await heartbeat()
    expect(await shadowOf(consenting)).toBe(5)
  })

  test('scores a share of the requests of every key', async () => {
    await start(0.4)
    await heartbeat()
    const asked = await Promise.all(
      Array.from({ length: 60 }, () =>
        post(consenting, '/v1/completions', { model: 'tiny', prompt: 'x', max_tokens: 3 }),
      ),
    )
    expect(asked.every(({ ok }) => ok)).toBe(true)
    const calls = (await node.calls()).slice(-60).map(({ body }) => JSON.parse(body) as ChatCall)
    const chosen = calls.filter(({ shadowVersion }) => shadowVersion === 5).length
    // Within six standard deviations of 24.
    expect(chosen).toBeGreaterThan(1)
    expect(chosen).toBeLessThan(47)
    await start(1)
    await heartbeat()
  })

  test('calls the node once for each request, and uses no part of a key’s limits', async () => {
    const limits = { requests_per_minute: 2, tokens_per_minute: 100 }
    const limited = await adminJson<CreatedKey>('POST', '/keys', { name: 'x', limits, sampling: 'always' })
    const before = (await node.calls()).length
    const ask = () => post(limited.key, '/v1/completions', { model: 'tiny', prompt: 'xxxx', max_tokens: 9 })
    const first = await ask()
    expect(first.headers.get('x-ratelimit-remaining-tokens')).toBe('90')
    const requestId = first.headers.get('x-request-id') ?? ''
    await heartbeat([scoreOf(requestId)])
    const second = await ask()
    expect(second.headers.get('x-ratelimit-remaining-tokens')).toBe('80')
    expect((await node.calls()).length).toBe(before + 2)
    expect(await (await get('/metrics')).text()).not.toMatch(
      /copal_requests_total\{.*mask_version="5".*\} [1-9]/,
    )
  })

  test('is reported by domain: prompt and output under both masks, each request once', async () => {
    await start(1)
    await adminJson('DELETE', '/shadow')
    await start(1)
    await ensureDomains(openDatabase(env.DB), ['code', 'legal'], 1)
    const nothing = { tokens: 0, nll: 0, nllShadow: 0 }
    const scores = [
      scoreOf('shadow-request-1'),
      scoreOf('shadow-request-2', { answer: nothing }),
      scoreOf('shadow-request-3', { domain: 'code', answer: nothing }),
      // Scores of another comparison, and of another model than the node's.
      scoreOf('shadow-request-4', { maskVersion: 3 }),
      scoreOf('shadow-request-5', { shadowVersion: 6 }),
      scoreOf('shadow-request-6', { model: 'other' }),
      // A score of a request that the node was not given.
      scoreOf('shadow-request-7', { attestation: 'f'.repeat(64) }),
      ...Array.from({ length: 10 }, (_, index) =>
        scoreOf(`shadow-request-more-${index}`, { domain: `made-up-${index}` }),
      ),
    ]
    await heartbeat(scores)
    await heartbeat(scores)
    const { domains } = await adminJson<ShadowReport>('GET', '/shadow')
    expect(domains).toEqual([
      // Domains that are not registered: a client may name any.
      expect.objectContaining({ domain: '(other)', requests: 10 }),
      {
        domain: 'code',
        requests: 1,
        prompt: { tokens: 10, nll_active: 3, nll_shadow: 3.2 },
        answer: { tokens: 0, nll_active: null, nll_shadow: null },
      },
      {
        domain: 'legal',
        requests: 2,
        prompt: { tokens: 20, nll_active: 3, nll_shadow: 3.2 },
        answer: { tokens: 4, nll_active: 1, nll_shadow: 1.5 },
      },
    ])
    const metrics = await (await get('/metrics')).text()
    const labels = 'model="tiny",domain="legal",mask_version="5"'
    expect(metrics).toContain(`copal_shadow_gap_nats{${labels},text="answer"} 0.5\n`)
    expect(metrics).toContain(`copal_shadow_tokens{${labels},text="prompt"} 20\n`)
    expect(metrics).not.toContain('domain="code",mask_version="5",text="answer"} NaN')
    expect(metrics).toContain('copal_model_shadow_share{model="tiny",mask_version="5"} 1\n')
  })

  test('gives its tokens as a gauge, because they fall when a domain is registered', async () => {
    const scrape = async () => (await get('/metrics')).text()
    const others =
      /^copal_shadow_tokens\{model="tiny",domain="\(other\)",mask_version="5",text="prompt"\} (\d+)$/m
    const before = await scrape()
    await ensureDomains(openDatabase(env.DB), ['made-up-0'], 1)
    const after = await scrape()
    expect(Number(others.exec(after)?.[1])).toBeLessThan(Number(others.exec(before)?.[1]))
    expect(after).toContain('# TYPE copal_shadow_tokens gauge\n')
  })

  test('does not fail a heartbeat when its scores cannot be stored', async () => {
    await env.DB.exec('ALTER TABLE shadow_scores RENAME TO shadow_scores_away')
    await heartbeat([scoreOf('shadow-request-lost')])
    await env.DB.exec('ALTER TABLE shadow_scores_away RENAME TO shadow_scores')
    expect(await shadowOf(consenting)).toBe(5)
  })

  test('is rejected from a node that reports too many or invalid scores', async () => {
    const tell = async (shadows: unknown) => {
      const body = { ...heartbeatOf(node, 'tiny'), shadows }
      return (await signedPost('/internal/nodes/heartbeat', body)).status
    }
    expect(await tell(Array.from({ length: 65 }, (_, index) => scoreOf(`request-${index}`)))).toBe(400)
    expect(await tell([{ ...scoreOf('request-1'), prompt: { tokens: -1, nll: 1, nllShadow: 1 } }])).toBe(400)
  })

  test('scores nothing after it was ended', async () => {
    expect(await adminJson('DELETE', '/shadow')).toEqual({ model: 'tiny', ended: true })
    await heartbeat()
    expect(await shadowOf(consenting)).toBeUndefined()
    expect((await adminJson<ShadowReport>('GET', '/shadow')).domains).toEqual([])
  })
})

test('shadow scores are deleted after 30 days', async () => {
  const db = openDatabase(env.DB)
  await heartbeat([scoreOf('shadow-request-old')])
  const count = () => db.$count(shadowScores)
  const before = await count()
  expect(before).toBeGreaterThan(0)
  await deleteOldScores(testDeps({ nowMs: () => Date.now() + 29 * DAY_MS }))
  expect(await count()).toBe(before)
  await deleteOldScores(testDeps({ nowMs: () => Date.now() + 31 * DAY_MS }))
  expect(await count()).toBe(0)
})
